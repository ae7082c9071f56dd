import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Origin } from '../../../src/core/model/values.ts'
import { settleClusterSecret } from '../../../src/core/trust/cluster-secret.ts'
import {
  clusterSecretData,
  readClusterSecret,
  SECRET_BOOTSTRAP_MAX,
  SECRET_SEATS_MAX,
  type ClusterSecret,
  type SecretReading
} from '../../../src/core/trust/cluster-secret-data.ts'
import type { KeyId } from '../../../src/core/trust/set/ids.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { type TestCluster, type TestInvite, type TestSeat, World } from './set/world.ts'

const world = new World({ crypto: createCrypto() })
const OWN = '/ip4/192.0.2.1/tcp/7946/p2p/me'
const seat = world.seat()
const founder = world.found('west')
const EMPTY = { seats: [], rootSeeds: [], rootExported: false, bootstrap: [] } as const

/** The secret of an admitted or founding cluster. */
function member(cluster: TestCluster, more: Partial<ClusterSecret> = {}): ClusterSecret {
  return checked({
    ...EMPTY,
    roots: world.roots,
    clusterSeed: cluster.seed,
    // The facts are read from the item, so only the item counts here.
    membership: { ...placeholder(cluster.key), kind: 'member', item: cluster.item },
    ...more
  })
}

/** The secret of a redeemed token. */
function pending(invite: TestInvite, seed?: Uint8Array): ClusterSecret {
  const cert = world.redeem(invite, seed)
  return checked({
    ...EMPTY,
    roots: world.roots,
    clusterSeed: cert.seed,
    membership: {
      ...placeholder(world.keyOf(cert.seed)),
      kind: 'pending',
      inviteItem: invite.item,
      inviteSeed: invite.seed,
      certItem: cert.item,
      replaces: undefined
    }
  })
}

function placeholder(clusterKey: KeyId) {
  return { cluster: 'x' as never, clusterKey, place: { seen: 0, id: founder.id } }
}

/** As it is read from the Secret again. */
function checked(secret: ClusterSecret): ClusterSecret {
  const found = read(clusterSecretData(secret))
  assert.ok(found.kind === 'secret', JSON.stringify(found))
  return found.secret
}

function read(data: Readonly<Record<string, unknown>>): SecretReading {
  return readClusterSecret(data, world.crypto)
}

function shared(one: TestSeat) {
  return { id: one.id, adminSeed: one.seed, seatItem: one.item }
}

function settle(ours: ClusterSecret, theirs: ClusterSecret | SecretReading, standing: readonly KeyId[] = []) {
  const found = 'kind' in theirs ? theirs : ({ kind: 'secret', secret: theirs } as const)
  return settleClusterSecret(ours, found, {
    origin: 'me' as Origin,
    addresses: ['/ip4/192.0.2.1/tcp/7946'],
    stands: (key) => standing.includes(key)
  })
}

const key = ({ membership }: ClusterSecret) => membership.clusterKey
const invite = world.invite(seat, 'east')
const east = member(world.admit(invite, founder, 1), { bootstrap: [OWN] })
const other = member(world.admit(world.invite(seat, 'east'), founder, 2), { bootstrap: [OWN] })
const knocking = { ...pending(invite), bootstrap: [OWN] }

describe('what the gateways of a cluster share in a Secret', () => {
  it('is read as it was written: admitted, founding or pending, with seats, root seeds and addresses', () => {
    const rootSeeds = world.rootSeeds
    for (const one of [
      east,
      knocking,
      member(founder, { seats: [shared(seat), shared(world.seat())], rootSeeds, bootstrap: [OWN] }),
      member(founder, { rootExported: true })
    ]) {
      const found = read(clusterSecretData(one))
      assert.ok(found.kind === 'secret')
      assert.deepEqual(clusterSecretData(found.secret), clusterSecretData(one))
    }
    assert.deepEqual([east.membership.kind, east.membership.cluster], ['member', 'east'])
    assert.deepEqual([knocking.membership.kind, knocking.membership.cluster], ['pending', 'east'])
  })

  it('is nothing where nothing was written', () => assert.deepEqual(read({}), { kind: 'empty' }))

  it('fits into a Secret of Kubernetes with seats at their bound', () => {
    const prefixes = Array.from({ length: 32 }, (_, at) => `10.${at}.0.0/16`)
    const names = Array.from(
      { length: 32 },
      (_, at) => `${'n'.repeat(60)}${String(at).padStart(2, '0')}`
    ).sort()
    const seats = Array.from({ length: SECRET_SEATS_MAX + 1 }, () => shared(world.seat({ names, prefixes })))
    const data = clusterSecretData({ ...east, seats })
    assert.ok(Object.values(data).join('').length < 1024 * 1024)
    const found = read(data)
    assert.ok(found.kind === 'secret' && found.secret.seats.length === SECRET_SEATS_MAX)
  })

  const good = clusterSecretData(member(founder, { seats: [shared(seat)], rootSeeds: world.rootSeeds }))
  const waiting = clusterSecretData(knocking)
  const damaged: readonly (readonly [what: string, data: Readonly<Record<string, unknown>>])[] = [
    ['something else', { token: 'eA==' }],
    ['the form of certificate chains', { seed: good['clusterSeed'], chain: 'eA==', state: btoa('member') }],
    ['no roots', { ...good, roots: undefined }],
    ['other roots', { ...good, roots: clusterSecretData(inOtherMesh())['roots'] }],
    ['neither an item nor an invite', { ...good, item: undefined }],
    ['a cluster seed that is not base64', { ...good, clusterSeed: '%%%' }],
    ['a short cluster seed', { ...good, clusterSeed: btoa('short') }],
    ['the cluster seed of another key', { ...good, clusterSeed: clusterSecretData(east)['clusterSeed'] }],
    ['an item with one bit changed', { ...good, item: flip(good['item']) }],
    ['the item of a seat', { ...good, item: base64(seat.item) }],
    ['a seat of another key', { ...good, seats: btoa(`${base64(world.seat().seed)} ${base64(seat.item)}`) }],
    ['a line that is no seat', { ...good, seats: btoa('rm -rf') }],
    ['a seed that is no root', { ...good, rootSeeds: base64(seat.seed) }],
    ['a list of no addresses', { ...good, bootstrap: btoa('rm -rf') }],
    ['too many addresses', { ...good, bootstrap: btoa(`${OWN}\n`.repeat(SECRET_BOOTSTRAP_MAX + 1)) }],
    ['an invite seed of another key', { ...waiting, inviteSeed: base64(seat.seed) }],
    [
      'the certificate of another invite',
      { ...waiting, certItem: clusterSecretData(pending(world.invite(seat, 'east')))['certItem'] }
    ],
    ['numbers', { roots: 1, clusterSeed: 2, item: 3 }]
  ]
  for (const [what, data] of damaged) {
    it(`is corrupt with ${what}, and the reason quotes nothing of it`, () => {
      const found = read(data)
      assert.equal(found.kind, 'corrupt')
      for (const text of Object.values(data))
        assert.ok(typeof text !== 'string' || text === '' || !JSON.stringify(found).includes(text))
      assert.deepEqual(settle(east, found).kind, 'conflict', 'and is not written over')
    })
  }
})

describe('what a gateway does about the Secret', () => {
  it('leaves it where it is as it should be, and writes its own where there is none', () => {
    assert.deepEqual(settle(east, east), { kind: 'agreed' })
    assert.deepEqual(settle({ ...east, bootstrap: [] }, { kind: 'empty' }), { kind: 'write', secret: east })
  })

  it('says that its key was admitted, and learns it from another gateway', () => {
    const before = { ...pending(invite, east.clusterSeed), bootstrap: [OWN] }
    assert.equal(key(before), key(east))
    assert.deepEqual(settle(east, before), { kind: 'write', secret: east })
    assert.deepEqual(settle(before, east), { kind: 'take', secret: east })
  })

  it('keeps the first of two admissions of one key', () => {
    const later = member(world.admit(invite, founder, 9, { seed: east.clusterSeed }), { bootstrap: [OWN] })
    assert.deepEqual(settle(later, east), { kind: 'take', secret: east })
    assert.deepEqual(settle(east, later), { kind: 'write', secret: east })
  })

  it('takes the key that stands: its own or that of the Secret', () => {
    assert.equal(settle(east, other, [key(east)]).kind, 'write')
    const taken = settle(east, other, [key(other)])
    assert.ok(taken.kind === 'take' && key(taken.secret) === key(other))
    for (const standing of [[], [key(east), key(other)]]) {
      const verdict = settle(east, other, standing)
      assert.equal(verdict.kind === 'conflict' && verdict.code, 'other')
    }
  })

  it('gives up a key that no member has admitted for another, and never one that a member has', () => {
    const second = { ...pending(world.invite(seat, 'east')), bootstrap: [OWN] }
    for (const there of [east, second]) {
      const taken = settle(knocking, there)
      assert.ok(taken.kind === 'take' && key(taken.secret) === key(there))
    }
    const written = settle(east, second)
    assert.ok(written.kind === 'write' && key(written.secret) === key(east))
    // It was admitted although the Secret does not say so yet.
    const admitted = settle(east, second, [key(second)])
    assert.ok(admitted.kind === 'take' && key(admitted.secret) === key(second))
  })

  it('does not touch a key that is made to replace its own, and puts its own in the place of what it replaces', () => {
    const place = world.admit(world.invite(seat, 'east'), founder, 3)
    const old = member(place, { bootstrap: [OWN] })
    const next = { ...pending(world.invite(seat, 'east', { replaces: place })), bootstrap: [OWN] }
    assert.deepEqual(settle(old, next, [key(old)]), { kind: 'wait' })
    const taken = settle(old, next, [key(next)])
    assert.ok(taken.kind === 'take' && key(taken.secret) === key(next))
    const written = settle(next, old, [key(old)])
    assert.ok(written.kind === 'write' && key(written.secret) === key(next))
  })

  it('brings seats together, and root seeds until one gateway has exported them', () => {
    const [one, two] = [shared(seat), shared(world.seat())]
    const rootSeeds = world.rootSeeds
    const [left, right] = [
      { ...east, seats: [one], rootSeeds },
      { ...east, seats: [two] }
    ]
    const written = settle(left, right)
    assert.ok(written.kind === 'write')
    assert.deepEqual(new Set(written.secret.seats.map(({ id }) => id)), new Set([one.id, two.id]))
    assert.deepEqual(written.secret.rootSeeds, rootSeeds)
    assert.equal(settle(right, checked(written.secret)).kind, 'take')
    const exported = settle(left, { ...right, rootExported: true })
    assert.ok(
      exported.kind === 'write' && exported.secret.rootExported && exported.secret.rootSeeds.length === 0
    )
    const dropped = settle({ ...left, seats: [] }, { ...east, seats: [], rootExported: true })
    assert.ok(dropped.kind === 'take' && dropped.secret.rootSeeds.length === 0)
  })

  it('puts its addresses in the place of its former ones, and does not fight for a place in a full list', () => {
    const found = { ...east, bootstrap: ['/dns/a/p2p/other', '/ip4/192.0.2.9/tcp/1/p2p/me'] }
    assert.deepEqual(settle(east, found), {
      kind: 'write',
      secret: { ...east, bootstrap: ['/dns/a/p2p/other', OWN] }
    })
    const full = Array.from({ length: SECRET_BOOTSTRAP_MAX }, (_, at) => `/dns/a/p2p/${at}`)
    assert.deepEqual(settle(east, { ...east, bootstrap: full }), { kind: 'agreed' })
  })

  it('gives an agent without an address the addresses of the gateways that came into the Secret after it had read it', () => {
    const found = { ...east, bootstrap: ['/dns/sponsor/p2p/other', '/dns/gateway/p2p/own'] }
    const node = { origin: 'me' as Origin, addresses: [], stands: () => true }
    const before = { ...east, bootstrap: ['/dns/sponsor/p2p/other'] }
    const verdict = settleClusterSecret(before, { kind: 'secret', secret: found }, node)
    assert.ok(verdict.kind === 'take')
    assert.deepEqual(verdict.secret.bootstrap, found.bootstrap)
    assert.deepEqual(settleClusterSecret(verdict.secret, { kind: 'secret', secret: found }, node), {
      kind: 'agreed'
    })
  })

  it('refuses the Secret of another cluster or mesh', () => {
    for (const there of [member(founder), inOtherMesh()]) {
      const verdict = settle(east, there)
      assert.equal(verdict.kind === 'conflict' && verdict.code, 'mismatch')
    }
  })

  it('comes to one content with any two gateways, in any order of their checks (invariant 4)', () => {
    const place = world.admit(world.invite(seat, 'east'), founder, 4)
    const states = [
      east,
      knocking,
      member(place, { seats: [shared(seat)], rootSeeds: world.rootSeeds }),
      { ...pending(world.invite(seat, 'east', { replaces: place })), seats: [shared(world.seat())] },
      { ...pending(invite, east.clusterSeed), rootExported: true }
    ]
    const anyState = fc.constantFrom(...states)
    const anyAddresses = fc.constantFrom(['/ip4/192.0.2.1/tcp/7946'], [])
    fc.assert(
      fc.property(
        anyState,
        anyState,
        anyAddresses,
        fc.array(fc.boolean(), { minLength: 12, maxLength: 12 }),
        (a, b, addresses, turns) => {
          let secret: SecretReading = { kind: 'empty' }
          const gateways = [a, b]
          const verdicts: string[] = []
          // What the mesh thinks: the keys that a member admitted stand.
          const standing = new Set([a, b].filter(({ membership }) => membership.kind === 'member').map(key))
          for (const turn of [...turns, ...turns.flatMap(() => [true, false])]) {
            const at = turn ? 1 : 0
            const verdict = settleClusterSecret(gateways[at] ?? a, secret, {
              origin: ['me', 'you'][at] as Origin,
              addresses: at === 0 ? addresses : ['/ip4/192.0.2.1/tcp/7946'],
              stands: (each) => standing.has(each)
            })
            verdicts.push(verdict.kind)
            if (verdict.kind === 'write') secret = { kind: 'secret', secret: verdict.secret }
            if (verdict.kind === 'take') gateways[at] = verdict.secret
          }
          const end = verdicts.slice(-4)
          assert.ok(
            end.every((kind) => kind !== 'write' && kind !== 'take'),
            verdicts.join()
          )
        }
      )
    )
  })
})

/** The founding cluster of the same name in another mesh. */
function inOtherMesh(): ClusterSecret {
  // The seeds of a World are the same in each run, so another mesh has another number of roots.
  const elsewhere = new World({ crypto: createCrypto(), roots: 2 })
  const cluster = elsewhere.found('east')
  const found = readClusterSecret(
    clusterSecretData({
      ...EMPTY,
      roots: elsewhere.roots,
      clusterSeed: cluster.seed,
      membership: { ...placeholder(cluster.key), kind: 'member', item: cluster.item }
    }),
    elsewhere.crypto
  )
  assert.ok(found.kind === 'secret')
  return found.secret
}

function flip(text = ''): string {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
  bytes[bytes.length - 3] = (bytes.at(-3) ?? 0) ^ 1
  return base64(bytes)
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
