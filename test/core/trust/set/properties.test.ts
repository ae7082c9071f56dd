// The properties P1 to P9 of docs/trust-set.md, as far as they are about the pure core. P6, a join killed at any point,
// is about the disk; P10 is in mutants.test.ts.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { BOUNDS, type Bounds } from '../../../../src/core/trust/set/bounds.ts'
import type { StatementId } from '../../../../src/core/trust/set/ids.ts'
import type { TrustSet } from '../../../../src/core/trust/set/trust-set.ts'
import { NOW } from '../fixtures.ts'
import { History, steps } from './history.ts'
import { merge, summary } from './scenarios.ts'
import { look, RULES, type TestSeat, type Thing } from './world.ts'

const RUNS = { numRuns: 40 }
const YEAR = 365 * 86_400

/** Bounds that a short history exceeds. */
const TIGHT: Bounds = {
  ...BOUNDS,
  rootSeats: 2,
  childSeats: 1,
  smallStatements: 5,
  largeStatements: 1,
  claimantsOfInvite: 2,
  clusters: 4,
  barsOfCluster: 1
}

/** A seat beyond its bound takes others' room for a while; that heals by exchange only (bounds.ts). */
const TIGHT_BUT_SEATS: Bounds = { ...TIGHT, rootSeats: BOUNDS.rootSeats, childSeats: BOUNDS.childSeats }

describe('the trust set, for any history', () => {
  it('does not depend on order, repetition, partition or merge (P1)', () => {
    fc.assert(
      fc.property(steps(), fc.infiniteStream(fc.nat(1000)), (list, numbers) => {
        const history = new History().run(list)
        const inOrder = filled(history, history.things)
        const shuffled = shuffle([...history.things, ...history.things.slice(0, 5)], numbers)
        const once = filled(history, shuffled)
        same(once, inOrder)
        const side = history.things.filter(() => (numbers.next().value ?? 0) % 2 === 0)
        const [left, right] = [
          filled(history, side),
          filled(
            history,
            history.things.filter((one) => !side.includes(one))
          )
        ]
        same(merge(merge(filled(history, []), left), right), merge(merge(filled(history, []), right), left))
        // A side may wait for sponsors of the other one; whatever was signed is in the union of both.
        same(merge(filled(history, side), filled(history, history.things)), inOrder)
      }),
      RUNS
    )
  })

  it('is cut at its bounds in the same way in any order (P1, P8)', () => {
    const overfull = steps(['child', 'join', 'admit', 'bar', 'decide', 'grant', 'leave', 'seat', 'void'], 30)
    fc.assert(
      fc.property(overfull, fc.infiniteStream(fc.nat(1000)), (list, numbers) => {
        const history = new History()
        // One sponsor: an admission that loses its sponsor waits, and comes back by the next exchange.
        const founderOnly = list.map((step) =>
          step.what === 'join' || step.what === 'admit' ? { ...step, b: 0 } : step
        )
        history.run(founderOnly)
        const inOrder = filled(history, history.things, TIGHT_BUT_SEATS)
        const shuffled = filled(history, shuffle(history.things, numbers), TIGHT_BUT_SEATS)
        same(shuffled, inOrder)
        same(merge(shuffled, filled(history, history.things.toReversed(), TIGHT_BUT_SEATS)), inOrder)
        assert.deepEqual(beyond(inOrder, TIGHT_BUT_SEATS), [])
      }),
      RUNS
    )
  })

  it('converges by exchange at its bounds, with kept statements and sponsors that were cut', () => {
    fc.assert(
      fc.property(steps(), fc.infiniteStream(fc.nat(1000)), (list, numbers) => {
        const history = new History().run(list)
        const members = [history.things, history.things.toReversed(), shuffle(history.things, numbers)].map(
          (things) => filled(history, things, TIGHT)
        )
        for (let round = 0; round < 6; round++)
          for (const one of members) for (const other of members) if (one !== other) merge(one, other)
        const [first, ...others] = members
        for (const other of others) if (first !== undefined) same(other, first)
      }),
      RUNS
    )
  })

  it('has the same standing with every clock a year off (P2), and with all peers silent (P9)', () => {
    fc.assert(
      fc.property(steps(), (list) => {
        const views = [NOW - YEAR, NOW, NOW + YEAR].map((now) => {
          const history = new History({ now }).run(list)
          const { standing } = look(filled(history, history.things))
          // Ids are hashes of bodies with their dates, so the things are compared by their place in the history.
          return history.clusters.map(({ key }) => standing.clusters.get(key)?.verdict.rule)
        })
        assert.equal(views.length, 3)
        assert.deepEqual(views[0], views[1])
        assert.deepEqual(views[2], views[1])
      }),
      RUNS
    )
  })

  it('is not changed by what a voided seat signs and nobody keeps (P3)', () => {
    fc.assert(
      fc.property(steps(), steps(undefined, 12), fc.nat(1000), (list, later, choice) => {
        const history = new History().run(list)
        const removed = history.seats[choice % history.seats.length] as TestSeat
        const kept = history.things.filter((_, at) => (at + choice) % 2 === 0 && history.seats.length > 0)
        history.things.push(history.world.void('roots', removed, kept))
        const set = filled(history, history.things)
        const before = summary(look(set))
        const held = history.things.length
        history.run(
          later.filter(({ what }) => what !== 'seat'),
          [removed]
        )
        addEach(set, history.things.slice(held))
        assert.deepEqual(summary(look(set)), before)
      }),
      RUNS
    )
  })

  it('loses no other cluster when a sponsor is barred without keepOnly (P4)', () => {
    fc.assert(
      fc.property(steps(), fc.nat(1000), (list, choice) => {
        const history = new History().run(list)
        const set = filled(history, history.things)
        const before = look(set)
        const sponsor = history.clusters[choice % history.clusters.length] ?? history.founder
        addEach(set, [history.world.bar({ seat: history.seats[0] as TestSeat }, sponsor)])
        const after = look(set)
        for (const cluster of history.clusters)
          if (cluster !== sponsor) assert.equal(after.stands(cluster), before.stands(cluster))
      }),
      RUNS
    )
  })

  it('forwards as before when further claimants come (P5), and E1 is stable', () => {
    fc.assert(
      fc.property(steps(), steps(['join', 'admit', 'grant'], 8), (list, later) => {
        const history = new History().run(list)
        const set = filled(history, history.things)
        const before = look(set)
        assert.deepEqual(look(set, { owners: before.owners }).ownership.owners, before.owners)
        const held = history.things.length
        history.run(later)
        addEach(set, history.things.slice(held))
        const after = look(set, { owners: before.owners })
        for (const [claim, key] of before.owners) assert.equal(after.owners.get(claim), key, claim)
      }),
      RUNS
    )
  })

  it('is the current state again after an old store was synchronised (P7)', () => {
    fc.assert(
      fc.property(steps(), fc.nat(1000), (list, at) => {
        const history = new History().run(list)
        const current = filled(history, history.things)
        const old = filled(history, history.things.slice(0, at % history.things.length))
        same(merge(old, current), current)
      }),
      RUNS
    )
  })

  it('gives a flooding seat no room of another one (P8)', () => {
    fc.assert(
      fc.property(steps(undefined, 12), fc.boolean(), (list, child) => {
        const history = new History()
        const { world } = history
        const [honest, parent] = [world.seat(), world.seat()]
        const sibling = world.seat({ under: parent })
        const rogue = child ? world.seat({ under: parent }) : world.seat()
        const mine = [
          world.join(honest, history.founder, 50, 'aa'),
          world.join(sibling, history.founder, 51, 'ab'),
          world.grant(sibling, history.founder, { pods: ['10.9.0.0/17'] }),
          world.grant(parent, history.founder, { pods: ['10.9.128.0/17'] })
        ]
        const bounds = { ...TIGHT, rootSeats: 8, childSeats: 4, smallStatements: 6, clusters: 8 }
        const set = filled(history, [history.founder, honest, parent, sibling, rogue, ...mine], bounds)
        const held = history.things.length
        const flood = Array.from({ length: 4 }, () => list).flat()
        history.run(
          flood.filter(({ what }) => what !== 'seat'),
          [rogue]
        )
        addEach(set, history.things.slice(held))
        assert.deepEqual(beyond(set, bounds), [])
        for (const { id } of [honest, parent, sibling, ...mine]) assert.ok(set.has(id), 'it was displaced')
      }),
      RUNS
    )
  })
})

/** A member that took these things, whether it held them or not. */
function filled(history: History, things: readonly Thing[], bounds: Bounds = BOUNDS): TrustSet {
  return addEach(history.world.set(RULES, bounds), things)
}

/** A statement may wait for its sponsor, or break a right of its seat: histories are made of both. */
function addEach(set: TrustSet, things: readonly Thing[]): TrustSet {
  for (const { item } of things) set.add(item)
  return set
}

function same(left: TrustSet, right: TrustSet): void {
  assert.deepEqual(idsOf(left), idsOf(right))
  assert.deepEqual(summary(look(left)), summary(look(right)))
}

function idsOf(set: TrustSet): readonly StatementId[] {
  return [...set.ids()].sort()
}

function shuffle<T>(list: readonly T[], numbers: Iterator<number>): readonly T[] {
  return list
    .map((item) => ({ item, at: Number(numbers.next().value) }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}

/** The bounds that a set exceeds, counted without the code under test. */
function beyond(set: TrustSet, bounds: Bounds): readonly string[] {
  const seats = [...set.seats.values()]
  const admissions = [...set.admissions.values()]
  const roots = seats.filter(({ statement }) => statement.under === undefined)
  const ofRoot = (id: StatementId | undefined) => id && set.seats.get(id)?.root
  const counts: (readonly [string, number, number])[] = [
    ['root seats', roots.length, bounds.rootSeats],
    ['clusters', admissions.length, bounds.clusters]
  ]
  for (const { statement } of roots) {
    const below = [...set.commands.values()].filter(({ seat }) => ofRoot(seat) === statement.id)
    const small = below.filter(({ envelope }) => envelope.length <= 512)
    counts.push([
      'children',
      seats.filter((seat) => seat.statement.under === statement.id).length,
      bounds.childSeats
    ])
    counts.push(['small', small.length, bounds.smallStatements])
    counts.push(['large', below.length - small.length, bounds.largeStatements])
  }
  for (const list of Map.groupBy(admissions, ({ invite }) => invite.statement.id).values())
    counts.push(['of one invite', list.length, bounds.claimantsOfInvite])
  for (const list of Map.groupBy(admissions, ({ invite }) => invite.statement.under).values())
    counts.push([
      'of one seat',
      list.length,
      set.seats.get(list[0]?.invite.statement.under ?? (roots[0]?.statement.id as StatementId))?.statement
        .clustersMax ?? 0
    ])
  return counts.filter(([, count, max]) => count > max).map(([what, count]) => `${what}: ${count}`)
}
