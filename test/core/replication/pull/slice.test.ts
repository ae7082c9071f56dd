import assert from 'node:assert/strict'
import { isSliceDue, nextSlice } from '../../../../src/core/replication/pull/slice.ts'

const state = { digest: 7, mismatches: 2, sinceMs: 500, headsIntervalMs: 1000 }

describe('a slice of heads', () => {
  it('is due after two mismatches in a row: one is most often a change under way', () => {
    assert.equal(isSliceDue(state), true)
    assert.equal(isSliceDue({ ...state, mismatches: 1 }), false)
  })

  it('is due at once for a version that sends no digest', () => {
    assert.equal(isSliceDue({ ...state, digest: 0, mismatches: 1 }), true)
  })

  it('is not due twice within half an interval', () => {
    assert.equal(isSliceDue({ ...state, sinceMs: 499 }), false)
  })

  it('goes on after the one before, around the end', () => {
    const heads = Array.from({ length: 100 }, (_, index) => index)
    const first = nextSlice(heads, 0)
    const second = nextSlice(heads, first.cursor)
    assert.deepEqual(first.slice, heads.slice(0, 64))
    assert.deepEqual(second.slice, [...heads.slice(64), ...heads.slice(0, 28)])
  })

  it('holds each head once where there are few, and none where there are none', () => {
    assert.deepEqual(nextSlice(['a', 'b', 'c'], 4), { slice: ['b', 'c', 'a'], cursor: 4 })
    assert.deepEqual(nextSlice([], 3), { slice: [], cursor: 3 })
  })
})
