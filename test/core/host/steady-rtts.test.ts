// Round trips that do not flap: a change counts when it is large and lasts.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { steadyRtts, type SteadyRtts } from '../../../src/core/host/steady-rtts.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'

const EAST = 'east' as ClusterName

/** The steady values after each of these measurements, a second apart. */
function follow(measured: readonly (number | undefined)[]): readonly (number | undefined)[] {
  let state: SteadyRtts = new Map()
  return measured.map((rttMs, second) => {
    state = steadyRtts(state, new Map([[EAST, rttMs]]), second * 1000)
    return state.get(EAST)?.rttMs
  })
}

describe('steady round trips', () => {
  it('begin with the first measurement, and stay without one', () => {
    assert.deepEqual(follow([undefined, 10, undefined, 10]), [undefined, 10, 10, 10])
  })

  it('take a change of a fifth over when it has lasted for 5 s', () => {
    assert.deepEqual(follow([10, 14, 14, 14, 14, 14, 14, 14]), [10, 10, 10, 10, 10, 10, 14, 14])
  })

  it('do not follow a change that ends sooner, a small one, or half a millisecond', () => {
    assert.deepEqual(new Set(follow([10, 14, 14, 14, 10, 14, 14, 14, 14, 10])), new Set([10]))
    assert.deepEqual(new Set(follow([10, ...Array<number>(20).fill(11.9)])), new Set([10]))
    assert.deepEqual(new Set(follow([0.2, ...Array<number>(20).fill(0.6)])), new Set([0.2]))
  })

  it('forget a cluster that is gone', () => {
    const state = steadyRtts(new Map(), new Map([[EAST, 10]]), 0)
    assert.equal(steadyRtts(state, new Map(), 1000).size, 0)
  })

  it('change at most once in 5 s, whatever is measured', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 300, noNaN: true }), { minLength: 1, maxLength: 60 }),
        (measured) => {
          const steady = follow(measured)
          const changes = steady.flatMap((value, second) =>
            second > 0 && value !== steady[second - 1] ? [second] : []
          )
          for (const [index, second] of changes.entries()) assert.ok(second - (changes[index - 1] ?? 0) >= 5)
        }
      )
    )
  })
})
