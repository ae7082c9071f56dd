import assert from 'node:assert/strict'
import type { Origin } from '../../../../src/core/model/values.ts'
import { choosePeer, type Candidate } from '../../../../src/core/replication/pull/choose-peer.ts'

const [a, b, c] = ['a', 'b', 'c'] as Origin[] as [Origin, Origin, Origin]

describe('choosing whom to pull from', () => {
  it('finds nobody where no neighbour is ahead', () => {
    assert.equal(choosePeer([], undefined), 'none')
  })

  it('waits while every neighbour that is ahead is busy', () => {
    assert.equal(
      choosePeer([candidate(a, { isBusy: true }), candidate(b, { isBusy: true })], undefined),
      'busy'
    )
  })

  it('takes a free neighbour before a busy one with a higher claim', () => {
    assert.deepEqual(choosePeer([candidate(a, { seq: 9, isBusy: true }), candidate(b)], undefined), {
      peer: b
    })
  })

  it('takes the highest claim, and an epoch counts for more than a sequence number', () => {
    const candidates = [candidate(a, { seq: 9 }), candidate(b, { epoch: 2 }), candidate(c, { seq: 8 })]
    assert.deepEqual(choosePeer(candidates, undefined), { peer: b })
  })

  it('takes the neighbour with the fewest pulls of equal claims, and the first of equal ones', () => {
    const loaded = [candidate(a, { pulls: 2 }), candidate(b, { pulls: 1 }), candidate(c, { pulls: 1 })]
    assert.deepEqual(choosePeer(loaded, undefined), { peer: b })
  })

  it('takes the neighbour to avoid only where there is no other', () => {
    assert.deepEqual(choosePeer([candidate(a, { seq: 9 }), candidate(b)], a), { peer: b })
    assert.deepEqual(choosePeer([candidate(b), candidate(a, { seq: 9 })], a), { peer: b })
    assert.deepEqual(choosePeer([candidate(a)], a), { peer: a })
  })
})

function candidate(
  peer: Origin,
  { epoch = 1, seq = 1, pulls = 0, isBusy = false }: Partial<Candidate & Candidate['claim']> = {}
): Candidate {
  return { peer, claim: { epoch, seq }, pulls, isBusy }
}
