import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { FairRate } from '../../../src/core/model/fair-rate.ts'

const RATE = 100_000
/** Bytes of one window of 250 ms. */
const WINDOW = RATE / 4

describe('a rate that is shared', () => {
  it('lets no more than its bytes pass in any window', () => {
    const take = fc.record({
      user: fc.integer({ min: 0, max: 5 }),
      bytes: fc.integer({ min: 1, max: 9_000 }),
      waitMs: fc.integer({ min: 0, max: 40 })
    })
    fc.assert(
      fc.property(fc.array(take, { maxLength: 300 }), (takes) => {
        const rate = new FairRate<number>(RATE)
        let [nowMs, passed] = [0, 0]
        for (const { user, bytes, waitMs } of takes) {
          nowMs += waitMs
          if (rate.take(user, bytes, nowMs)) passed += bytes
        }
        assert.ok(passed <= WINDOW * (Math.floor(nowMs / 250) + 1), `${passed} in ${nowMs} ms`)
      })
    )
  })

  it('gives each user its share, however much the others send, and one that is alone nine tenths', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8 }), (greedy) => {
        const rate = new FairRate<string>(RATE)
        let modest = 0
        const windows = 20
        const share = (WINDOW * 0.9) / (greedy + 1)
        for (let nowMs = 0; nowMs < windows * 250; nowMs += 10) {
          for (let user = 0; user < greedy; user++)
            for (let count = 0; count < 50; count++) rate.take(`greedy ${user}`, 1_000, nowMs)
          if (rate.take('modest', 100, nowMs)) modest++
        }
        // It sends 25 times 100 bytes in a window, which is less than any share here.
        assert.ok(share >= 2_500)
        // In the first window all are newcomers, and it may get nothing.
        assert.ok(modest >= (windows - 1) * 25 - 25, String(modest))
      })
    )
    const alone = new FairRate<string>(RATE)
    let bytes = 0
    for (let nowMs = 0; nowMs < 10_000; nowMs += 5) if (alone.take('one', 1_000, nowMs)) bytes += 1_000
    assert.ok(bytes > RATE * 10 * 0.85 && bytes <= RATE * 10, String(bytes))
  })

  it('finds room for the first datagrams of a newcomer beside one that uses all', () => {
    const rate = new FairRate<string>(RATE)
    for (let nowMs = 0; nowMs < 1_000; nowMs += 5)
      for (let count = 0; count < 20; count++) rate.take('greedy', 1_000, nowMs)
    assert.equal(rate.take('new', 1_000, 999), true)
  })

  it('passes one datagram of each window also where a share is smaller than that', () => {
    const rate = new FairRate<number>(40_000)
    const passed = new Map<number, number>()
    for (let nowMs = 0; nowMs < 5_000; nowMs += 125)
      for (let user = 0; user < 8; user++)
        if (rate.take(user, 1_250, nowMs)) passed.set(user, (passed.get(user) ?? 0) + 1)
    assert.equal(passed.size, 8)
  })
})
