import assert from 'node:assert/strict'
import type { Origin } from '../../../src/core/model/values.ts'
import { createTrustStore } from '../../../src/core/trust/trust-store.ts'
import { createInvite, redeem } from '../../../src/core/trust/issue.ts'
import { agentOf, cidr, clusterName, crypto, DAY, EAST, join, makeMesh, NOW } from './fixtures.ts'

const mesh = makeMesh()
const east = join(mesh, EAST)
const agent = agentOf(east)
const { agentOrigin: origin, bytes } = agent.chain
const EAST_NAME = clusterName('east')

describe('trust store', () => {
  it('admits an origin by its chain and gives chain and key back', () => {
    const trustStore = createTrustStore({ crypto, meshId: mesh.meshId })
    assert.equal(trustStore.isAdmitted(origin), false)
    assert.deepEqual(trustStore.admit(origin, bytes), { kind: 'admitted' })
    assert.ok(trustStore.isAdmitted(origin))
    assert.deepEqual(trustStore.chainOf(origin), bytes)
    assert.deepEqual(trustStore.publicKeyOf(origin), agent.chain.agentKey)
    assert.ok(trustStore.knowsCluster(east.chain.clusterKey))
    assert.ok(!trustStore.knowsCluster(mesh.founder.chain.clusterKey))
  })

  it('refuses the chain of another origin, of another mesh, and noise', () => {
    const trustStore = createTrustStore({ crypto, meshId: mesh.meshId })
    const stranger = agentOf(makeMesh().founder).chain
    const west = agentOf(mesh.founder).chain
    assert.equal(trustStore.admit(west.agentOrigin, bytes).kind, 'refused')
    assert.equal(trustStore.admit(stranger.agentOrigin, stranger.bytes).kind, 'refused')
    assert.equal(trustStore.admit(origin, new Uint8Array(40)).kind, 'refused')
    assert.deepEqual([...trustStore.origins()], [])
  })

  it('lets a renewed certificate replace the older one, never the reverse', () => {
    const renewed = agentOf(east, 'gw-1', NOW + DAY, agent.seed).chain
    for (const order of [
      [agent.chain, renewed],
      [renewed, agent.chain]
    ]) {
      const trustStore = createTrustStore({ crypto, meshId: mesh.meshId })
      for (const chain of order) assert.deepEqual(trustStore.admit(origin, chain.bytes), { kind: 'admitted' })
      assert.deepEqual(trustStore.chainOf(origin), renewed.bytes)
    }
  })

  it('forgets an origin, and its cluster with the last of them', () => {
    const trustStore = createTrustStore({ crypto, meshId: mesh.meshId })
    trustStore.add(agent.chain)
    assert.equal(trustStore.settlement().size, 1)
    trustStore.forget(origin)
    assert.ok(!trustStore.isAdmitted(origin) && !trustStore.knowsCluster(east.chain.clusterKey))
    assert.equal(trustStore.settlement().size, 0)
  })

  it('a cluster whose every agent has left owns nothing, until one of them says something again', () => {
    const trustStore = createTrustStore({ crypto, meshId: mesh.meshId })
    const second = agentOf(east, 'gw-2').chain
    const rival = agentOf(join(mesh, EAST)).chain
    for (const chain of [agent.chain, second]) trustStore.add(chain)
    trustStore.setDeparted(origin, true)
    assert.ok(trustStore.settlement().has(EAST_NAME), 'the other agent is there still')
    trustStore.setDeparted(second.agentOrigin, true)
    assert.deepEqual([...trustStore.settlement().keys()], [])
    assert.deepEqual(trustStore.chainOf(origin), bytes, 'for whoever still asks')
    assert.deepEqual(trustStore.settlementWith(rival).get(EAST_NAME)?.grant.clusterKey, rival.clusterKey)
    trustStore.setDeparted(origin, false)
    assert.deepEqual(trustStore.settlement().get(EAST_NAME)?.grant.clusterKey, east.chain.clusterKey)
    trustStore.setDeparted(rival.agentOrigin, true) // unknown: nothing to remember
    assert.ok(trustStore.settlement().has(EAST_NAME))
  })

  it('settles clusters the same way whatever came first', () => {
    const rival = agentOf(join(mesh, { ...EAST, notBefore: NOW + 60 })).chain
    const settlements = [
      [agent.chain, rival],
      [rival, agent.chain]
    ].map((order) => {
      const trustStore = createTrustStore({ crypto, meshId: mesh.meshId })
      for (const chain of order) trustStore.add(chain)
      return trustStore.settlement()
    })
    assert.deepEqual(settlements[0], settlements[1])
    assert.deepEqual(settlements[0]?.get(clusterName('east'))?.grant.clusterKey, east.chain.clusterKey)
  })

  it('keeps the same few of the many clusters that a leaked token makes, in any order', () => {
    const token = createInvite({
      crypto,
      rootSeed: mesh.rootSeed,
      cluster: clusterName('leak'),
      podPrefixes: [cidr('10.9.0.0/16')],
      servicePrefixes: [],
      notBefore: NOW,
      notAfter: NOW + DAY
    })
    const chains = Array.from({ length: 12 }, (_, index) => {
      const cluster = redeem({
        crypto,
        invite: token.chain,
        inviteSeed: token.inviteSeed,
        nowSeconds: NOW + index
      })
      return agentOf(cluster).chain
    })
    const kept = [chains, chains.toReversed()].map((order) => {
      const trustStore = createTrustStore({ crypto, meshId: mesh.meshId })
      for (const chain of order) trustStore.add(chain)
      return [...trustStore.origins()].sort()
    })
    assert.deepEqual(
      kept[0],
      chains
        .slice(0, 8)
        .map((chain) => chain.agentOrigin)
        .sort()
    )
    assert.deepEqual(kept[1], kept[0])
  })

  it('has room for 2,000 agents of one cluster, and for 10,000 in all', () => {
    const trustStore = createTrustStore({ crypto, meshId: mesh.meshId })
    const { chain } = agentOf(join(mesh, EAST))
    /** Adds this many agents of the cluster with this number; returns how many have room. */
    const add = (count: number, cluster: number): number =>
      Array.from({ length: count }, (_, index) =>
        trustStore.add({
          ...chain,
          cluster: clusterName(`c${cluster}`),
          clusterKey: new Uint8Array(32).fill(cluster),
          agentOrigin: `${cluster}-${index}` as Origin
        })
      ).filter(({ kind }) => kind === 'admitted').length
    assert.equal(add(2100, 1), 2000)
    assert.equal(
      [2, 3, 4, 5, 6].reduce((sum, cluster) => sum + add(1900, cluster), 0),
      8000
    )
    assert.equal([...trustStore.origins()].length, 10_000)
  })

  it('refuses what the deny hook names', () => {
    const trustStore = createTrustStore({ crypto, meshId: mesh.meshId, deny: () => 'revoked' })
    assert.deepEqual(trustStore.admit(origin, bytes), { kind: 'refused', reason: 'revoked' })
  })
})
