// What comes back of an earlier time: an old backup, an old disk, a copy of a running agent. Real agents in this process, over
// loopback. test/app/agent/backup.test.ts has the backups that are used as they are meant.
import assert from 'node:assert/strict'
import type { LeftAnswer } from '../../../src/api/membership-answers.ts'
import { eventually } from '../../eventually.ts'
import {
  backup,
  bearers,
  done,
  ended,
  fixOf,
  inStep,
  LoopbackMesh,
  refusal,
  restore,
  trust
} from './loopback-mesh.ts'

describe('what comes back of an earlier time', function () {
  this.timeout(180_000)
  let mesh: LoopbackMesh

  beforeEach(async () => {
    mesh = await LoopbackMesh.make()
  })

  afterEach(() => mesh.close())

  const leave = (of: Parameters<typeof done>[0]) => done<LeftAnswer>(of, '/v1/leave')

  it('an agent that was restored beside the one that runs, and leaves at once, does not end their cluster', async () => {
    const { west, east } = await mesh.unite('east')
    const [former] = await west.connected('east')
    assert.ok(former)
    const made = await backup(east)
    const other = await mesh.host('other')
    // In reach of the mesh, before a record of the other gateway has come; and out of its reach.
    assert.equal((await restore(other, made)).reached, true)
    await leave(other)
    await Promise.all([west.stop(), east.stop()])
    await restore(other, made)
    const { keptFor, endedMesh, repair } = await leave(other)
    assert.deepEqual([keptFor, endedMesh, repair], [[former], undefined, undefined])
    await Promise.all([west.start(), east.start()])
    await eventually(async () => (await west.connected('east')).join() === former)
    assert.equal((await bearers(west, 'east')).length, 1)
    assert.equal(await fixOf(east, 'MEMBERSHIP_ENDED'), undefined)
  })

  it('an agent that was restored in the place of one that is gone ends its cluster, when that one was revoked', async () => {
    const { west, east } = await mesh.unite('east')
    const [former] = await west.connected('east')
    assert.ok(former)
    const made = await backup(east)
    await Promise.all([west.stop(), east.loseDisk()])
    assert.equal((await restore(east, made)).reached, false)
    // Its PeerId is known from the backup alone: no member has told its certificate.
    await done(east, '/v1/trust/revoke', { name: former })
    // A backup of a restored agent knows of both.
    const second = await backup(east)
    await west.start()
    await eventually(async () => (await west.connected('east')).length === 1)
    const other = await mesh.host('other')
    await restore(other, second)
    await eventually(async () => (await west.connected('east')).length === 2)
    assert.equal((await leave(other)).keptFor, undefined)
    assert.equal((await bearers(west, 'east')).length, 1)
    await eventually(async () => (await west.connected('east')).length === 1)
    assert.equal((await leave(east)).keptFor, undefined)
    await eventually(async () => (await bearers(west, 'east')).length === 0)
  })

  it('a backup that is older than the key of its cluster changes nothing for the mesh, and says what to do', async () => {
    const { west, east } = await mesh.unite('east')
    const made = await backup(west)
    const { clusterKey } = await done<{ clusterKey: string }>(west, '/v1/key/rotate/cluster')
    await eventually(async () => (await bearers(east, 'west'))[0]?.key === clusterKey)
    const other = await mesh.host('other')
    const answer = await restore(other, made)
    assert.equal(answer.reached, false)
    assert.match(
      answer.warnings?.join() ?? '',
      /another cluster has its place; the backup is older than .*meshctl leave/
    )
    await ended(other)
    // An agent that was ended warns before it makes what is of no use.
    assert.match(
      (await backup(other)).warnings?.join() ?? '',
      /no member of the mesh any more .*keep the backups/
    )
    const prefixes = { podCidrs: ['10.9.0.0/16'], serviceCidrs: ['10.109.0.0/16'] }
    const invited = await done<{ warnings?: string[] }>(other, '/v1/invite', {
      cluster: 'north',
      ...prefixes,
      ttlSeconds: 3600,
      bootstrap: []
    })
    assert.match(
      invited.warnings?.join() ?? '',
      /no cluster can join at it: the token must name another member/
    )
    assert.match(
      (await refusal(other, '/v1/backup/restore', { file: made.file, passphrase: 'x' })).fix ?? '',
      /meshctl leave/
    )
    // It has the seat of west, and does not know that west still has it.
    assert.equal((await refusal(other, '/v1/leave')).code, 'LAST_SEAT')
    await done(other, '/v1/leave', { force: true })
    assert.deepEqual(await bearers(east, 'west'), [{ key: clusterKey, hasName: true }])
    assert.equal((await west.connected('east')).length, 1)
    // The present backup makes a gateway there.
    assert.equal((await restore(other, await backup(west))).reached, true)
  })

  it('a backup of a mesh that was founded anew is let in nowhere, and says so', async () => {
    const { west, east } = await mesh.unite('east')
    const made = await backup(west)
    await Promise.all([east.stop(), west.loseDisk()])
    await west.init('west', 1)
    const other = await mesh.host('other')
    const answer = await restore(other, made)
    assert.equal(answer.reached, false)
    assert.match(
      answer.warnings?.join() ?? '',
      /at the addresses in the backup is another mesh now: .*meshctl leave/
    )
    assert.deepEqual(await west.connected('west'), [])
    assert.equal((await trust(west)).clusters.length, 1)
  })

  it('the backup of a gateway that was revoked brings its cluster back under another PeerId only', async () => {
    const { west, east } = await mesh.unite('east')
    const [former] = await west.connected('east')
    const made = await backup(east)
    await done(west, '/v1/trust/revoke', { name: former })
    await ended(east)
    const over = await refusal(east, '/v1/backup/restore', { file: made.file, passphrase: 'x' })
    assert.equal(over.code, 'ALREADY_JOINED')
    assert.match(over.fix ?? '', /meshctl leave.*then restore the backup/)
    await leave(east)
    const { peerId, reached } = await restore(east, made)
    assert.equal(reached, true)
    assert.notEqual(peerId, former)
    await eventually(async () => (await west.connected('east')).join() === peerId)
  })

  it('a copy of a running agent is told by both, harms no other cluster, and the original goes on after it', async () => {
    const { west, east, edge } = await mesh.unite('east', 'edge')
    const copy = await mesh.host('copy')
    await Promise.all([copy.stop(), east.stop()])
    await mesh.copyState(east, copy)
    await Promise.all([east.start(), copy.start()])
    for (const each of [east, copy])
      await eventually(async () => /stop one of them/.test((await fixOf(each, 'IDENTITY_CLONED')) ?? ''))
    assert.deepEqual([(await west.connected('edge')).length, (await edge.connected('west')).length], [1, 1])
    await copy.stop()
    await eventually(async () => (await west.connected('east')).length === 1)
    await eventually(async () => (await edge.connected('east')).length === 1)
    await inStep(west, east, edge)
    await done(west, '/v1/trust/remove', { cluster: 'edge', force: true })
    await eventually(async () => (await bearers(east, 'edge')).length === 0)
  })

  it('an old disk learns what it has missed, and lets nobody in who was removed since', async () => {
    const { west, east, edge } = await mesh.unite('east', 'edge')
    const before = (await west.identity()).nodeSeed
    const token = await west.invite('north', 8)
    await west.stop()
    await mesh.copyState(west, 'old')
    await west.start()
    await eventually(async () => (await west.connected('east')).length === 1)
    await done(west, '/v1/key/rotate')
    await done(west, '/v1/cert/renew', { force: true })
    await done(west, '/v1/trust/cancel', { cluster: 'north' })
    await done(west, '/v1/trust/remove', { cluster: 'edge', force: true })
    await eventually(async () => (await bearers(east, 'edge')).length === 0)
    await inStep(west, east)
    await west.stop()
    await mesh.copyState('old', west)
    await west.start()
    assert.equal((await west.identity()).nodeSeed, before)
    await inStep(west, east)
    await eventually(async () => (await west.connected('east')).length === 1)
    assert.equal(await fixOf(west, 'MEMBERSHIP_ENDED'), undefined)
    await eventually(async () => (await fixOf(edge, 'MEMBERSHIP_ENDED')) !== undefined)
    for (const each of [west, east]) await eventually(async () => (await each.connected('edge')).length === 0)
    const north = await mesh.host('north')
    assert.equal(await north.refused('/v1/join', { token }), 'MESH_CANCELLED')
  })
})
