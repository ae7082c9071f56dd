import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { backoffMs, jittered } from '../../../src/core/model/backoff.ts'

describe('backoff', () => {
  const bounds = { minMs: 200, maxMs: 30_000 }

  it('doubles from the first delay to the last', () => {
    assert.deepEqual(
      [0, 1, 2, 7, 8, 1e9].map((failures) => backoffMs(failures, bounds)),
      [200, 400, 800, 25_600, 30_000, 30_000]
    )
  })

  it('with jitter is between half of it and all of it', () => {
    fc.assert(
      fc.property(fc.nat(40), fc.double({ min: 0, max: 1, noNaN: true }), (failures, random) => {
        const whole = backoffMs(failures, bounds)
        const ms = jittered(whole, () => random)
        assert.ok(ms >= whole / 2 && ms <= whole, `${ms} of ${whole}`)
      })
    )
  })
})
