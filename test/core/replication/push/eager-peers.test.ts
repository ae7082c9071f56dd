import assert from 'node:assert/strict'
import type { Origin } from '../../../../src/core/model/values.ts'
import { EagerPeers } from '../../../../src/core/replication/push/eager-peers.ts'

const [origin, a, b, c] = ['origin', 'a', 'b', 'c'] as Origin[] as [Origin, Origin, Origin, Origin]

describe('eager peers of an origin', () => {
  it('are the first two that push', () => {
    const peers = new EagerPeers()
    assert.deepEqual(peers.first(origin, a), {})
    assert.deepEqual(peers.again(origin, b), {})
    assert.deepEqual(peers.of(origin), [a, b])
    assert.deepEqual(peers.again(origin, c), { prune: c })
  })

  it('give way to a quicker one: the one that missed most is pruned', () => {
    const peers = new EagerPeers()
    peers.first(origin, a)
    peers.again(origin, b)
    peers.first(origin, a)
    assert.deepEqual(peers.first(origin, c), { prune: b })
    assert.deepEqual(peers.of(origin), [a, c])
  })

  it('are asked to push again when news had to be pulled from them', () => {
    const peers = new EagerPeers()
    peers.first(origin, a)
    assert.deepEqual(peers.pulled(origin, a), { graft: a })
    assert.deepEqual(peers.pulled(origin, b), { graft: b })
  })

  it('leave orphans when their connection ends', () => {
    const peers = new EagerPeers()
    peers.first(origin, a)
    peers.again(origin, b)
    assert.deepEqual(peers.peerDown(a), [{ origin, left: [b] }])
    peers.adopt(origin, c)
    assert.deepEqual(peers.of(origin), [b, c])
  })
})
