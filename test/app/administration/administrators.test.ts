// Seats and roots: who may create and end seats, what stays when one ends, and the file of the root keys.
import assert from 'node:assert/strict'
import { areRootsInFile, ownSeats } from '../../../src/app/administration/own-seats.ts'
import { base64 } from '../../../src/app/identity/encoding.ts'
import type { TestSeat, World } from '../../core/trust/set/world.ts'
import { Office, realWorld } from './office.ts'

const PASSPHRASE = 'correct horse battery staple'
const ADD = {
  label: 'ann',
  names: ['*'],
  prefixes: ['10.0.0.0/8'],
  inviteDays: 30,
  clusters: 10,
  maySeat: false
}

/** A mesh of west (of this agent) and two seats under the roots; bob's may create no seats. */
function mesh(world = realWorld()) {
  const [admin, bob] = [world.seat(), world.seat({ maySeat: false })]
  const west = world.found('west')
  return { world, admin, bob, west, things: [admin, bob] }
}

function office(parts = mesh(), more: Partial<ConstructorParameters<typeof Office>[0]> = {}): Office {
  const { world, west, things, admin } = parts
  return new Office({ world, own: west, things, seats: [admin], ...more })
}

/** The public key of a new administrator. */
const newKey = (world: World) => world.keyOf(world.crypto.random(32))

async function refuses(agent: Office, code: string, act: () => Promise<unknown>): Promise<void> {
  const before = [...agent.trust.members.set.ids()]
  const { identity } = agent
  await assert.rejects(act, (error: { code?: string; fix?: string }) => {
    assert.equal(error.code, code)
    assert.ok(error.fix, 'an error without a fix')
    return true
  })
  assert.deepEqual([...agent.trust.members.set.ids()], before)
  assert.equal(agent.identity, identity)
}

describe('the key of an administrator', () => {
  it('is made once, and only its public half leaves the agent', async () => {
    const agent = office()
    const one = await agent.administrators.key()
    assert.deepEqual(await agent.administrators.key(), one)
    assert.match(one.adminKey, /^[0-9a-f]{64}$/)
    assert.ok(agent.identity?.adminSeed)
    assert.deepEqual(Object.keys(one), ['adminKey'])
  })

  it('has the seat that another administrator creates for it, and loses it with that seat', async () => {
    const parts = mesh()
    const agent = office(parts, { seats: [] })
    const { adminKey } = await agent.administrators.key()
    const { crypto } = parts.world
    const own = () => ownSeats(agent.identity ?? assert.fail(), agent.trust.members, crypto)
    assert.deepEqual(own(), [])
    const other = office(parts)
    await other.administrators.add({ ...ADD, key: adminKey })
    const made = other.seats().find(({ label }) => label === 'ann')
    const item = made && other.trust.members.set.itemOf(made.id)
    assert.ok(made && item)
    agent.learn([{ id: made.id, item, envelopes: [] }])
    assert.deepEqual(
      own().map(({ seat }) => seat.id),
      [made.id]
    )
    agent.learn([parts.world.void(parts.admin, made.id)])
    assert.deepEqual(own(), [])
  })

  it('may have several seats, and one seed that is named twice is one signer', () => {
    const world = realWorld()
    const west = world.found('west')
    const seat = world.seat()
    const agent = new Office({ world, own: west, things: [seat], seats: [seat, seat] })
    const { identity } = agent
    assert.ok(identity)
    const found = ownSeats({ ...identity, adminSeed: base64(seat.seed) }, agent.trust.members, world.crypto)
    assert.deepEqual(
      found.map((one) => one.seat.id),
      [seat.id]
    )
  })

  it('NOT_JOINED in no mesh', async () => {
    const agent = office(mesh(), { isJoined: false })
    await refuses(agent, 'NOT_JOINED', () => agent.administrators.key())
  })
})

describe('admin add', () => {
  it('creates a seat under the roots where they are, else under a seat that may create seats', async () => {
    const parts = mesh()
    const under = async (more: Parameters<typeof office>[1]) => {
      const agent = office(parts, more)
      const { done, neighbours } = await agent.administrators.add({ ...ADD, key: newKey(parts.world) })
      assert.match(done, /^created the seat "ann" for the key [0-9a-f]{16}$/)
      assert.equal(neighbours, 2)
      const seat = agent.seats().find(({ label }) => label === 'ann') ?? assert.fail()
      assert.ok(agent.disk.has(seat.id))
      return seat.under
    }
    assert.equal(await under({ hasRoot: true }), undefined)
    assert.equal(await under({ hasRoot: true, seats: [] }), undefined)
    assert.equal(await under({}), parts.admin.id)
    assert.equal(await under({ seats: [parts.bob, parts.admin] }), parts.admin.id)
  })

  it('NO_SEAT without roots and seat; SEAT_EXCEEDED, with the seats, when none of them may create seats', async () => {
    const parts = mesh()
    const none = office(parts, { seats: [] })
    const add = (agent: Office) => agent.administrators.add({ ...ADD, key: newKey(parts.world) })
    await refuses(none, 'NO_SEAT', () => add(none))
    const bob = office(parts, { seats: [parts.bob] })
    await refuses(bob, 'SEAT_EXCEEDED', () => add(bob))
    await assert.rejects(add(bob), {
      message: 'the seat of this agent ("admin") may not create seats',
      fix: /root keys.*--may-seat/
    })
  })

  it('BAD_ARGUMENT for the label of a seat that stands; that of a seat that was removed is free', async () => {
    const parts = mesh()
    const agent = office(parts, { hasRoot: true })
    const add = () => agent.administrators.add({ ...ADD, key: newKey(parts.world) })
    await add()
    await refuses(agent, 'BAD_ARGUMENT', add)
    await assert.rejects(add(), { message: /^label: a seat with the label "ann" stands already$/ })
    await agent.administrators.remove({ seat: 'ann', force: false })
    await add()
  })

  it('BAD_ARGUMENT for a malformed name or prefix, and for rights beyond the parent’s, which it names', async () => {
    const world = realWorld()
    const seat = world.seat({ names: ['b*'], prefixes: ['10.0.0.0/8'] })
    const agent = new Office({ world, own: world.found('west'), things: [seat], seats: [seat] })
    const add = (more: object) => () =>
      agent.administrators.add({ ...ADD, names: ['b*'], key: newKey(world), ...more })
    for (const [more, text] of [
      [{ names: ['B_'] }, /names/],
      [{ prefixes: ['10.0.0.1/8'] }, /prefix/],
      [{ names: ['*'] }, /the name \* is not among the parent's/],
      [{ prefixes: ['172.16.0.0/12'] }, /172\.16\.0\.0\/12 lies outside the parent's/],
      [{ inviteDays: 31 }, /31 days are more than the parent's 30/],
      [{ label: 'a\u202eb' }, /printable/]
    ] as const) {
      await refuses(agent, 'BAD_ARGUMENT', add(more))
      await assert.rejects(add(more), text)
    }
    await add({})()
  })

  it('a seat cannot create seats below a child: its rights are two deep', async () => {
    const parts = mesh()
    const child = parts.world.seat({ under: parts.admin })
    const agent = office(parts, { things: [...parts.things, child], seats: [child] })
    await refuses(agent, 'BAD_ARGUMENT', () => agent.administrators.add({ ...ADD, key: newKey(parts.world) }))
  })
})

describe('admin remove', () => {
  /** Ann's seat with a cluster, a grant, a child seat with a cluster of its own, and an open invite. */
  function below(parts: ReturnType<typeof mesh>, ann: TestSeat) {
    const { world, west } = parts
    const east = world.join(ann, west, 1, 'east', { pods: ['10.2.0.0/16'] })
    const grant = world.grant(ann, east, { pods: ['10.12.0.0/16'] })
    const child = world.seat({ under: ann })
    const south = world.join(child, west, 2, 'south')
    return { east, grant, child, south, things: [east, grant, child, south] }
  }

  it('keeps all that stands below the seat here; what its key signs later falls', async () => {
    const parts = mesh()
    const { world, west } = parts
    const ann = world.seat()
    const { east, child, south, things } = below(parts, ann)
    const agent = office(parts, { things: [...parts.things, ann, ...things], hasRoot: true })
    const { done } = await agent.administrators.remove({ seat: ann.id.slice(0, 16), force: false })
    assert.match(done, /^removed the seat "admin"; 3 statements below it stay$/)
    assert.equal(
      agent.seats().some(({ id }) => id === ann.id),
      false
    )
    assert.ok(
      agent.seats().some(({ id }) => id === child.id),
      'the child seat stays'
    )
    const thief = world.join(ann, west, 3, 'thief')
    agent.learn([thief])
    assert.deepEqual(
      [east, south, thief].map((cluster) => agent.stands(cluster)),
      [true, true, false]
    )
    assert.deepEqual(agent.pods(east), ['10.2.0.0/16', '10.12.0.0/16'])
  })

  it('does not keep what had fallen before', async () => {
    const parts = mesh()
    const { world } = parts
    const ann = world.seat()
    const { east, grant, things } = below(parts, ann)
    const agent = office(parts, {
      things: [...parts.things, ann, ...things, world.void(ann, grant)],
      hasRoot: true
    })
    await agent.administrators.remove({ seat: ann.id, force: false })
    assert.deepEqual(agent.pods(east), ['10.2.0.0/16'])
  })

  it('is signed by the roots, by the seat above, or by the seat itself', async () => {
    const parts = mesh()
    const child = parts.world.seat({ under: parts.admin })
    const things = [...parts.things, child]
    const by = async (more: Parameters<typeof office>[1], seat: TestSeat) => {
      const agent = office(parts, { things, ...more })
      await agent.administrators.remove({ seat: seat.id, force: false })
      assert.equal(
        agent.seats().some(({ id }) => id === seat.id),
        false
      )
      return agent.statements('void')[0]?.under
    }
    assert.equal(await by({ hasRoot: true }, child), undefined)
    assert.equal(await by({ seats: [parts.admin] }, child), parts.admin.id)
    assert.equal(await by({ seats: [child] }, child), child.id)
    assert.equal(await by({ seats: [parts.bob] }, parts.bob), parts.bob.id)
  })

  it('NO_SEAT for the seat of a sibling', async () => {
    const parts = mesh()
    const agent = office(parts, { seats: [parts.admin] })
    await refuses(agent, 'NO_SEAT', () => agent.administrators.remove({ seat: parts.bob.id, force: false }))
  })

  it('UNKNOWN_SEAT for no such seat, one that has fallen, and a label that several have', async () => {
    const parts = mesh()
    const { world, admin, bob } = parts
    const agent = office(parts, { hasRoot: true })
    await refuses(agent, 'UNKNOWN_SEAT', () => agent.administrators.remove({ seat: 'nobody', force: false }))
    await refuses(agent, 'UNKNOWN_SEAT', () => agent.administrators.remove({ seat: 'admin', force: false }))
    await assert.rejects(
      agent.administrators.remove({ seat: 'admin', force: false }),
      /2 seats are called admin/
    )
    agent.learn([world.void('roots', bob)])
    await refuses(agent, 'UNKNOWN_SEAT', () => agent.administrators.remove({ seat: bob.id, force: false }))
    assert.ok(agent.seats().some(({ id }) => id === admin.id))
  })

  it('LAST_SEAT for the last one, until the roots that can create another are in a file; --force removes it', async () => {
    const world = realWorld()
    const seat = world.seat()
    const parts = { world, own: world.found('west'), things: [seat], seats: [seat] }
    const remove = (agent: Office, force = false) => agent.administrators.remove({ seat: seat.id, force })
    for (const hasRoot of [false, true]) {
      const last = new Office({ ...parts, hasRoot })
      await refuses(last, 'LAST_SEAT', () => remove(last))
      await remove(last, true)
      assert.deepEqual(last.seats(), [])
    }
    const inFile = new Office({ ...parts, hasRoot: true })
    const { file } = await inFile.rootKeys.exportRoot({ passphrase: PASSPHRASE })
    await inFile.rootKeys.rootExported({ file, passphrase: PASSPHRASE, keep: false })
    await remove(inFile)
    assert.deepEqual(inFile.seats(), [])
  })

  it('LAST_SEAT for the last one for all names and prefixes; a restricted one stays removable', async () => {
    const world = realWorld()
    const [all, names, prefixes] = [
      world.seat(),
      world.seat({ names: ['edge-*'] }),
      world.seat({ prefixes: ['10.0.0.0/8', '::/0'] })
    ]
    const parts = { world, own: world.found('west'), seats: [all], hasRoot: true }
    const agent = new Office({ ...parts, things: [all, names, prefixes] })
    await refuses(agent, 'LAST_SEAT', () => agent.administrators.remove({ seat: all.id, force: false }))
    await agent.administrators.remove({ seat: names.id, force: false })
    const twice = new Office({ ...parts, things: [all, world.seat(), prefixes] })
    await twice.administrators.remove({ seat: all.id, force: false })
  })

  it('without a seat, an agent with the root keys says how it creates one for itself', async () => {
    const agent = office(mesh(), { seats: [], hasRoot: true })
    const request = { cluster: 'west', addPodCidrs: ['10.9.0.0/16'], addServiceCidrs: [], dropCidrs: [] }
    await assert.rejects(agent.administration.grant(request), (error: { code?: string; fix?: string }) => {
      assert.equal(error.code, 'NO_SEAT')
      assert.match(error.fix ?? '', /`meshctl admin key`.*`meshctl admin add <label> --key <key>`/)
      return true
    })
    const other = office(mesh(), { seats: [] })
    await assert.rejects(other.administration.grant(request), (error: { fix?: string }) => {
      assert.match(error.fix ?? '', /on an agent of an administrator/)
      return true
    })
  })

  it('NOT_JOINED in no mesh', async () => {
    const agent = office(mesh(), { isJoined: false })
    await refuses(agent, 'NOT_JOINED', () => agent.administrators.remove({ seat: 'admin', force: false }))
  })
})

describe('the file of the root keys', function () {
  this.slow(10_000)
  const passphrase = PASSPHRASE

  it('holds what is here, is checked before the keys are removed, and brings them back', async () => {
    const parts = mesh()
    const agent = office(parts, { hasRoot: true })
    const before = agent.identity?.rootSeeds
    const { file, check } = await agent.rootKeys.exportRoot({ passphrase })
    assert.match(check, /^[0-9a-f]{16}$/)
    assert.ok(before?.[0] !== undefined && !file.includes(before[0]), 'the file has the key in clear')
    assert.deepEqual(agent.identity?.rootSeeds, before)
    await agent.rootKeys.rootExported({ file, passphrase, keep: false })
    assert.deepEqual([agent.identity?.rootSeeds, agent.identity?.rootExported], [[], true])
    await refuses(agent, 'NO_ROOT', () => agent.rootKeys.exportRoot({ passphrase }))
    await refuses(agent, 'NO_ROOT', () => agent.rootKeys.rootExported({ file, passphrase, keep: false }))
    await agent.rootKeys.importRoot({ file, passphrase })
    assert.deepEqual([agent.identity?.rootSeeds, agent.identity?.rootExported], [[], true], 'in memory only')
    assert.deepEqual(agent.rootKeys.seeds().map(base64), before)
    assert.match((await agent.rootKeys.forget({ force: false })).done, /no root key any more/)
    assert.deepEqual(agent.rootKeys.seeds(), [])
  })

  it('is known to hold the keys after an import and after an export that keeps them here; members are told nothing', async () => {
    const agent = office(mesh(), { hasRoot: true })
    const before = agent.identity?.rootSeeds
    const inFile = () => areRootsInFile(agent.identity ?? assert.fail())
    const { file } = await agent.rootKeys.exportRoot({ passphrase })
    assert.equal(inFile(), false)
    assert.deepEqual(await agent.rootKeys.rootExported({ file, passphrase, keep: true }), {
      done: 'the root keys stay on this agent, too'
    })
    assert.deepEqual([agent.identity?.rootSeeds, inFile()], [before, true])
    const { done } = await agent.rootKeys.rootExported({ file, passphrase, keep: false })
    assert.match(done, /^this agent holds no root key any more;/)
    assert.deepEqual(await agent.rootKeys.importRoot({ file, passphrase }), {
      done: 'this agent holds 1 of 1 root keys in memory, until `meshctl root forget` or its next start'
    })
    assert.deepEqual([agent.identity?.rootSeeds, inFile()], [[], true])
  })

  it('BAD_ARGUMENT for a passphrase of fewer than 12 characters', async () => {
    const agent = office(mesh(), { hasRoot: true })
    await refuses(agent, 'BAD_ARGUMENT', () => agent.rootKeys.exportRoot({ passphrase: 'short words' }))
  })

  it('is refused when it is damaged, of another mesh, or not opened by the passphrase', async () => {
    const parts = mesh()
    const agent = office(parts, { hasRoot: true })
    const { file } = await agent.rootKeys.exportRoot({ passphrase })
    // All seeds of a world are the same in each run, so another mesh needs another number of roots.
    const other = office(mesh(realWorld({ roots: 2 })), { hasRoot: true })
    const { file: foreign } = await other.rootKeys.exportRoot({ passphrase })
    for (const [code, request] of [
      ['ROOT_FILE_MALFORMED', { file: 'no file', passphrase }],
      ['ROOT_FILE_MALFORMED', { file: '{"kind":"other"}', passphrase }],
      ['ROOT_FILE_OTHER', { file: foreign, passphrase }],
      ['PASSPHRASE_WRONG', { file, passphrase: 'another passphrase' }],
      // The mesh is sealed together with the keys, so a file cannot be passed off as one of this mesh.
      [
        'PASSPHRASE_WRONG',
        { file: JSON.stringify({ ...JSON.parse(foreign), meshId: JSON.parse(file).meshId }), passphrase }
      ]
    ] as const) {
      await refuses(agent, code, () => agent.rootKeys.importRoot(request))
      await refuses(agent, code, () => agent.rootKeys.rootExported({ ...request, keep: false }))
    }
  })

  it('does not free this agent of keys that are not in it', async () => {
    const agent = office(mesh(realWorld({ roots: 2, k: 1 })), { hasRoot: true })
    const { file } = await agent.rootKeys.exportRoot({ passphrase, share: 1 })
    await refuses(agent, 'ROOT_FILE_OTHER', () =>
      agent.rootKeys.rootExported({ file, passphrase, keep: false })
    )
  })
})

describe('several root keys, of which two of three must sign', function () {
  this.slow(30_000)
  const passphrase = PASSPHRASE
  const parts = mesh(realWorld({ roots: 3, k: 2 }))
  const files: string[] = []

  it('go into a file each, stay here until all are in files, and are then forgotten', async () => {
    const agent = office(parts, { hasRoot: true })
    const { rootKeys } = agent
    const inFile = () => areRootsInFile(agent.identity ?? assert.fail())
    await refuses(agent, 'BAD_ARGUMENT', () => rootKeys.exportRoot({ passphrase, share: 4 }))
    for (const share of [1, 2, 3]) {
      assert.equal(inFile(), share > 2, `with ${share - 1} files`)
      await refuses(agent, 'ROOT_NOT_EXPORTED', () => rootKeys.forget({ force: share === 2 }))
      const { file } = await rootKeys.exportRoot({ passphrase, share })
      const { done } = await rootKeys.rootExported({ file, passphrase, share, keep: false })
      assert.match(
        done,
        share === 3 ? /all shares are in files: `meshctl root forget`/ : /not yet in a file: /
      )
      files.push(file)
      assert.equal(rootKeys.seeds().length, 3)
    }
    await refuses(agent, 'ROOT_FILE_OTHER', () =>
      rootKeys.rootExported({ file: files[0] ?? '', passphrase, share: 2, keep: false })
    )
    await rootKeys.forget({ force: false })
    assert.deepEqual([rootKeys.seeds(), agent.identity?.rootSeeds], [[], []])
    await refuses(agent, 'NO_ROOT', () => rootKeys.forget({ force: false }))
  })

  it('that were given up, or were never here, do not count as kept in a file', async () => {
    const agent = office(parts, { hasRoot: true })
    for (const share of [1, 3]) {
      const { file } = await agent.rootKeys.exportRoot({ passphrase, share })
      await agent.rootKeys.rootExported({ file, passphrase, share, keep: false })
    }
    await agent.rootKeys.forget({ force: true })
    assert.deepEqual(agent.rootKeys.places(), { held: 0, inMemory: 0, inFiles: [1, 3] })
    const other = office(parts, { seats: [] })
    await other.rootKeys.importRoot({ file: files[1] ?? '', passphrase })
    await other.rootKeys.forget({ force: false })
    assert.deepEqual(other.rootKeys.places().inFiles, [2])
  })

  it('sign a seat where two of them are here, whichever, and never where fewer are', async () => {
    const seeds = parts.world.rootSeeds.map(base64)
    for (const bits of [0, 1, 2, 3, 4, 5, 6, 7]) {
      const agent = office(parts, { seats: [] })
      const rootSeeds = seeds.filter((_, index) => (bits >> index) & 1)
      agent.identity = { ...(agent.identity ?? assert.fail()), rootSeeds }
      const add = () => agent.administrators.add({ ...ADD, key: newKey(parts.world), root: true })
      if (rootSeeds.length >= 2) assert.match((await add()).done, /^created the seat/)
      else await refuses(agent, 'NO_ROOT', add)
    }
  })

  it('are imported one by one into memory, count once, and sign when there are enough', async () => {
    const agent = office(parts, { seats: [] })
    const add = () => agent.administrators.add({ ...ADD, key: newKey(parts.world), root: true })
    const [first = '', , third = ''] = files
    await agent.rootKeys.importRoot({ file: first, passphrase })
    const { done } = await agent.rootKeys.importRoot({ file: first, passphrase })
    assert.match(done, /holds 1 of 3 root keys in memory.*1 more must be imported/)
    assert.deepEqual(agent.rootKeys.places(), { held: 1, inMemory: 1, inFiles: [1] })
    await refuses(agent, 'NO_ROOT', add)
    await agent.rootKeys.importRoot({ file: third, passphrase })
    assert.match((await add()).done, /^created the seat/)
    assert.deepEqual(agent.identity?.rootSeeds, [], 'an imported key is on no disk')
  })
})
