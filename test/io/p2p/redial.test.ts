import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { eventually } from '../../eventually.ts'
import { DEFAULT_LIMITS } from '../../../src/io/p2p/limits.ts'
import { redialDelayMs, Redialer } from '../../../src/io/p2p/redial.ts'

describe('redial backoff', () => {
  it('doubles from 250 ms to 15 s, and jitters by half', () => {
    const whole = [0, 1, 2, 3, 4, 5, 6, 7, 1_000].map((attempts) =>
      Math.round(redialDelayMs(attempts, { limits: DEFAULT_LIMITS, random: () => 0.999_999_999 }))
    )
    assert.deepEqual(whole, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000])
    assert.equal(redialDelayMs(0, { limits: DEFAULT_LIMITS, random: () => 0 }), 125)
  })

  it('never leaves its bounds', () => {
    fc.assert(
      fc.property(fc.nat(), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (attempts, r) => {
        const delayMs = redialDelayMs(attempts, { limits: DEFAULT_LIMITS, random: () => r })
        assert.ok(delayMs >= 125 && delayMs <= 15_000)
      })
    )
  })
})

describe('after a change of the own network', () => {
  it('all that is not connected is dialled at once, and an attempt that began before is given up', async () => {
    const dials: { readonly address: string; readonly signal: AbortSignal; readonly hasFailed: boolean }[] =
      []
    const redialer = new Redialer({
      limits: { ...DEFAULT_LIMITS, redialMinMs: 60_000, redialMaxMs: 60_000 },
      random: () => 0.5,
      connected: () => false,
      dial: (target, { signal, hasFailed }) => {
        const address = target.addresses[0] ?? ''
        dials.push({ address, signal, hasFailed })
        if (address.includes('refused')) return Promise.reject(new Error('refused'))
        return new Promise((_, reject) =>
          signal.addEventListener('abort', () => reject(new Error('given up')), { once: true })
        )
      }
    })
    redialer.setTargets([{ addresses: ['/dns/refused/tcp/1'] }, { addresses: ['/dns/hangs/tcp/1'] }])
    await eventually(() => redialer.state().some(({ state }) => state === 'waiting'))
    assert.equal(dials.length, 2)
    redialer.hurry()
    await eventually(() => dials.length === 4) // not after a minute
    assert.deepEqual(
      dials.slice(2).map(({ address }) => address),
      ['/dns/refused/tcp/1', '/dns/hangs/tcp/1']
    )
    assert.ok(dials[1]?.signal.aborted)
    assert.deepEqual(
      dials.map(({ hasFailed }) => hasFailed),
      [false, false, true, false]
    )
    redialer.stop()
  })
})
