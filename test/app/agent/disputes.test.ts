// Clusters and administrators that want the same, or end each other: names that were given anew, two who remove each other, and
// the root keys in wrong hands. Real agents in this process, over loopback.
import assert from 'node:assert/strict'
import type { StatementAnswer } from '../../../src/api/trust-answers.ts'
import { eventually } from '../../eventually.ts'
import {
  bearers,
  done,
  ended,
  fixOf,
  inStep,
  LoopbackMesh,
  PASSPHRASE,
  refusal,
  trust
} from './loopback-mesh.ts'

describe('a dispute', function () {
  this.timeout(180_000)
  let mesh: LoopbackMesh

  beforeEach(async () => {
    mesh = await LoopbackMesh.make()
  })

  afterEach(() => mesh.close())

  const remove = (of: Parameters<typeof done>[0], cluster: string) =>
    done<StatementAnswer>(of, '/v1/trust/remove', { cluster, force: true })
  const restored = (of: Parameters<typeof done>[0], cluster: string) =>
    done<StatementAnswer>(of, '/v1/trust/restore', { cluster })

  it('over a name: the old disk of a removed cluster takes nothing of the one that has its name, until a decision', async () => {
    const { west, east } = await mesh.unite('east')
    const old = (await bearers(west, 'east'))[0]?.key ?? assert.fail()
    await east.stop()
    await remove(west, 'east')
    const next = await mesh.host('next')
    await next.join(await west.invite('east', 7))
    const present = (await bearers(west, 'east'))[0]?.key ?? assert.fail()
    await eventually(async () => (await west.connected('east')).length === 1)
    const origin = await west.connected('east')
    await east.start()
    await ended(east)
    assert.deepEqual(await west.connected('east'), origin)
    assert.deepEqual(await bearers(next, 'east'), [{ key: present, hasName: true }])
    const { notes } = await restored(west, 'east')
    assert.match(notes?.join() ?? '', new RegExp(`keeps it.*meshctl decide east ${old.slice(0, 16)}`))
    // Each keeps whom it had in force (E1): the members the present one, the old disk itself.
    for (const [each, holder] of [
      [west, present],
      [next, present],
      [east, old]
    ] as const)
      await eventually(async () => {
        const both = await bearers(each, 'east')
        return both.length === 2 && both.find(({ hasName }) => hasName)?.key === holder
      })
    await done(west, '/v1/trust/decide', { name: 'east', key: old })
    for (const each of [west, east, next])
      await eventually(async () => (await bearers(each, 'east')).find(({ hasName }) => hasName)?.key === old)
  })

  it('over a place: the lost disk that comes back while its heir joins has either the place or a reason', async () => {
    const { west, east } = await mesh.unite('east')
    await east.stop()
    const { token } = await done<{ token: string }>(west, '/v1/invite', {
      cluster: 'east',
      podCidrs: [],
      serviceCidrs: [],
      ttlSeconds: 3600,
      bootstrap: [],
      replace: 'east',
      force: true
    })
    // Before the heir has joined the old one is a member as before.
    await east.start()
    await eventually(async () => (await west.connected('east')).length === 1)
    await east.stop()
    const heir = await mesh.host('heir')
    await Promise.all([heir.join(token), east.start()])
    const present = await heir.ask<{ peerId: string }>('/v1/status')
    await ended(east)
    await eventually(async () => (await west.connected('east')).join() === present.peerId)
    assert.deepEqual(
      (await bearers(west, 'east')).map(({ hasName }) => hasName),
      [true]
    )
    // The lost disk leaves, and takes nothing of its heir with it.
    await done(east, '/v1/leave')
    await inStep(west, heir)
    assert.equal((await bearers(west, 'east')).length, 1)
    assert.equal(await fixOf(heir, 'MEMBERSHIP_ENDED'), undefined)
  })

  it('of two administrators who remove each other at one moment: the others go on, and either brings both back', async () => {
    const { west, east, edge } = await mesh.unite('east', 'edge')
    const far = await mesh.host('far')
    await far.join(await west.invite('far', 6))
    await mesh.seat(west, east, 'ann')
    await eventually(async () => (await edge.connected('far')).length === 1)
    const [first] = await Promise.all([remove(west, 'east'), remove(east, 'west')])
    assert.match(first.notes?.join() ?? '', /Administrators stay administrators/)
    await Promise.all([ended(west), ended(east)])
    for (const name of ['west', 'east'])
      for (const each of [edge, far]) {
        await eventually(async () => (await each.connected(name)).length === 0)
        assert.deepEqual(await bearers(each, name), [])
      }
    assert.equal((await edge.connected('far')).length, 1)
    // Members refuse both as members, and still take a statement of a seat that stands.
    await restored(west, 'west')
    await eventually(async () => (await edge.connected('west')).length === 1)
    await restored(west, 'east')
    await eventually(async () => (await edge.connected('east')).length === 1)
    await inStep(west, east, edge, far)
    for (const each of [west, east]) assert.equal(await fixOf(each, 'MEMBERSHIP_ENDED'), undefined)
  })

  it('over the root keys: a file and its passphrase are of use in their own mesh only, and until a leave', async () => {
    const { west, east } = await mesh.unite('east')
    const { file } = await done<{ file: string }>(west, '/v1/root/export', { passphrase: PASSPHRASE })
    const take = { file, passphrase: PASSPHRASE }
    await done(west, '/v1/root/exported', { ...take, keep: false })
    const thief = await mesh.host('thief')
    assert.equal((await refusal(thief, '/v1/root/import', take)).code, 'NOT_JOINED')
    await thief.init('thief', 9)
    assert.equal((await refusal(thief, '/v1/root/import', take)).code, 'ROOT_FILE_OTHER')
    // Its own keys under the name of the other mesh.
    const own = await done<{ file: string }>(thief, '/v1/root/export', { passphrase: PASSPHRASE })
    const { meshId } = JSON.parse(file) as { meshId: string }
    const forged = JSON.stringify({ ...(JSON.parse(own.file) as object), meshId })
    assert.equal((await refusal(west, '/v1/root/import', { ...take, file: forged })).code, 'PASSPHRASE_WRONG')
    // A file decides on the cost of opening it within bounds only.
    const { sealed } = JSON.parse(file) as { sealed: { scrypt: object } }
    const dear = { ...sealed, scrypt: { ...sealed.scrypt, N: 2 ** 40 } }
    const costly = JSON.stringify({ ...(JSON.parse(file) as object), sealed: dear })
    assert.equal((await refusal(west, '/v1/root/import', { ...take, file: costly })).code, 'PASSPHRASE_WRONG')
    for (const cut of ['', '[]', file.slice(0, 300)])
      assert.equal(
        (await refusal(west, '/v1/root/import', { ...take, file: cut })).code,
        'ROOT_FILE_MALFORMED'
      )
    assert.equal((await trust(west)).roots.held, 0)
    // A member that has both has the mesh. Twice is once, and a leave ends it.
    await Promise.all([1, 2].map(() => done(east, '/v1/root/import', take)))
    assert.equal((await trust(east)).roots.held, 1)
    await done(east, '/v1/leave')
    await east.join(await west.invite('east', 2))
    assert.equal((await trust(east)).roots.held, 0)
    const { adminKey } = await done<{ adminKey: string }>(east, '/v1/admin/key')
    const rights = { names: ['*'], prefixes: ['10.0.0.0/8'], inviteDays: 30, clusters: 10, maySeat: true }
    const seat = { label: 'thief', key: adminKey, ...rights, root: true }
    assert.equal((await refusal(east, '/v1/admin/add', seat)).code, 'NO_ROOT')
  })
})
