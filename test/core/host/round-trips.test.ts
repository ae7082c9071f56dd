import assert from 'node:assert/strict'
import fc from 'fast-check'
import { roundTrips } from '../../../src/core/host/round-trips.ts'

const rtts = fc.array(
  fc.oneof(fc.constant(undefined), fc.double({ min: 0, max: 10_000, noNaN: true, noDefaultInfinity: true })),
  { maxLength: 100 }
)

describe('round trips', () => {
  it('has no summary where nothing came back', () => {
    assert.equal(roundTrips([]), undefined)
    assert.equal(roundTrips([undefined, undefined]), undefined)
  })

  it('computes what ping of iputils prints', () => {
    assert.deepEqual(roundTrips([2, undefined, 4, 4, 4, 5, 5, 7, 9]), { min: 2, avg: 5, max: 9, mdev: 2 })
    assert.deepEqual(roundTrips([0.1 + 0.2, 0.1 + 0.2, 0.1 + 0.2])?.mdev, 0)
  })

  it('keeps min ≤ avg ≤ max and mdev ≤ (max − min) / 2, whatever came back in whatever order', () => {
    fc.assert(
      fc.property(rtts, (values) => {
        const found = roundTrips(values)
        const known = values.filter((value) => value !== undefined)
        if (found === undefined) return assert.equal(known.length, 0)
        const { min, avg, max, mdev } = found
        assert.ok(min <= avg && avg <= max, `${min} ${avg} ${max}`)
        assert.ok(mdev >= 0 && mdev <= (max - min) / 2)
        assert.ok(known.includes(min) && known.includes(max))
        const turned = roundTrips(values.toReversed())
        assert.equal(turned?.max, max)
        assert.ok(Math.abs((turned?.mdev ?? 0) - mdev) <= 1e-6 * (1 + max))
      })
    )
  })
})
