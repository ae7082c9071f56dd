import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { answered, dueSize, lost, startPathMtu, type PathMtu } from '../../../src/core/host/path-mtu.ts'

/** One probe a second for so long; `passes`: which sizes come back. */
function run(
  path: PathMtu,
  from: number,
  seconds: number,
  passes: (size: number) => boolean
): { readonly path: PathMtu; readonly probes: number; readonly endMs: number } {
  let [now, probes, state] = [from, 0, path]
  for (; now < from + seconds * 1000; now += 1000) {
    const size = dueSize(state, now)
    if (size === undefined) continue
    probes++
    state = passes(size) ? answered(state, size, now) : lost(state, size, now)
  }
  return { path: state, probes, endMs: now }
}

describe('the MTU of a path', () => {
  it('finds what passes, to 16 bytes, from any MTU of the tunnel', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1281, max: 9000 }),
        fc.integer({ min: 1280, max: 9000 }),
        (ceiling, limit) => {
          const { path } = run(startPathMtu(ceiling, 0), 0, 120, (size) => size <= limit)
          if (limit >= ceiling) assert.deepEqual([path.verdict, path.found], ['whole', undefined])
          else {
            assert.equal(path.verdict, 'narrow')
            assert.ok(
              (path.found ?? 0) <= limit && (path.found ?? 0) > limit - 32,
              `${path.found} of ${limit}`
            )
          }
        }
      )
    )
  })

  it('costs one probe in 30 s where the whole MTU passes', () => {
    assert.ok(run(startPathMtu(1420, 0), 0, 300, () => true).probes <= 11)
  })

  it('concludes nothing of a peer that answers no padded probes, and tries again after minutes', () => {
    const { path, probes } = run(startPathMtu(1420, 0), 0, 1300, () => false)
    assert.deepEqual([path.verdict, path.found], ['unsupported', undefined])
    assert.ok(probes < 40, `${probes}`)
  })

  it('uses 1280 and says so where not even that passes', () => {
    const { path } = run(startPathMtu(1420, 0), 0, 60, (size) => size < 1000)
    assert.deepEqual([path.verdict, path.found], ['below', 1280])
  })

  it('sees within a minute that a path which lost large packets carries them again', () => {
    for (const limit of [1280, 1340, 1420]) {
      const below = run(startPathMtu(1420, 0), 0, 60, (size) => size < 1000)
      const { path } = run(below.path, below.endMs, 60, (size) => size <= limit)
      assert.equal(path.verdict, limit === 1420 ? 'whole' : 'narrow')
    }
  })

  it('follows a path that becomes narrower, and one that becomes wider again', () => {
    const whole = run(startPathMtu(1420, 0), 0, 60, () => true)
    const narrow = run(whole.path, whole.endMs, 120, (size) => size <= 1340)
    assert.ok((narrow.path.found ?? 0) > 1320, `${narrow.path.found}`)
    const narrower = run(narrow.path, narrow.endMs, 120, (size) => size <= 1300)
    assert.ok((narrower.path.found ?? 9999) <= 1300)
    const wide = run(narrower.path, narrower.endMs, 1300, () => true)
    assert.deepEqual([wide.path.verdict, wide.path.found], ['whole', undefined])
  })

  it('keeps what it found in use while it searches anew', () => {
    const { path, endMs } = run(startPathMtu(1420, 0), 0, 120, (size) => size <= 1340)
    const found = path.found
    let state = path
    for (let now = endMs; now < endMs + 700_000; now += 1000) {
      const size = dueSize(state, now)
      if (size !== undefined) state = size <= 1340 ? answered(state, size, now) : lost(state, size, now)
      assert.equal(state.found, found)
    }
  })

  it('takes three probes lost in a row for chance', () => {
    let state = startPathMtu(1420, 0)
    for (let n = 0; n < 3; n++) state = lost(state, 1420, 0)
    state = answered(state, 1420, 0)
    assert.equal(state.verdict, 'whole')
  })
})
