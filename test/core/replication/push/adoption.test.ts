import assert from 'node:assert/strict'
import type { Origin } from '../../../../src/core/model/values.ts'
import { adoptions } from '../../../../src/core/replication/push/adoption.ts'

const [a, b, c, x, y] = ['a', 'b', 'c', 'x', 'y'] as Origin[] as [Origin, Origin, Origin, Origin, Origin]

describe('adoption', () => {
  it('gives the origins to the neighbours in turn', () => {
    const orphans = [x, y].map((origin) => ({ origin, left: [] }))
    assert.deepEqual(adoptions(orphans, [a, b, c]), [
      { origin: x, peer: a },
      { origin: y, peer: b }
    ])
  })

  it('chooses no neighbour that pushes the origin already', () => {
    assert.deepEqual(adoptions([{ origin: x, left: [a] }], [a, b]), [{ origin: x, peer: b }])
    assert.deepEqual(adoptions([{ origin: x, left: [a] }], [a]), [])
  })

  it('leaves out an origin that has as many eager peers as it may', () => {
    assert.deepEqual(adoptions([{ origin: x, left: [a, b] }], [a, b, c]), [])
  })
})
