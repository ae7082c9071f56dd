import assert from 'node:assert/strict'
import { pushGraceMs } from '../../../../src/core/replication/pull/push-grace.ts'

const told = { isFromOrigin: false, isOfNeighbour: false, isEager: false }

describe('a pull', () => {
  it('starts at once for a head that its origin tells: the push came before it', () => {
    assert.equal(pushGraceMs({ isFromOrigin: true, isOfNeighbour: true, isEager: true }, 300), 0)
  })

  it('waits for the push of a neighbour', () => {
    assert.equal(pushGraceMs({ ...told, isOfNeighbour: true, isEager: true }, 300), 300)
  })

  it('waits for a shorter time for the push of an eager peer', () => {
    assert.equal(pushGraceMs({ ...told, isEager: true }, 300), 60)
  })

  it('starts at once where no push is expected', () => {
    assert.equal(pushGraceMs(told, 300), 0)
  })
})
