import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { DEFAULT_LIMITS } from '../../../src/io/p2p/limits.ts'
import { backoffMs } from '../../../src/io/p2p/redial.ts'

describe('redial backoff', () => {
  it('doubles from 250 ms to 15 s, and jitters by half', () => {
    const whole = [0, 1, 2, 3, 4, 5, 6, 7, 1_000].map((attempts) =>
      Math.round(backoffMs(attempts, { limits: DEFAULT_LIMITS, random: () => 0.999_999_999 }))
    )
    assert.deepEqual(whole, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000])
    assert.equal(backoffMs(0, { limits: DEFAULT_LIMITS, random: () => 0 }), 125)
  })

  it('never leaves its bounds', () => {
    fc.assert(
      fc.property(fc.nat(), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (attempts, r) => {
        const delayMs = backoffMs(attempts, { limits: DEFAULT_LIMITS, random: () => r })
        assert.ok(delayMs >= 125 && delayMs <= 15_000)
      })
    )
  })
})
