// `meshctl key rotate --cluster`: real agents in this process, over loopback.
import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ErrorAnswer, StatusAnswer } from '../../../src/api/answers.ts'
import type {
  ClusterKeyRotatedAnswer,
  GatewayInviteAnswer,
  InviteAnswer
} from '../../../src/api/membership-answers.ts'
import type { AdminKeyAnswer, TrustAnswer } from '../../../src/api/trust-answers.ts'
import { base64, bytes } from '../../../src/app/identity/encoding.ts'
import { rootsOf } from '../../../src/app/identity/identity.ts'
import { lastOf } from '../../../src/core/trust/author/author.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { openStore, type Identity } from '../../../src/io/store/store.ts'
import { eventually } from '../../eventually.ts'
import { LoopbackHost } from '../agent/loopback-host.ts'

const crypto = createCrypto()

describe('a new key for a running cluster', function () {
  this.timeout(180_000)
  let top: string
  const hosts: LoopbackHost[] = []
  const host = async (name: string): Promise<LoopbackHost> => {
    const made = await LoopbackHost.make(top, name)
    hosts.push(made)
    return made
  }

  beforeEach(async () => {
    top = await mkdtemp(join(tmpdir(), 'rhz-key-'))
  })

  afterEach(async () => {
    await Promise.all(hosts.splice(0).map((each) => each.stop()))
    await rm(top, { recursive: true, force: true })
  })

  /** Two clusters that are connected; west has founded the mesh. */
  const mesh = async () => {
    const [west, east] = [await host('west'), await host('east')]
    await west.init('west', 1)
    await east.join(await west.invite('east', 2))
    await eventually(async () => (await west.connected('east')).length === 1)
    return { west, east }
  }
  const rotate = (of: LoopbackHost, more: object = {}) =>
    of.ask<ClusterKeyRotatedAnswer>('/v1/key/rotate/cluster', more)
  const replacing = async (by: LoopbackHost, cluster: string): Promise<string> => {
    const none = { podCidrs: [], serviceCidrs: [], bootstrap: [] }
    const request = { cluster, ...none, ttlSeconds: 3600, replace: cluster, force: true }
    return (await by.ask<InviteAnswer>('/v1/invite', request)).token
  }
  /** The keys of a cluster that stand, as an agent knows them. */
  const keys = async (at: LoopbackHost, name: string): Promise<readonly string[]> => {
    const { clusters } = await at.ask<TrustAnswer>('/v1/trust')
    return clusters.filter((one) => one.name === name && one.stands).map(({ key }) => key)
  }
  const fault = async (of: LoopbackHost, code: string) =>
    (await of.ask<StatusAnswer>('/v1/status')).health?.faults.find((one) => one.code === code)

  it('takes the place of the old one by a seat of its own; the connection stays, and a restart keeps it', async () => {
    const { west, east } = await mesh()
    const events = async () => JSON.stringify(await east.ask('/v1/events'))
    const before = await events()
    for (const _ of [1, 2]) {
      const [old] = await keys(west, 'west')
      const answer = await rotate(west)
      assert.deepEqual([answer.cluster, answer.before, answer.neighbours], ['west', old, 1])
      await eventually(async () => (await keys(east, 'west')).join() === answer.clusterKey)
      // The admission and the credential of the new key come in two frames.
      await eventually(async () => (await east.connected('west')).length === 1)
    }
    assert.equal(await events(), before, 'no connection was refused or lost')
    const [now] = await keys(west, 'west')
    // A damaged identity.json is replaced by its copy, which must not bring the old key back.
    const copy = JSON.parse(await readFile(join(west.folder, 'state', 'identity.bak.json'), 'utf8')) as {
      identity: Identity
    }
    assert.equal(copy.identity.clusterSeed, (await west.identity()).clusterSeed)
    await eventually(async () => (await west.ask<TrustAnswer>('/v1/trust')).invites.length === 0)
    // The running agent admits newcomers with the new key: a Bar with `keepOnly` of the old one must not fell them.
    const south = await host('south')
    assert.equal((await south.join(await west.invite('south', 4))).cluster, 'south')
    assert.equal(await sponsorOf(south), now)
    await west.stop()
    await west.start()
    assert.deepEqual(await keys(west, 'west'), [now])
    await eventually(async () => (await east.connected('west')).length === 1)
    // The new key admits newcomers and invites, as the old one did.
    const north = await host('north')
    assert.equal((await north.join(await west.invite('north', 3))).cluster, 'north')
  })

  it('needs the token of an administrator where no seat is, and takes it once and for its cluster only', async () => {
    const { west, east } = await mesh()
    assert.equal(await east.refused('/v1/key/rotate/cluster', {}), 'NO_SEAT')
    const foreign = await replacing(west, 'east')
    const token = await replacing(west, 'east')
    assert.equal(await west.refused('/v1/key/rotate/cluster', { token }), 'TOKEN_OTHER_CLUSTER')
    await eventually(
      async () => (await east.refused('/v1/key/rotate/cluster', { token: foreign })) === 'MESH_CANCELLED'
    )
    const { clusterKey } = await rotate(east, { token })
    await eventually(async () => (await keys(west, 'east')).join() === clusterKey)
    assert.equal(await east.refused('/v1/key/rotate/cluster', { token }), 'TOKEN_OTHER_CLUSTER')
    assert.deepEqual(await keys(east, 'east'), [clusterKey])
  })

  it('leaves nothing to a thief of the old key, not even where the member was away meanwhile', async () => {
    const { west, east } = await mesh()
    const token = await replacing(west, 'east')
    await eventually(async () => (await east.ask<TrustAnswer>('/v1/trust')).clusters.length === 2)
    const thief = await host('thief')
    await thief.stop()
    const stolen = await east.identity()
    await rm(join(thief.folder, 'state'), { recursive: true })
    await cp(join(east.folder, 'state'), join(thief.folder, 'state'), { recursive: true })
    // The thief has the key of the cluster, and a PeerId of its own.
    const own = { nodeSeed: base64(crypto.random(32)), tunnelSeed: base64(crypto.random(32)) }
    await edit(thief, { ...stolen, ...own })
    await west.stop()
    const { clusterKey, neighbours } = await rotate(east, { token })
    assert.equal(neighbours <= 1, true)
    await west.start()
    await eventually(async () => (await keys(west, 'east')).join() === clusterKey)
    await thief.start()
    // It runs with the stolen key and its own PeerId, or this test would show nothing.
    const used = await thief.identity()
    assert.equal(used.clusterSeed, stolen.clusterSeed)
    assert.notEqual(used.nodeSeed, stolen.nodeSeed)
    assert.equal((await thief.ask<StatusAnswer>('/v1/status')).cluster, 'east')
    await eventually(async () => (await fault(thief, 'MEMBERSHIP_ENDED')) !== undefined, 60_000)
    assert.deepEqual(await thief.connected('west'), [])
    await eventually(async () => (await west.connected('east')).length === 1)
    assert.deepEqual(await keys(west, 'east'), [clusterKey])
  })

  it('counts from the write of the identity: a crash just after it loses nothing but time', async () => {
    const { west, east } = await mesh()
    const state = join(west.folder, 'state')
    // East hears nothing of the run that is undone: its records would show a clone.
    await east.stop()
    await west.stop()
    await cp(state, join(top, 'old'), { recursive: true })
    await west.start()
    const { clusterKey } = await rotate(west)
    const renewed = await west.identity()
    await west.stop()
    // As if the agent had ended before the trust set was written, and before any member was told.
    await rm(state, { recursive: true })
    await cp(join(top, 'old'), state, { recursive: true })
    await edit(west, renewed)
    await west.start()
    assert.deepEqual(await keys(west, 'west'), [clusterKey])
    await east.start()
    await eventually(async () => (await keys(east, 'west')).join() === clusterKey)
    await eventually(async () => (await west.connected('east')).length === 1)
  })

  it('goes to the gateways of the site that are named, also to one that was down, and ends those that are not', async () => {
    const [west, edge, away, stranger] = await Promise.all(['west', 'edge', 'away', 'stranger'].map(host))
    assert.ok(west !== undefined && edge !== undefined && away !== undefined && stranger !== undefined)
    await west.init('west', 1)
    const invite = () => west.ask<GatewayInviteAnswer>('/v1/invite/gateway', { ttlSeconds: 3600 })
    const peers: string[] = []
    for (const each of [edge, away, stranger]) peers.push((await each.join((await invite()).token)).peerId)
    const [edgeId = '', awayId = '', strangerId = ''] = peers
    await eventually(async () => (await west.connected('west')).length === 3)
    await away.stop()
    const { error } = await west.ask<ErrorAnswer>('/v1/key/rotate/cluster', { keep: [edgeId, awayId] })
    assert.equal(error.code, 'GATEWAYS_END')
    assert.ok(error.message.endsWith(strangerId), error.message)
    const wrong = { keep: ['12D3KooWnobody'], force: true }
    assert.equal(await west.refused('/v1/key/rotate/cluster', wrong), 'BAD_ARGUMENT')
    // A leave that comes during the rotation is refused: the cluster would lose its key, or end.
    const [{ kept, ended, clusterKey }, leave] = await Promise.all([
      rotate(west, { keep: [edgeId, awayId], force: true }),
      west.refused('/v1/leave', { force: true })
    ])
    assert.equal(leave, 'ALREADY_CHANGING')
    assert.deepEqual(new Set(kept), new Set([edgeId, awayId]))
    assert.deepEqual(ended, [strangerId])
    const has = async (of: LoopbackHost) =>
      (await of.identity()).clusterSeed === (await west.identity()).clusterSeed
    await eventually(() => has(edge), 60_000)
    await eventually(async () => (await fault(edge, 'MEMBERSHIP_ENDED')) === undefined)
    await eventually(async () => (await west.connected('west')).join() === edgeId)
    await away.start()
    await eventually(() => has(away), 60_000)
    await eventually(async () => (await west.connected('west')).length === 2)
    assert.deepEqual(await keys(away, 'west'), [clusterKey])
    // The agent that nobody named has asked, too, and has nothing; it comes back with a token only.
    await eventually(async () => (await fault(stranger, 'MEMBERSHIP_ENDED')) !== undefined, 60_000)
    assert.equal(await has(stranger), false)
    await stranger.ask('/v1/leave', { force: true })
    await stranger.join((await invite()).token)
    await eventually(async () => (await west.connected('west')).length === 3)
  })

  it('reaches the founder, which keeps its seats and root keys, when another gateway has replaced it', async () => {
    const [west, edge] = [await host('west'), await host('edge')]
    const { peerId } = await west.init('west', 1)
    const { token } = await west.ask<GatewayInviteAnswer>('/v1/invite/gateway', { ttlSeconds: 3600 })
    await edge.join(token)
    await eventually(async () => (await edge.connected('west')).length === 1)
    const before = await west.identity()
    const { adminKey: key } = await edge.ask<AdminKeyAnswer>('/v1/admin/key', {})
    await west.ask('/v1/admin/add', { key, label: 'edge' })
    const asked = { keep: [peerId] }
    await eventually(async () => (await edge.refused('/v1/key/rotate/cluster', asked)) === undefined)
    const [clusterKey] = await keys(edge, 'west')
    await eventually(async () => (await west.identity()).clusterSeed !== before.clusterSeed, 60_000)
    const after = await west.identity()
    assert.deepEqual([after.seats, after.rootSeeds], [before.seats, before.rootSeeds])
    await eventually(async () => (await edge.connected('west')).length === 1)
    await eventually(async () => (await keys(west, 'west')).join() === clusterKey)
    assert.equal((await (await host('east')).join(await west.invite('east', 2))).cluster, 'east')
  })
})

/** The key that signed the admission of an agent's cluster. */
async function sponsorOf(of: LoopbackHost): Promise<string> {
  const identity = await of.identity()
  const roots = rootsOf(identity, crypto) ?? assert.fail()
  return lastOf({ crypto, roots }, bytes(identity.clusterItem ?? ''), 'admission').sponsorKey
}

/** Replaces the identity of an agent that does not run, by the store, which keeps a checksum. */
async function edit(of: LoopbackHost, identity: Identity): Promise<void> {
  const store = await openStore({ folder: join(of.folder, 'state'), now: Date.now })
  await store.saveIdentity(identity)
  await store.close()
}
