// Claim 8: a cluster that one member removes is out on all members within two seconds, and another one can take its place.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { PeersAnswer } from '../../src/api/answers.ts'
import type { TrustAnswer } from '../../src/api/trust-answers.ts'
import { openStore } from '../../src/io/store/store.ts'
import type { Cluster } from '../demo/site.ts'
import { eventually, slowness } from '../eventually.ts'
import { redeem } from './attacker.ts'
import { service, state, values } from './forgery.ts'
import { ask, type HostileMember, type World } from './world.ts'

const ALL: readonly Cluster[] = ['west', 'east', 'edge']
const REMOVED_MS = 2000
const [PODS, SERVICES] = ['10.90.0.0/16', '10.190.0.0/16']

export function removalClaims(world: () => World): void {
  describe('a removed cluster', () => {
    let member: HostileMember
    let agents: readonly (readonly [Cluster, HostileMember])[]

    before(async () => {
      await world().complete()
      const redeemed = redeem(await world().invite('rogue', PODS, SERVICES))
      const attacker = await world().attacker(redeemed)
      member = { attacker, redeemed, ...(await attacker.join(world().door('west'), redeemed)) }
      agents = [
        ['west', member],
        ['east', await world().sibling(member, 'east')],
        ['edge', await world().sibling(member, 'edge')]
      ]
      for (const [at, { attacker: one, credential }] of agents) {
        const content = values({ 'svc/shop/web': service('10.190.0.10'), cluster: CLAIM })
        for (const frame of state({ seed: one.seed, roots: redeemed.roots }, content, { credential }))
          one.send(world().door(at), frame)
      }
      await eventually(async () => {
        for (const at of ALL) assert.deepEqual(await world().names(at, 'rogue'), ['10.190.0.10'])
        return true
      })
    })

    after(() => world().dismiss())

    it('is out of the views, answers and neighbours of all members within two seconds of the statement', async () => {
      await world().agent('west').done('remove', 'rogue', '--force')
      const began = performance.now()
      await eventually(async () => {
        for (const at of ALL) {
          const { peers } = await ask<PeersAnswer>(world().agent(at), 'peers')
          assert.ok(!peers.some(({ cluster }) => cluster === 'rogue'), `${at} still lists it`)
          assert.deepEqual(await world().names(at, 'rogue'), [])
        }
        for (const [at, { attacker }] of agents)
          assert.ok(!attacker.isConnected(world().door(at)), `it is still connected to ${at}`)
        return true
      }, REMOVED_MS)
      const tookMs = performance.now() - began
      assert.ok(tookMs < REMOVED_MS * slowness(), `it took ${tookMs} ms`)
      for (const [at, { attacker }] of agents)
        await world().told(at, { kind: 'refused', of: attacker, reason: /barred/ })
    })

    it('does not come in again, and hears why', async () => {
      for (const [at, { attacker, credential }] of agents) {
        await attacker.dial(world().door(at))
        await attacker.shake(world().door(at), { kind: 'member', credential })
        await eventually(() => attacker.turnedAway(world().door(at)).startsWith('barred'))
        await eventually(() => !attacker.isConnected(world().door(at)))
      }
    })

    it('has left no record on the disk of any member', async () => {
      await world().agent('east').stop()
      const store = await openStore({ folder: join(world().folder, 'east/state'), now: Date.now })
      try {
        const left = new Set([...store.loadReplica().origins].map(({ origin }) => origin as string))
        for (const [, { attacker }] of agents) assert.ok(!left.has(attacker.origin))
      } finally {
        await store.close()
      }
      await world().start('east')
      for (const at of ALL) await world().settled(at, ALL)
      assert.deepEqual(await world().names('east', 'rogue'), [])
    })

    it('makes place: another one joins under its name, with its prefixes', async () => {
      const heir = redeem(await world().invite('rogue', PODS, SERVICES), randomBytes(32))
      const attacker = await world().attacker(heir)
      const { credential } = await attacker.join(world().door('edge'), heir)
      const content = values({ 'svc/shop/web': service('10.190.0.77'), cluster: CLAIM })
      for (const frame of state({ seed: attacker.seed, roots: heir.roots }, content, { credential }))
        attacker.send(world().door('edge'), frame)
      await eventually(async () => {
        for (const at of ALL) {
          assert.deepEqual(await world().names(at, 'rogue'), ['10.190.0.77'])
          const { contested } = await ask<TrustAnswer>(world().agent(at), 'trust')
          assert.ok(!contested.some(({ value }) => value === 'rogue'))
        }
        return true
      })
    })
  })
}

const CLAIM = {
  kind: 'cluster',
  podPrefixes: [PODS],
  servicePrefixes: [SERVICES],
  term: 1,
  complete: true
} as never
