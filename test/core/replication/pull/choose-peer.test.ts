import assert from 'node:assert/strict'
import type { Origin } from '../../../../src/core/model/values.ts'
import { choosePeer, type Candidate } from '../../../../src/core/replication/pull/choose-peer.ts'

const [a, b, c] = ['a', 'b', 'c'] as Origin[] as [Origin, Origin, Origin]

const NOW = 1000

describe('choosing whom to pull from', () => {
  it('finds nobody where no neighbour is ahead', () => {
    assert.equal(choosePeer([], NOW), 'none')
  })

  it('waits while every neighbour that is ahead is busy', () => {
    assert.equal(choosePeer([candidate(a, { isBusy: true }), candidate(b, { isBusy: true })], NOW), 'busy')
  })

  it('takes a free neighbour before a busy one with a higher claim', () => {
    assert.deepEqual(choosePeer([candidate(a, { seq: 9, isBusy: true }), candidate(b)], NOW), {
      peer: b
    })
  })

  it('takes the highest claim, and an epoch counts for more than a sequence number', () => {
    const candidates = [candidate(a, { seq: 9 }), candidate(b, { epoch: 2 }), candidate(c, { seq: 8 })]
    assert.deepEqual(choosePeer(candidates, NOW), { peer: b })
  })

  it('takes the neighbour with the fewest pulls of equal claims, and the first of equal ones', () => {
    const loaded = [candidate(a, { pulls: 2 }), candidate(b, { pulls: 1 }), candidate(c, { pulls: 1 })]
    assert.deepEqual(choosePeer(loaded, NOW), { peer: b })
  })

  it('takes the neighbour that has failed least, whatever the others claim', () => {
    const candidates = [candidate(a, { seq: 99, rank: 2 }), candidate(b, { seq: 9, rank: 1 }), candidate(c)]
    assert.deepEqual(choosePeer(candidates, NOW), { peer: c })
    assert.deepEqual(choosePeer(candidates.slice(0, 2), NOW), { peer: b })
  })

  it('waits only while everyone who is ahead has failed and must wait', () => {
    const [first, second] = [candidate(a, { notBeforeMs: NOW + 9 }), candidate(b, { notBeforeMs: NOW + 5 })]
    assert.deepEqual(choosePeer([first, second], NOW), { notBeforeMs: NOW + 5 })
    assert.deepEqual(choosePeer([first, second], NOW + 5), { peer: b })
    assert.deepEqual(choosePeer([first, candidate(c)], NOW), { peer: c })
    assert.equal(choosePeer([first, candidate(c, { isBusy: true })], NOW), 'busy')
  })
})

function candidate(
  peer: Origin,
  {
    epoch = 1,
    seq = 1,
    pulls = 0,
    isBusy = false,
    rank = 0,
    notBeforeMs = 0
  }: Partial<Candidate & Candidate['claim']> = {}
): Candidate {
  return { peer, claim: { epoch, seq }, rank, notBeforeMs, pulls, isBusy }
}
