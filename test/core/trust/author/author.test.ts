// Every statement that this program makes is one that other members accept, and none exceeds its signer's rights.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { cidr, clusterName, crypto, DAY, NOW } from '../fixtures.ts'
import {
  barByCluster,
  barBySeat,
  decide,
  grant,
  voidByRoots,
  voidBySeat
} from '../../../../src/core/trust/author/command.ts'
import {
  admitCluster,
  certifyAgent,
  certifyCluster,
  createInvite,
  idOfItem
} from '../../../../src/core/trust/author/join.ts'
import {
  certifyFoundingCluster,
  createMesh,
  FIRST_SEAT_RIGHTS
} from '../../../../src/core/trust/author/mesh.ts'
import { createChildSeat, createRootSeat } from '../../../../src/core/trust/author/seat.ts'
import { openCredential } from '../../../../src/core/trust/members/credential.ts'
import { createMembers, type Members } from '../../../../src/core/trust/members/members.ts'
import type { Cidr } from '../../../../src/core/model/values.ts'
import { openItem } from '../../../../src/core/trust/set/form.ts'
import { keyId } from '../../../../src/core/trust/set/ids.ts'
import { wire } from '../../../../src/core/wire/messages.ts'
import { judgeNewcomer } from '../../../../src/core/trust/set/newcomer.ts'

const SERVICES = [cidr('10.101.0.0/16')]

function found(roots = { k: 1, number: 1 }) {
  const mesh = createMesh({
    crypto,
    roots,
    cluster: clusterName('west'),
    pods: [cidr('10.1.0.0/16')],
    services: SERVICES,
    label: 'ann'
  })
  const context = { crypto, roots: mesh.roots }
  const members = createMembers({ ...context, owners: new Map(), generations: new Map() })
  add(members, mesh.seatItem, mesh.clusterItem)
  return { ...mesh, context, members, westKey: keyId(crypto.publicKeyOf(mesh.clusterSeed)) }
}

function add(members: Members, ...items: readonly Uint8Array[]): void {
  for (const item of items) {
    const added = members.set.add(item)
    assert.ok(added.kind === 'added', JSON.stringify(added))
  }
}

function inviteTo(mesh: ReturnType<typeof found>, options: Partial<Parameters<typeof createInvite>[1]> = {}) {
  return createInvite(mesh.context, {
    seatItem: mesh.seatItem,
    adminSeed: mesh.adminSeed,
    cluster: clusterName('east'),
    pods: [cidr('10.2.0.0/16')],
    services: [],
    namespaces: ['shop', 'bank', 'shop'],
    notBefore: NOW,
    notAfter: NOW + DAY,
    ...options
  })
}

/** Invites a cluster and lets west admit it. */
function join(mesh: ReturnType<typeof found>) {
  const { context, members } = mesh
  const invite = inviteTo(mesh)
  const clusterSeed = crypto.random(32)
  const certified = certifyCluster(context, {
    inviteItem: invite.item,
    inviteSeed: invite.inviteSeed,
    clusterSeed
  })
  const item = members.set.open(certified.item)
  assert.ok(item.kind === 'item')
  assert.equal(
    judgeNewcomer({ set: members.set, standing: members.standing(), claims: members.claims() }, item).kind,
    'admit'
  )
  const seen = members.set.nextSeen(mesh.westKey, undefined)
  assert.ok(seen !== undefined)
  const admitted = admitCluster(context, {
    certItem: certified.item,
    sponsorSeed: mesh.clusterSeed,
    seen,
    time: NOW
  })
  add(members, admitted.item)
  return { invite, certified, admitted, clusterSeed, clusterKey: keyId(crypto.publicKeyOf(clusterSeed)) }
}

describe('a mesh and its statements', () => {
  it('takes prefixes of 240.0.0.0/4, as Kubernetes does, and refuses multicast', () => {
    const mesh = found()
    const opened = openItem(mesh.context, inviteTo(mesh, { pods: [cidr('250.1.0.0/16')] }).item)
    assert.equal(opened.kind, 'item')
    for (const prefix of ['224.0.0.0/3', '224.1.0.0/16'])
      assert.throws(() => inviteTo(mesh, { pods: [prefix as Cidr] }), RangeError, prefix)
  })

  it('grows by an invite, a certificate, an admission and an agent', () => {
    const mesh = found()
    const { context, members } = mesh
    const east = join(mesh)
    const agentSeed = crypto.random(32)
    const credential = certifyAgent(context, {
      clusterItem: east.admitted.item,
      clusterSeed: east.clusterSeed,
      agentSeed,
      node: 'gw-1',
      roles: ['node', 'gateway'],
      generation: 0
    })
    assert.deepEqual(members.addCredential(credential), { kind: 'admitted' })
    const settled = members.settlement().get(clusterName('east'))
    assert.deepEqual(settled?.podPrefixes, ['10.2.0.0/16'])
    assert.deepEqual(settled.namespaces, ['bank', 'shop'])
    assert.deepEqual(members.settlement().get(clusterName('west'))?.servicePrefixes, SERVICES)
    const opened = openCredential(members.set, credential.bytes)
    assert.ok(opened.kind === 'credential')
    assert.equal(opened.cluster, 'east')
    assert.deepEqual(opened.cert.roles, ['gateway', 'node'])
    assert.equal(idOfItem(context, east.invite.item), east.invite.id)
  })

  it('has the commands of a seat, and they count', () => {
    const mesh = found()
    const { context, members } = mesh
    const east = join(mesh)
    const by = { seatItem: mesh.seatItem, adminSeed: mesh.adminSeed }
    const name = clusterName('east')
    const { clusterKey } = east
    const added = grant(context, by, {
      clusterKey,
      add: { pods: [cidr('10.9.0.0/16'), cidr('10.8.0.0/16')], services: [cidr('10.109.0.0/16')] },
      drop: [cidr('10.2.0.0/16')]
    })
    add(members, added.item, decide(context, by, { name, clusterKey }).item)
    assert.deepEqual(members.settlement().get(name)?.podPrefixes, ['10.8.0.0/16', '10.9.0.0/16'])
    assert.ok(members.claims().names.get(name)?.decidedBy)
    const bar = barBySeat(context, by, { target: { cluster: clusterKey }, keepOnly: [east.admitted.id] })
    add(members, bar.item)
    assert.equal(members.settlement().has(name), false)
    add(members, voidBySeat(context, by, { target: bar.id, keep: [] }).item)
    assert.equal(members.settlement().has(name), true)
  })

  it('has bars that a cluster signs, for an agent and for itself', () => {
    const mesh = found()
    const { context, members } = mesh
    const by = { clusterItem: mesh.clusterItem, clusterSeed: mesh.clusterSeed }
    const credential = certifyAgent(context, {
      ...by,
      agentSeed: crypto.random(32),
      node: 'gw-1',
      roles: ['gateway'],
      generation: 1
    })
    members.addCredential(credential)
    assert.ok(members.isAdmitted(credential.origin))
    add(members, barByCluster(context, by, credential.cert.agentKey).item)
    assert.ok(!members.isAdmitted(credential.origin))
    assert.ok(members.settlement().has(clusterName('west')))
    add(members, barByCluster(context, by, undefined).item)
    assert.ok(!members.settlement().has(clusterName('west')))
  })

  it('has seats of the roots and of seats, and Voids of them', () => {
    const mesh = found({ k: 2, number: 3 })
    const { context, members } = mesh
    const bobSeed = crypto.random(32)
    const rights = { ...FIRST_SEAT_RIGHTS, names: ['b*'] }
    const adminKey = keyId(crypto.publicKeyOf(bobSeed))
    const bob = createRootSeat(context, { rootSeeds: mesh.rootSeeds, adminKey, label: 'bob', rights })
    const by = { seatItem: mesh.seatItem, adminSeed: mesh.adminSeed }
    const child = createChildSeat(context, {
      ...by,
      adminKey,
      label: 'carl',
      rights: { ...rights, clustersMax: 4, maySeat: false }
    })
    add(members, bob.item, child.item)
    const taken = voidBySeat(context, by, { target: child.id, keep: [] })
    add(members, taken.item, voidByRoots(context, mesh.rootSeeds, { target: bob.id, keep: [child.id] }).item)
    const { seats } = members.standing()
    assert.deepEqual(
      [bob.id, child.id].map((id) => seats.get(id)?.stands),
      [false, false]
    )
    const again = certifyFoundingCluster(context, {
      rootSeeds: mesh.rootSeeds.slice(1),
      clusterSeed: crypto.random(32),
      cluster: clusterName('north'),
      pods: [],
      services: []
    })
    add(members, again.item)
    assert.throws(
      () => voidByRoots(context, mesh.rootSeeds.slice(0, 1), { target: bob.id, keep: [] }),
      /1 of the roots have signed, and 2 must/
    )
  })

  it('are signed by the roots exactly when k of them sign, in any order and however often a key is given', () => {
    const meshes = [1, 2, 3, 4, 5].flatMap((number) =>
      Array.from({ length: number }, (_, at) => found({ k: at + 1, number }))
    )
    const any = fc.record({
      mesh: fc.constantFrom(...meshes),
      picks: fc.array(fc.nat({ max: 4 }), { maxLength: 8 }),
      isForeign: fc.boolean()
    })
    fc.assert(
      fc.property(any, ({ mesh, picks, isForeign }) => {
        const { context, rootSeeds, seatItem } = mesh
        const { k } = context.roots
        const picked = picks.flatMap((at) => rootSeeds[at] ?? [])
        const seeds = [...(isForeign ? [crypto.random(32)] : []), ...picked]
        const seat = openItem(context, seatItem)
        assert.ok(seat.kind === 'item')
        const taken = { target: seat.statements[0]?.statement.id ?? assert.fail(), keep: [] }
        const sign = () => voidByRoots(context, seeds, taken)
        if (new Set(picked).size < k) return assert.throws(sign, RangeError)
        const item = openItem(context, sign().item)
        assert.ok(item.kind === 'item')
        const { rootSignatures } = wire.Statement.decode(item.statements[0]?.envelope ?? assert.fail())
        assert.equal(rootSignatures.length, k, 'no more than k sign')
      }),
      { numRuns: 200 }
    )
  })

  it('holds no seed in any item', () => {
    const mesh = found()
    const east = join(mesh)
    const seeds = [
      ...mesh.rootSeeds,
      mesh.adminSeed,
      mesh.clusterSeed,
      east.invite.inviteSeed,
      east.clusterSeed
    ]
    const items = [mesh.seatItem, mesh.clusterItem, east.admitted.item, east.certified.item]
    for (const item of items)
      for (const seed of seeds) assert.equal(Buffer.from(item).indexOf(Buffer.from(seed)), -1)
  })
})

describe('a statement beyond the rights of its signer', () => {
  const mesh = found()
  const { context } = mesh
  const by = { seatItem: mesh.seatItem, adminSeed: mesh.adminSeed }
  const limited = createChildSeat(context, {
    ...by,
    adminKey: keyId(crypto.publicKeyOf(mesh.adminSeed)),
    label: 'limited',
    rights: {
      names: ['b*'],
      prefixes: [cidr('10.0.0.0/8')],
      inviteDaysMax: 7,
      clustersMax: 1,
      maySeat: false
    }
  })
  const east = join(mesh)
  const rows: readonly (readonly [string, RegExp, () => unknown])[] = [
    [
      'an invite for another name',
      /invite: cluster: the seat may not invite east/,
      () => inviteTo(mesh, { seatItem: limited.item })
    ],
    [
      'an invite that lasts too long',
      /invite: notAfter: the span is longer than 366 days/,
      () => inviteTo(mesh, { notAfter: NOW + 367 * DAY })
    ],
    [
      'an invite whose prefixes overlap',
      /invite: pods: .*must be disjoint/,
      () => inviteTo(mesh, { services: [cidr('10.2.3.0/24')] })
    ],
    [
      'an invite with the seed of another seat',
      /adminSeed: the seed is not that/,
      () => inviteTo(mesh, { adminSeed: crypto.random(32) })
    ],
    [
      'a child of a seat that may not have one',
      /seat: under: seats are two deep at most/,
      () =>
        createChildSeat(context, {
          seatItem: limited.item,
          adminSeed: mesh.adminSeed,
          adminKey: mesh.westKey,
          label: '',
          rights: FIRST_SEAT_RIGHTS
        })
    ],
    [
      'a grant outside the prefixes of the seat',
      /grant: add: the prefix 192.168.0.0\/16 lies outside/,
      () =>
        grant(
          context,
          { ...by, seatItem: limited.item },
          {
            clusterKey: mesh.westKey,
            add: { pods: [cidr('192.168.0.0/16')], services: [] },
            drop: []
          }
        )
    ],
    [
      'a certificate with the seed of another invite',
      /inviteSeed: the seed is not that/,
      () =>
        certifyCluster(context, {
          inviteItem: east.invite.item,
          inviteSeed: crypto.random(32),
          clusterSeed: crypto.random(32)
        })
    ],
    [
      'an agent of another cluster’s key',
      /clusterSeed: the seed is not that/,
      () =>
        certifyAgent(context, {
          clusterItem: mesh.clusterItem,
          clusterSeed: east.clusterSeed,
          agentSeed: crypto.random(32),
          node: 'gw-1',
          roles: ['gateway'],
          generation: 0
        })
    ],
    [
      'an agent without an admission of its cluster',
      /ends in a clusterCert, but an admission/,
      () =>
        barByCluster(context, { clusterItem: east.certified.item, clusterSeed: east.clusterSeed }, undefined)
    ],
    [
      'an admission of a founding cluster',
      /a founding cluster needs no admission/,
      () =>
        admitCluster(context, {
          certItem: mesh.clusterItem,
          sponsorSeed: mesh.clusterSeed,
          seen: 1,
          time: NOW
        })
    ],
    [
      'a command under an item that is no seat',
      /ends in a clusterCert, but a seat is needed/,
      () =>
        decide(
          context,
          { ...by, seatItem: mesh.clusterItem },
          { name: clusterName('x'), clusterKey: mesh.westKey }
        )
    ],
    [
      'a mesh with more roots than people keep',
      /1 to 5 different root keys/,
      () => found({ k: 1, number: 6 })
    ]
  ]
  for (const [what, message, make] of rows)
    it(`is not made: ${what}`, () => {
      assert.throws(make, (error) => error instanceof RangeError && message.test(error.message))
    })
})
