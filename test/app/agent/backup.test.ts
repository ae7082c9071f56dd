// A backup brings a cluster back: real agents in this process, over loopback.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { PeersAnswer, StatusAnswer } from '../../../src/api/answers.ts'
import type { BackupAnswer, RestoredAnswer } from '../../../src/api/membership-answers.ts'
import type { TrustAnswer } from '../../../src/api/trust-answers.ts'
import { eventually } from '../../eventually.ts'
import { LoopbackHost } from './loopback-host.ts'

const PASSPHRASE = 'correct horse battery staple'

describe('a backup of a membership', function () {
  this.timeout(180_000)
  let top: string
  const hosts: LoopbackHost[] = []
  const host = async (name: string): Promise<LoopbackHost> => {
    const made = await LoopbackHost.make(top, name)
    hosts.push(made)
    return made
  }

  beforeEach(async () => {
    top = await mkdtemp(join(tmpdir(), 'rhz-bak-'))
  })

  afterEach(async () => {
    await Promise.all(hosts.splice(0).map((each) => each.stop()))
    await rm(top, { recursive: true, force: true })
  })

  /** Two clusters that are connected; west has founded the mesh. */
  const mesh = async () => {
    const [west, east] = [await host('west'), await host('east')]
    const { peerId } = await west.init('west', 1)
    await east.join(await west.invite('east', 2))
    await eventually(async () => (await west.connected('east')).length === 1)
    return { west, east, peerId }
  }
  const backup = (of: LoopbackHost) => of.ask<BackupAnswer>('/v1/backup/create', { passphrase: PASSPHRASE })
  const restore = (to: LoopbackHost, { file }: { readonly file: string }) =>
    to.ask<RestoredAnswer>('/v1/backup/restore', { file, passphrase: PASSPHRASE })
  const trust = (of: LoopbackHost) => of.ask<TrustAnswer>('/v1/trust')

  it('brings back the cluster, its seats and its open invites after its disk is lost, under a new PeerId', async () => {
    const { west, east, peerId } = await mesh()
    await west.invite('north', 3)
    const made = await backup(west)
    assert.deepEqual(
      { cluster: made.cluster, seats: made.seats, invites: made.invites, rootsHere: made.rootsHere },
      { cluster: 'west', seats: 1, invites: 1, rootsHere: 1 }
    )
    const { clusterSeed } = await west.identity()
    await west.loseDisk()
    const answer = await restore(west, made)
    assert.deepEqual(
      { cluster: answer.cluster, former: answer.formerPeerId, reached: answer.reached },
      { cluster: 'west', former: peerId, reached: true }
    )
    assert.notEqual(answer.peerId, peerId)
    const identity = await west.identity()
    assert.equal(identity.clusterSeed, clusterSeed)
    assert.deepEqual(identity.rootSeeds ?? [], [])
    const { seats, invites } = await trust(west)
    assert.ok(seats.some(({ own, stands }) => own && stands))
    assert.deepEqual(
      invites.map(({ cluster, state }) => `${cluster} ${state}`),
      ['north open']
    )
    assert.match(await west.invite('south', 4), /^rzm2_/)
    await eventually(async () => (await east.connected('west')).join() === answer.peerId)
    // The former agent stays a gateway until the cluster itself ends it.
    await eventually(async () => (await west.refused('/v1/trust/revoke', { name: peerId })) === undefined)
    await eventually(async () => {
      const { peers } = await east.ask<PeersAnswer>('/v1/peers')
      return !peers.some((row) => row.peerId === peerId)
    })
    await west.stop()
    await west.start()
    await eventually(async () => (await east.connected('west')).join() === answer.peerId)
  })

  it('may be old: what has happened since comes from the other members', async () => {
    const { west, east } = await mesh()
    const made = await backup(west)
    const edge = await host('edge')
    await edge.join(await west.invite('edge', 3))
    await eventually(async () => (await trust(east)).clusters.some(({ name }) => name === 'edge'))
    await west.loseDisk()
    await restore(west, made)
    await eventually(async () => (await trust(west)).clusters.some(({ name }) => name === 'edge'))
    assert.deepEqual(
      new Set((await trust(west)).statements.map(({ id }) => id)),
      new Set((await trust(east)).statements.map(({ id }) => id))
    )
  })

  it('brings back a mesh of which nothing else is left, and is on disk before the first restart', async () => {
    const { west, east } = await mesh()
    const made = [await backup(west), await backup(east)] as const
    const before = (await trust(west)).statements.map(({ id }) => id)
    await Promise.all([west, east].map((each) => each.loseDisk()))
    assert.equal((await restore(west, made[0])).reached, false)
    const restored = async () => new Set((await trust(west)).statements.map(({ id }) => id))
    assert.deepEqual(await restored(), new Set(before))
    await west.stop()
    await west.start()
    assert.deepEqual(await restored(), new Set(before))
    assert.equal((await restore(east, made[1])).reached, true)
    await eventually(async () => (await west.connected('east')).length === 1)
  })

  it('restored while the agent that made it runs, and restored twice, makes further gateways that disturb nobody', async () => {
    const { west, east } = await mesh()
    const former = (await east.ask<StatusAnswer>('/v1/status')).peerId
    const made = await backup(east)
    const [second, third] = [await host('second'), await host('third')]
    const peerIds = [(await restore(second, made)).peerId, (await restore(third, made)).peerId, former]
    assert.equal(new Set(peerIds).size, 3)
    await eventually(async () => {
      assert.deepEqual(new Set(await west.connected('east')), new Set(peerIds))
      return true
    })
    for (const each of [west, east, second, third]) {
      const { health } = await each.ask<StatusAnswer>('/v1/status')
      const codes = new Set((health?.faults ?? []).map(({ code }) => code))
      for (const code of ['IDENTITY_CLONED', 'HANDSHAKE_REFUSED']) assert.ok(!codes.has(code), code)
    }
  })

  it('leaves the agent as it was when it cannot be used', async () => {
    const { west } = await mesh()
    const { file } = await backup(west)
    assert.equal(await west.refused('/v1/backup/restore', { file, passphrase: PASSPHRASE }), 'ALREADY_JOINED')
    const fresh = await host('fresh')
    const before = await fresh.identity()
    assert.equal(await fresh.refused('/v1/backup/create', { passphrase: PASSPHRASE }), 'NOT_JOINED')
    const bad: readonly (readonly [code: string, file: string, passphrase: string])[] = [
      ['PASSPHRASE_WRONG', file, 'another one that is wrong'],
      ['BACKUP_DAMAGED', file.slice(0, file.length / 2), PASSPHRASE],
      ['BACKUP_FOREIGN', '{}', PASSPHRASE],
      ['BACKUP_NEWER', JSON.stringify({ ...JSON.parse(file), version: 2 }), PASSPHRASE]
    ]
    for (const [code, text, passphrase] of bad) {
      assert.equal(await fresh.refused('/v1/backup/restore', { file: text, passphrase }), code)
      assert.equal((await fresh.ask<StatusAnswer>('/v1/status')).state, 'unjoined')
      assert.deepEqual(await fresh.identity(), before)
    }
    assert.equal(await west.refused('/v1/backup/create', { passphrase: 'short' }), 'BAD_ARGUMENT')
    // The control plane cannot listen, which shows when all that is in the file was verified and written.
    const server = createServer().listen(fresh.port, '127.0.0.1')
    await once(server, 'listening')
    assert.equal(await fresh.refused('/v1/backup/restore', { file, passphrase: PASSPHRASE }), 'PORT_IN_USE')
    assert.equal((await fresh.ask<StatusAnswer>('/v1/status')).state, 'unjoined')
    assert.deepEqual(await fresh.identity(), before)
    server.close()
    await once(server, 'close')
    assert.equal((await restore(fresh, { file })).reached, true)
  })

  it('of a cluster that was removed since says so, and works once an administrator takes that back', async () => {
    const { west, east } = await mesh()
    const made = await backup(east)
    await west.ask('/v1/trust/remove', { cluster: 'east', force: true })
    await east.loseDisk()
    const answer = await restore(east, made)
    assert.equal(answer.reached, false)
    assert.match(
      answer.warnings?.join() ?? '',
      /a bar names its key; ask an administrator to take the bar back/
    )
    await west.ask('/v1/trust/restore', { cluster: 'east' })
    await eventually(async () => (await west.connected('east')).join() === answer.peerId, 60_000)
  })
})
