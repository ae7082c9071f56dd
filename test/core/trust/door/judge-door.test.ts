// What a sponsor answers to a knock, and in which order it looks.
import assert from 'node:assert/strict'
import type { HandshakeCode } from '../../../../src/core/trust/door/codes.ts'
import { judgeDoor, seatsOf, type Sponsor } from '../../../../src/core/trust/door/judge-door.ts'
import { openCredential } from '../../../../src/core/trust/members/credential.ts'
import { BOUNDS } from '../../../../src/core/trust/set/bounds.ts'
import { DAY, NOW } from '../fixtures.ts'
import { addAll, look, RULES, type TestCluster, type TestInvite, type Thing, World } from '../set/world.ts'

interface Door {
  readonly beyond?: Partial<Pick<Sponsor, 'quota' | 'underlay'>>
  readonly ownNow?: number
  readonly skew?: number
  readonly by?: TestCluster
}

/** A mesh of one administrator and two clusters; West is the sponsor. */
function mesh(options: { readonly clusters?: number } = {}) {
  const world = new World()
  const west = world.found('west', ['10.1.0.0/16'])
  const seat = world.seat()
  const east = world.join(seat, west, 1, 'east', { pods: ['10.2.0.0/16'] })
  const bounds = { ...BOUNDS, clusters: options.clusters ?? BOUNDS.clusters }
  const set = addAll(world.set(RULES, bounds), [west, east])
  const judge = (thing: Thing, door: Door = {}) => {
    const item = set.open(thing.item)
    assert.ok(item.kind === 'item', JSON.stringify(item))
    set.addOpened([seatsOf(item)])
    const credential = openCredential(set, world.agent(door.by ?? west, 1).item)
    assert.ok(credential.kind === 'credential')
    const skews =
      door.skew === undefined ? [] : [1, 2, 3].map((at) => [`${at}` as never, [door.skew ?? 0]] as const)
    return judgeDoor(
      { set, ...look(set) },
      { item, peerSeconds: NOW },
      {
        credential,
        clocks: { ownNow: door.ownNow ?? NOW, neighbourSkews: new Map(skews) },
        quota: () => undefined,
        underlay: () => undefined,
        ...door.beyond
      }
    )
  }
  return { world, west, seat, east, set, judge }
}

function codeOf(verdict: ReturnType<typeof judgeDoor>): HandshakeCode | typeof verdict.kind {
  return verdict.kind === 'reject' ? verdict.code : verdict.kind
}

const FULL: Door['beyond'] = {
  quota: () => ({ code: 'quota', reason: 'ten clusters were admitted in an hour' })
}
const UNDERLAY: Door['beyond'] = {
  underlay: () => ({ code: 'underlay', reason: '10.4.0.0/16 is the network of a host' })
}

describe('a sponsor', () => {
  it('admits with a place above its own, above what it holds and above what is replaced', () => {
    const { world, seat, east, set, judge } = mesh()
    const invite = world.invite(seat, 'north', { pods: ['10.4.0.0/16'] })
    const verdict = judge(world.redeem(invite))
    assert.ok(verdict.kind === 'admit')
    assert.deepEqual([verdict.seen, verdict.invite.id], [2, invite.id])
    const late = world.join(seat, east, 900, 'late')
    addAll(set, [late])
    const by = judge(world.redeem(invite), { by: late })
    assert.ok(by.kind === 'admit')
    assert.equal(by.seen, 901)
    // The agent shows a later admission of its key than the one that the set orders it by.
    const twice = world.admit(world.invite(seat, 'late'), east, 5, { seed: late.seed })
    addAll(set, [twice])
    const shown = judge(world.redeem(invite), { by: late })
    assert.ok(shown.kind === 'admit')
    assert.equal(shown.seen, 901)
    const replacing = judge(world.redeem(world.invite(seat, 'late', { replaces: late })))
    assert.ok(replacing.kind === 'admit')
    assert.equal(replacing.seen, 901)
  })

  it('looks in the order of the page: the first check that fails answers', () => {
    const { world, seat, west, set, judge } = mesh({ clusters: 1 })
    const seed = world.crypto.random(32)
    const north = world.admit(world.invite(seat, 'north'), west, 2, { seed })
    addAll(set, [world.bar({ seat }, north)])
    const full: Door = { beyond: { ...FULL, ...UNDERLAY } }
    const late: Door = { ...full, ownNow: NOW + 100 * DAY }
    const wrong: Door = { ...late, skew: DAY }
    const refuse = (invite: TestInvite, door: Door, key?: Uint8Array) =>
      codeOf(judge(world.redeem(invite, key), door))
    // Everything is wrong at once; then one fault after the other is mended.
    const cancelled = world.invite(seat, 'east', { pods: ['10.2.0.0/16'] })
    addAll(set, [world.void(seat, cancelled.id)])
    const used = world.invite(seat, 'east', { pods: ['10.2.0.0/16'] })
    const roomy = mesh()
    addAll(roomy.set, [])
    assert.equal(refuse(cancelled, wrong, seed), 'cancelled')
    const taken = world.invite(seat, 'east', { pods: ['10.2.0.0/16'] })
    assert.equal(refuse(taken, wrong, seed), 'clock')
    assert.equal(refuse(taken, late, seed), 'expired')
    assert.equal(refuse(taken, { ...full, ownNow: NOW - DAY }, seed), 'notYet')
    assert.equal(refuse(taken, full), 'nameTaken')
    const overlapping = world.invite(seat, 'north', { pods: ['10.2.0.0/16'] })
    assert.equal(refuse(overlapping, full), 'prefixOverlap')
    const free = world.invite(seat, 'north', { pods: ['10.4.0.0/16'] })
    assert.equal(refuse(free, full), 'quota', 'the mesh is full')
    const free2 = roomy.world.invite(roomy.seat, 'north', { pods: ['10.4.0.0/16'] })
    const roomyCode = (door: Door) => codeOf(roomy.judge(roomy.world.redeem(free2), door))
    assert.equal(roomyCode(full), 'quota', 'this sponsor admits no more')
    assert.equal(roomyCode({ beyond: UNDERLAY }), 'underlay')
    assert.equal(roomyCode({}), 'admit')
    assert.ok(used)
  })

  it('refuses a used invite before it looks at the date, and a barred key after it', () => {
    const { world, seat, west, set, judge } = mesh()
    const invite = world.invite(seat, 'north')
    const seed = world.crypto.random(32)
    const north = world.admit(invite, west, 2, { seed })
    addAll(set, [north])
    const late = { ownNow: NOW + 100 * DAY }
    const used = judge(world.redeem(invite), late)
    assert.ok(used.kind === 'reject' && used.code === 'used')
    assert.deepEqual(used.explain, [set.itemOf(north.id)])
    assert.match(used.detail, /another key was admitted by this invite; ask for a new token/)
    assert.equal(codeOf(judge(world.redeem(invite, seed), late)), 'admitted', 'the same key at any time')
    const bar = world.bar({ seat }, north)
    addAll(set, [bar])
    const barred = judge(world.redeem(world.invite(seat, 'south'), seed))
    assert.ok(barred.kind === 'reject' && barred.code === 'barred')
    assert.deepEqual(barred.explain, [bar.item])
    assert.equal(codeOf(judge(world.redeem(world.invite(seat, 'south'), seed), late)), 'expired')
    assert.equal(
      codeOf(judge(world.redeem(invite, seed))),
      'barred',
      'it would be of no use to admit it again'
    )
  })

  it('answers the same key with its admission, and shows the cluster that signed it', () => {
    const { world, seat, west, east, set, judge } = mesh()
    const invite = world.invite(seat, 'north')
    const seed = world.crypto.random(32)
    const north = world.admit(invite, east, 7, { seed })
    addAll(set, [north])
    assert.deepEqual(judge(world.redeem(invite, seed)), {
      kind: 'admitted',
      item: north.item,
      sponsor: east.item
    })
    assert.deepEqual(judge(world.redeem(invite, seed), { by: east }), { kind: 'admitted', item: north.item })
    const south = world.admit(world.invite(seat, 'south'), west, 3, { seed })
    addAll(set, [south])
    const again = judge(world.redeem(invite, seed), { by: east })
    assert.deepEqual(
      again,
      { kind: 'admitted', item: north.item },
      'of several keys of one cluster, by this invite'
    )
  })

  it('shows of a signer with several admissions the latest one that is below the place it gave', () => {
    const { world, seat, east, set, judge } = mesh()
    const [fifth, late] = [5, 900].map((seen) =>
      world.admit(world.invite(seat, 'east'), east, seen, { seed: east.seed })
    )
    assert.ok(fifth && late)
    const invite = world.invite(seat, 'north')
    const seed = world.crypto.random(32)
    const north = world.admit(invite, east, 7, { seed })
    addAll(set, [fifth, late, north])
    assert.deepEqual(judge(world.redeem(invite, seed)), {
      kind: 'admitted',
      item: north.item,
      sponsor: fifth.item
    })
  })

  it('answers the same key also after its administrator was removed, when the removal keeps it', () => {
    const { world, west, set, judge } = mesh()
    const ann = world.seat()
    const invite = world.invite(ann, 'north')
    const seed = world.crypto.random(32)
    const north = world.admit(invite, west, 2, { seed })
    addAll(set, [north, world.void('roots', ann, [north])])
    assert.equal(codeOf(judge(world.redeem(invite, seed))), 'admitted')
    assert.equal(codeOf(judge(world.redeem(invite))), 'cancelled')
  })

  it('says void when the admission of this key fell with its sponsor', () => {
    const { world, seat, east, set, judge } = mesh()
    const invite = world.invite(seat, 'north')
    const seed = world.crypto.random(32)
    const bar = world.bar({ seat }, east, [])
    addAll(set, [world.admit(invite, east, 2, { seed }), bar])
    const verdict = judge(world.redeem(invite, seed))
    assert.ok(verdict.kind === 'reject' && verdict.code === 'void')
    assert.deepEqual(verdict.explain, [bar.item])
    assert.match(verdict.detail, /its sponsor is barred/)
  })

  it('admits no cluster while it does not stand itself', () => {
    const { world, seat, east, set, judge } = mesh()
    addAll(set, [world.bar({ seat }, east)])
    assert.equal(codeOf(judge(world.redeem(world.invite(seat, 'north')), { by: east })), 'busy')
    const stranger = world.found('stranger')
    assert.equal(codeOf(judge(world.redeem(world.invite(seat, 'north')), { by: stranger })), 'busy')
  })

  it('refuses what shows no invite and certificate', () => {
    const { world, seat, judge } = mesh()
    for (const thing of [seat, world.invite(seat, 'north'), world.found('other')])
      assert.equal(codeOf(judge(thing)), 'certificate')
  })

  it('takes at most four statements and 300 bytes to explain', () => {
    const { world, seat, set, judge } = mesh()
    const invite = world.invite(seat, 'north')
    addAll(
      set,
      Array.from({ length: 6 }, () => world.void(seat, invite.id))
    )
    const verdict = judge(world.redeem(invite))
    assert.ok(verdict.kind === 'reject' && verdict.code === 'cancelled')
    assert.equal(verdict.explain.length, 4)
    const long = judge(world.redeem(world.invite(seat, 'south')), {
      beyond: { underlay: () => ({ code: 'underlay', reason: 'ü'.repeat(400) }) }
    })
    assert.ok(long.kind === 'reject')
    assert.ok(new TextEncoder().encode(long.detail).length <= 300)
    assert.match(long.detail, /; ask for an invite with prefixes that no host uses$/)
  })
})
