// What happens in each situation of docs/trust-set.md, as functions of the rules: scenarios.test.ts runs them with the
// rules as they hold, and mutants.test.ts with one rule replaced (P10).
import assert from 'node:assert/strict'
import { encodeItem } from '../../../../src/core/trust/set/form.ts'
import { signStatement } from '../../../../src/core/trust/set/signatures.ts'
import { shortOf } from '../../../../src/core/trust/set/ids.ts'
import type { Refusal } from '../../../../src/core/trust/set/statement.ts'
import { clusterName } from '../fixtures.ts'
import { addAll, look, lookAtAgents, type Rules, type TestCluster, type TestSeat, World } from './world.ts'

export interface Scenario {
  readonly name: string
  readonly run: (rules: Rules) => void
}

const WEST = ['10.1.0.0/16']
const EAST = ['10.2.0.0/16']

/** A mesh of two administrators, with a founding cluster and one cluster of each administrator. */
function two(rules: Rules) {
  const world = new World()
  const founder = world.found('west', WEST)
  const [ann, bob] = [world.seat(), world.seat({ names: ['b*'] })]
  const east = world.join(ann, founder, 1, 'east', { pods: EAST })
  const berlin = world.join(bob, founder, 2, 'berlin', { pods: ['10.3.0.0/16'] })
  const set = addAll(world.set(rules), [founder, ann, bob, east, berlin])
  return { world, founder, ann, bob, east, berlin, set, see: () => look(set, { rules }) }
}

function refusedBy(rules: Rules, world: World, item: Uint8Array): Refusal['rule'] | 'none' {
  const added = world.set(rules).add(item)
  return added.kind === 'refused' ? added.rule : 'none'
}

const FORM: readonly Scenario[] = [
  {
    name: 'F1: an item with a field that no version wrote is refused',
    run(rules) {
      const world = new World()
      const { item } = world.seat()
      assert.equal(refusedBy(rules, world, Uint8Array.from([...item, 0x48, 0x01])), 'F1')
      const { envelopes } = world.seat()
      const twice = Uint8Array.from([...(envelopes[0] ?? []), 0x12, 0x00])
      assert.equal(refusedBy(rules, world, encodeItem([twice])), 'F1')
    }
  },
  {
    name: 'F2: a key of small order and a signature of a small R are refused',
    run(rules) {
      const world = new World()
      const zero = '0'.repeat(64) as ReturnType<World['keyOf']>
      const seat = world.byRoots({
        kind: 'seat',
        under: undefined,
        adminKey: zero,
        label: '',
        names: ['*'],
        prefixes: [],
        inviteDaysMax: 1,
        clustersMax: 1,
        maySeat: false
      })
      assert.equal(refusedBy(rules, world, seat.item), 'F2')
      const sign = (): Uint8Array => Uint8Array.of(1, ...new Uint8Array(63))
      const child = world.seat({ under: world.seat() })
      const { envelope } = signStatement(
        { crypto: { ...world.crypto, sign }, roots: world.roots },
        { kind: 'decide', under: child.id, name: clusterName('east'), clusterKey: world.keyOf(child.seed) },
        { issuer: child.seed }
      )
      assert.equal(refusedBy(rules, world, encodeItem([...child.envelopes, envelope])), 'F2')
    }
  },
  {
    name: 'F3: a child seat lies within its parent, which may create seats, and has no children',
    run(rules) {
      const world = new World()
      const parent = world.seat({ names: ['a*', 'x'], prefixes: EAST, inviteDaysMax: 5, clustersMax: 3 })
      const under = { under: parent, names: ['a*'], prefixes: EAST, inviteDaysMax: 5, clustersMax: 3 }
      assert.equal(refusedBy(rules, world, world.seat(under).item), 'none')
      assert.equal(refusedBy(rules, world, world.seat({ ...under, names: ['ab', 'abc*', 'x'] }).item), 'none')
      for (const wider of [
        { names: ['*'] },
        { names: ['b'] },
        { names: ['x*'] },
        { prefixes: ['10.0.0.0/8'] },
        { inviteDaysMax: 6 },
        { clustersMax: 4 }
      ])
        assert.equal(
          refusedBy(rules, world, world.seat({ ...under, ...wider }).item),
          'F3',
          JSON.stringify(wider)
        )
      const grandchild = world.seat({ ...under, under: world.seat(under) })
      assert.equal(refusedBy(rules, world, grandchild.item), 'F3')
      const leaf = world.seat({ maySeat: false })
      assert.equal(refusedBy(rules, world, world.seat({ under: leaf }).item), 'F3')
    }
  },
  {
    name: 'F4: an invite, a grant and a decision lie within the rights of their seat',
    run(rules) {
      const world = new World()
      const founder = world.found('west')
      const seat = world.seat({ names: ['a*'], prefixes: EAST, inviteDaysMax: 5 })
      const set = addAll(world.set(rules), [founder])
      const admitted = (name: string, options: Parameters<World['invite']>[2]) => {
        const added = set.add(world.join(seat, founder, 1, name, options).item)
        return added.kind === 'refused' ? added.rule : 'none'
      }
      assert.equal(admitted('aa', { pods: ['10.2.3.0/24'], days: 5 }), 'none')
      assert.equal(admitted('b', { pods: EAST, days: 5 }), 'F4')
      assert.equal(admitted('aa', { pods: WEST, days: 5 }), 'F4')
      assert.equal(admitted('aa', { services: WEST, days: 5 }), 'F4')
      assert.equal(admitted('aa', { pods: EAST, days: 6 }), 'F4')
    }
  },
  {
    name: 'F4: a grant adds prefixes of its seat only',
    run(rules) {
      const { world, bob, berlin, ann } = two(rules)
      const narrow = world.seat({ prefixes: EAST })
      assert.equal(refusedBy(rules, world, world.grant(narrow, berlin, { pods: WEST }).item), 'F4')
      assert.equal(refusedBy(rules, world, world.grant(ann, berlin, { pods: WEST }).item), 'none')
      assert.equal(refusedBy(rules, world, world.grant(bob, berlin, { drop: WEST }).item), 'none')
    }
  },
  {
    name: 'F4: a seat decides on its own names only',
    run(rules) {
      const { world, bob, berlin, east } = two(rules)
      assert.equal(refusedBy(rules, world, world.decide(bob, 'berlin', berlin).item), 'none')
      assert.equal(refusedBy(rules, world, world.decide(bob, 'east', east).item), 'F4')
    }
  },
  {
    name: 'F4: a certificate bears the name of its invite',
    run(rules) {
      const { world, founder, bob, set } = two(rules)
      const invite = world.invite(bob, 'bern')
      const added = set.add(world.admit(invite, founder, 3, { name: 'east' }).item)
      assert.equal(added.kind === 'refused' && added.rule, 'F4')
    }
  },
  {
    name: 'F5: an admission waits for its sponsor, and has a higher place',
    run(rules) {
      const { world, founder, ann, east, set, see } = two(rules)
      const south = world.join(ann, east, 1, 'south')
      const added = set.add(south.item)
      assert.equal(added.kind === 'refused' && added.rule, 'waiting')
      assert.ok(!see().standing.clusters.has(south.key))
      const later = world.join(ann, founder, 3, 'later')
      const below = world.join(ann, later, 4, 'below')
      assert.equal(set.add(below.item).kind, 'refused')
      addAll(set, [later])
      assert.ok(see().stands(below), 'the sponsor came, so the admission came into the set')
      assert.equal(set.nextSeen(below.key, undefined), 5)
      assert.equal(set.nextSeen(south.key, undefined), undefined)
    }
  }
]

const STANDING: readonly Scenario[] = [
  {
    name: 'S1: roots, the parent and the seat itself fell a seat; siblings and children do not',
    run(rules) {
      const { world, founder, ann, bob } = two(rules)
      const child = world.seat({ under: ann })
      const other = world.seat({ under: ann })
      const cluster = world.join(child, founder, 3, 'child')
      const fells = (by: TestSeat | 'roots', target: TestSeat) => {
        const set = addAll(world.set(rules), [
          founder,
          ann,
          bob,
          child,
          other,
          cluster,
          world.void(by, target)
        ])
        return look(set, { rules }).standing.seats.get(target.id)?.stands === false
      }
      assert.ok(fells('roots', ann) && fells('roots', child))
      assert.ok(fells(ann, child) && fells(ann, ann) && fells(child, child))
      assert.ok(!fells(bob, ann), 'siblings cannot remove each other')
      assert.ok(!fells(child, ann), 'a child cannot remove its parent')
      assert.ok(!fells(other, child), 'a child cannot remove its sibling')
    }
  },
  {
    name: 'S1: a child seat falls with its parent, unless it is kept',
    run(rules) {
      const { world, founder, ann } = two(rules)
      const child = world.seat({ under: ann })
      const cluster = world.join(child, founder, 3, 'child')
      const base = [founder, cluster]
      const bare = look(addAll(world.set(rules), [...base, world.void('roots', ann)]), { rules })
      assert.ok(!bare.stands(cluster))
      const kept = look(addAll(world.set(rules), [...base, world.void('roots', ann, [child])]), { rules })
      assert.ok(kept.stands(cluster))
    }
  },
  {
    name: 'S2: what a voided seat signed falls, but for what every Void keeps',
    run(rules) {
      const { world, founder, ann, east, berlin, set, see } = two(rules)
      const ban = world.bar({ seat: ann }, berlin)
      addAll(set, [ban])
      assert.ok(!see().stands(berlin))
      addAll(set, [world.void('roots', ann, [east])])
      assert.ok(see().stands(berlin), 'the bar fell with its seat')
      assert.ok(see().stands(east), 'it is kept')
      assert.deepEqual(see().standing.commands.get(ban.id)?.rule, 'S2')
      addAll(set, [world.void('roots', ann, [ban])])
      assert.ok(!see().stands(east) && see().stands(berlin) && see().stands(founder))
    }
  },
  {
    name: 'S2: a Void of a statement comes from its seat, an ancestor, or a seat that covers the name',
    run(rules) {
      const { world, ann, bob, east, berlin, founder } = two(rules)
      const child = world.seat({ under: ann, names: ['c*'] })
      const chur = world.join(child, founder, 3, 'chur')
      const falls = (by: TestSeat | 'roots', target: TestCluster) => {
        const set = addAll(world.set(rules), [founder, east, berlin, chur, world.void(by, target)])
        return !look(set, { rules }).stands(target)
      }
      assert.ok(falls('roots', east) && falls(ann, east) && falls(bob, berlin))
      assert.ok(falls(ann, chur) && falls(child, chur), 'its seat and the parent')
      assert.ok(falls(ann, berlin), 'this seat covers every name')
      assert.ok(!falls(bob, east) && !falls(bob, chur) && !falls(child, east))
    }
  },
  {
    name: 'S2: a Void cannot be voided, and one of a fallen seat does not count',
    run(rules) {
      const { world, ann, east, set, see } = two(rules)
      const cancel = world.void(ann, east)
      addAll(set, [cancel, world.void(ann, cancel)])
      assert.ok(!see().stands(east))
      addAll(set, [world.void('roots', ann, [east])])
      assert.ok(see().stands(east), 'the Void of the fallen seat is not kept')
    }
  },
  {
    name: 'S3: a bar with keepOnly ends the admissions of its target, but for those it names',
    run(rules) {
      const { world, ann, bob, east, set, see } = two(rules)
      const [kept, lost] = [world.join(ann, east, 3, 'kept'), world.join(ann, east, 4, 'lost')]
      const basel = world.join(bob, east, 5, 'basel')
      const narrow = world.seat({ names: ['east', 'kept', 'lost'] })
      addAll(set, [kept, lost, basel, world.bar({ seat: narrow }, east, [kept])])
      assert.ok(!see().stands(east) && see().stands(kept) && !see().stands(lost))
      assert.ok(see().stands(basel), 'the seat may not decide on this name')
    }
  },
  {
    name: 'S3: the fall of a sponsor alone changes no other cluster (P4)',
    run(rules) {
      const { world, ann, east, set, see } = two(rules)
      const south = world.join(ann, east, 3, 'south')
      addAll(set, [south, world.bar({ seat: ann }, east)])
      assert.ok(!see().stands(east) && see().stands(south))
    }
  },
  {
    name: 'S4: a decision adopts a cluster whose administrator was removed; a bar is stronger',
    run(rules) {
      const { world, ann, bob, berlin, set, see } = two(rules)
      addAll(set, [world.void('roots', bob)])
      assert.ok(!see().stands(berlin))
      addAll(set, [world.decide(ann, 'berlin', berlin)])
      assert.ok(see().stands(berlin))
      assert.equal(see().standing.clusters.get(berlin.key)?.verdict.rule, 'S4')
      addAll(set, [world.bar({ seat: ann }, berlin)])
      assert.ok(!see().stands(berlin))
    }
  },
  {
    name: 'S4: a decision on one name does not adopt the key under another',
    run(rules) {
      const { world, ann, bob, berlin, set, see } = two(rules)
      addAll(set, [world.void('roots', bob), world.decide(ann, 'bern', berlin)])
      assert.ok(!see().stands(berlin))
    }
  },
  {
    name: 'S5: a bar counts from a seat that covers the name, and from the cluster about itself',
    run(rules) {
      const { world, bob, east, berlin, founder, set, see } = two(rules)
      addAll(set, [world.bar({ seat: bob }, east), world.bar({ seat: bob }, founder)])
      assert.ok(see().stands(east) && see().stands(founder))
      addAll(set, [world.bar({ cluster: berlin }, berlin)])
      assert.ok(!see().stands(berlin))
      const foreign = set.add(world.bar({ cluster: berlin }, east).item)
      assert.equal(foreign.kind === 'refused' && foreign.rule, 'F4')
      const limiting = set.add(world.bar({ cluster: east }, east, []).item)
      assert.equal(limiting.kind === 'refused' && limiting.rule, 'F1', 'only a seat limits admissions')
    }
  },
  {
    name: 'S5: a replacement takes the place, the grants and the decisions of the old key',
    run(rules) {
      const { world, founder, ann, east, set, see } = two(rules)
      const rival = world.join(ann, founder, 5, 'east', { pods: EAST })
      addAll(set, [rival, world.grant(ann, east, { pods: ['10.9.0.0/16'] })])
      const fresh = world.join(ann, founder, 9, 'east', { pods: EAST, replaces: east })
      addAll(set, [fresh])
      assert.ok(!see().stands(east) && see().stands(fresh) && see().stands(rival))
      assert.equal(see().owner('east'), fresh.key, 'it has the place of the key that it replaced')
      assert.deepEqual(see().pods(fresh), ['10.2.0.0/16', '10.9.0.0/16'])
      addAll(set, [world.decide(ann, 'east', east)])
      assert.equal(see().owner('east'), fresh.key)
      assert.deepEqual(see().pods(rival), [])
      addAll(set, [world.bar({ seat: ann }, fresh)])
      assert.ok(!see().stands(east), 'the stolen key does not come back')
      assert.equal(see().owner('east'), rival.key)
    }
  },
  {
    name: 'S5: only a seat that covers the old name replaces, and only what came before',
    run(rules) {
      const { world, founder, ann, bob, east, set, see } = two(rules)
      addAll(set, [world.join(bob, founder, 9, 'bern', { replaces: east })])
      assert.ok(see().stands(east))
      const seed = world.crypto.random(32)
      const first = world.admit(world.invite(ann, 'north'), founder, 10, { seed })
      const second = world.join(ann, founder, 11, 'north', { replaces: first })
      const again = world.admit(world.invite(ann, 'north', { replaces: second }), founder, 12, { seed })
      addAll(set, [first, second, again])
      assert.ok(see().stands(again) && !see().stands(second), 'no circle: the latest has the place')
    }
  },
  {
    name: 'S5: a renaming replacement takes the cluster over under its new name',
    run(rules) {
      const { world, founder, ann, east, set, see } = two(rules)
      const orient = world.join(ann, founder, 9, 'orient', { pods: EAST, replaces: east })
      addAll(set, [orient])
      assert.equal(see().owner('east'), undefined)
      assert.equal(see().owner('orient'), orient.key)
      assert.deepEqual(see().pods(orient), EAST)
    }
  },
  {
    name: 'S6: claimants are ordered by place; a decision leaves one, the lowest id of several',
    run(rules) {
      const { world, founder, ann, set, see } = two(rules)
      const invite = world.invite(ann, 'north', { pods: ['10.4.0.0/16'] })
      const [late, early] = [world.admit(invite, founder, 8), world.admit(invite, founder, 7)]
      addAll(set, [late, early])
      assert.equal(see().owner('north'), early.key)
      assert.ok(see().stands(late) && see().stands(early), 'both stay connected')
      assert.deepEqual(see().pods(late), [])
      const decisions = [world.decide(ann, 'north', late), world.decide(ann, 'north', early)]
      addAll(set, [decisions[0] ?? invite])
      assert.equal(see().owner('north'), late.key)
      assert.deepEqual(see().pods(late), ['10.4.0.0/16'])
      addAll(set, decisions)
      const [lowest] = decisions.map(({ id }) => id).sort()
      const claim = see().claims.names.get(clusterName('north'))
      assert.equal(claim?.decidedBy, lowest)
      assert.equal(claim?.overruled.length, 1)
    }
  },
  {
    name: 'S7: prefixes are those of the invite, with those granted and without those dropped',
    run(rules) {
      const { world, ann, bob, east, berlin, set, see } = two(rules)
      addAll(set, [
        world.grant(ann, east, { pods: ['10.8.0.0/16', '10.9.0.0/24'], services: ['10.108.0.0/16'] })
      ])
      assert.deepEqual(see().pods(east), ['10.2.0.0/16', '10.8.0.0/16', '10.9.0.0/24'])
      assert.deepEqual(see().services(east), ['10.108.0.0/16'])
      addAll(set, [world.grant(ann, east, { drop: ['10.2.0.0/15', '10.9.0.0/16'] })])
      assert.deepEqual(see().pods(east), ['10.8.0.0/16'])
      const foreign = world.grant(bob, east, { drop: ['10.8.0.0/16'] })
      addAll(set, [foreign])
      assert.deepEqual(see().pods(east), ['10.8.0.0/16'], 'the seat may not decide on this cluster')
      assert.deepEqual(see().pods(berlin), ['10.3.0.0/16'])
    }
  },
  {
    name: 'S8: an agent stands with its cluster, unbarred, of one of the two newest generations',
    run(rules) {
      const { world, ann, bob, east, berlin, set } = two(rules)
      const old = world.agent(east, 1)
      const agents = [world.agent(east, 2), world.agent(east, 3), old]
      const standing = () => lookAtAgents(set, agents, { rules })
      assert.deepEqual(
        agents.map(({ key }) => standing().get(key)?.reason),
        ['stands', 'stands', 'generation']
      )
      const [first, second] = agents
      assert.ok(first && second)
      addAll(set, [
        world.bar({ seat: bob }, { agent: first.key }),
        world.bar({ cluster: berlin }, { agent: first.key })
      ])
      assert.equal(standing().get(first.key)?.reason, 'stands', 'neither may decide on this agent')
      addAll(set, [world.bar({ cluster: east }, { agent: first.key })])
      assert.equal(standing().get(first.key)?.reason, 'barred')
      addAll(set, [world.bar({ seat: ann }, east)])
      assert.equal(standing().get(second.key)?.reason, 'cluster')
    }
  },
  {
    name: 'S8: a generation that was seen counts, also when its certificate is not held',
    run(rules) {
      const { world, east, set } = two(rules)
      const agents = [world.agent(east, 4), world.agent(east, 5)]
      const later = lookAtAgents(set, agents, { rules, generations: new Map([[east.key, 6]]) })
      assert.equal(later.get(agents[0]?.key ?? east.key)?.reason, 'generation')
    }
  },
  {
    name: 'E1: a second claimant changes nothing that is in force',
    run(rules) {
      const { world, founder, ann, east, set } = two(rules)
      const before = look(set, { rules })
      const claimant = world.join(ann, founder, 1, 'east', {
        pods: ['10.2.128.0/17'],
        services: ['10.102.0.0/16']
      })
      const earlier = [claimant, east].toSorted((a, b) => (a.id < b.id ? -1 : 1))[0] === claimant
      addAll(set, [claimant])
      const after = look(set, { rules, owners: before.owners })
      assert.equal(after.owner('east'), east.key)
      assert.deepEqual(after.pods(east), EAST)
      assert.deepEqual(after.pods(claimant), [])
      assert.deepEqual(after.services(claimant), ['10.102.0.0/16'], 'what is not contested works')
      // A member that had none in force takes the first, whichever it is.
      assert.equal(look(set, { rules }).owner('east'), earlier ? claimant.key : east.key)
      const late = look(set, { rules, owners: new Map([['name east', claimant.key]]) })
      assert.equal(late.owner('east'), claimant.key)
    }
  }
]

const SITUATIONS: readonly Scenario[] = [
  {
    name: 'two administrators, partitioned for a week: the union, and contested clashes keep what works',
    run(rules) {
      const { world, founder, ann, bob, set } = two(rules)
      const here = addAll(
        world.set(rules),
        [...set.ids()].map((id) => thingOf(set, id))
      )
      const there = addAll(
        world.set(rules),
        [...set.ids()].map((id) => thingOf(set, id))
      )
      const [left, right] = [
        world.join(ann, founder, 3, 'bonn', { pods: ['10.5.0.0/16'] }),
        world.join(bob, founder, 3, 'bonn', { pods: ['10.6.0.0/16'] })
      ]
      addAll(here, [left, world.void(ann, bob)])
      addAll(there, [right, world.void(bob, ann)])
      const [ownersHere, ownersThere] = [look(here, { rules }).owners, look(there, { rules }).owners]
      const [a, b] = [merge(here, there), merge(there, here)]
      for (const [merged, owners, owner] of [
        [a, ownersHere, left],
        [b, ownersThere, right]
      ] as const) {
        const seen = look(merged, { rules, owners })
        assert.ok(seen.stands(left) && seen.stands(right), 'siblings cannot remove each other')
        assert.equal(seen.owner('bonn'), owner.key)
        assert.deepEqual([seen.pods(left), seen.pods(right)], [['10.5.0.0/16'], ['10.6.0.0/16']])
        assert.deepEqual(
          seen.ownership.contested.map(({ what }) => what),
          ['name']
        )
      }
    }
  },
  {
    name: 'entries of a removed administrator, whenever it signs them: nothing, unless kept (P3)',
    run(rules) {
      const { world, founder, ann, bob, berlin, east, set } = two(rules)
      addAll(set, [world.void('roots', bob, [berlin])])
      const before = summary(look(set, { rules }))
      addAll(set, [
        world.join(bob, founder, 1, 'bonn', { pods: EAST }),
        world.join(bob, founder, 1, 'berlin', { pods: EAST, replaces: berlin }),
        world.bar({ seat: bob }, berlin),
        world.grant(bob, berlin, { drop: ['10.0.0.0/8'] }),
        world.void(bob, berlin),
        world.void(bob, bob),
        world.seat({ under: bob, names: ['b*'] })
      ])
      assert.deepEqual(summary(look(set, { rules })), before)
      assert.ok(look(set, { rules }).stands(east) && look(set, { rules }).stands(founder) && ann)
    }
  },
  {
    name: 'one invite admitted on both sides: both are stored, and a decision settles it',
    run(rules) {
      const { world, founder, ann, east, set, see } = two(rules)
      const invite = world.invite(ann, 'north')
      const [one, other] = [world.admit(invite, founder, 3), world.admit(invite, east, 3)]
      addAll(set, [one, other])
      assert.ok(see().stands(one) && see().stands(other))
      addAll(set, [world.decide(ann, 'north', other)])
      assert.equal(see().owner('north'), other.key)
      assert.ok(see().stands(one), 'it stays connected, and claims nothing')
    }
  },
  {
    name: 'a newcomer that crashed in mid-join: the same key at two doors is one cluster',
    run(rules) {
      const { world, founder, ann, east, set, see } = two(rules)
      const invite = world.invite(ann, 'north', { pods: ['10.4.0.0/16'] })
      const seed = world.crypto.random(32)
      const [one, other] = [world.admit(invite, founder, 3, { seed }), world.admit(invite, east, 4, { seed })]
      addAll(set, [one, other])
      assert.equal(see().claims.names.get(clusterName('north'))?.claimants.length, 1)
      addAll(set, [world.void(ann, one.id)])
      assert.ok(see().stands(other), 'the other admission stands')
    }
  },
  {
    name: 'the founder is gone: a seat with maySeat goes on, root seats resign',
    run(rules) {
      const { world, founder, ann, east, set, see } = two(rules)
      const child = world.seat({ under: ann })
      const north = world.join(child, east, 3, 'north')
      addAll(set, [world.bar({ seat: ann }, founder), north])
      assert.ok(see().stands(north) && !see().stands(founder))
      addAll(set, [world.void(ann, ann, [east, child])])
      assert.ok(see().stands(east) && see().stands(north) && see().stands(founder))
    }
  },
  {
    name: 'roots certify a new founding cluster after the old one was lost',
    run(rules) {
      const { world, set, see } = two(rules)
      const fresh = world.found('fresh', ['10.77.0.0/16'])
      addAll(set, [fresh])
      assert.ok(see().stands(fresh))
      assert.deepEqual(see().pods(fresh), ['10.77.0.0/16'])
    }
  },
  {
    name: 'two of three roots must sign',
    run(rules) {
      const world = new World({ k: 2, roots: 3 })
      const seat = world.seat()
      assert.equal(refusedBy(rules, world, seat.item), 'none')
      const draft = { kind: 'void', under: undefined, target: seat.id, keep: new Set<never>() } as const
      assert.equal(refusedBy(rules, world, world.byRoots(draft, 1).item), 'signature')
      assert.equal(refusedBy(rules, world, world.byRoots(draft, 3).item), 'none')
    }
  },
  {
    name: 'a stolen cluster key: the replacement is in, the old key out, and its later admissions can be cut',
    run(rules) {
      const { world, founder, ann, east, set, see } = two(rules)
      const honest = world.join(ann, east, 3, 'honest')
      const fresh = world.join(ann, founder, 4, 'east', { pods: EAST, replaces: east })
      const fake = world.join(ann, east, 5, 'fake')
      addAll(set, [honest, fresh, fake, world.bar({ seat: ann }, east, [honest])])
      const seen = see()
      assert.ok(seen.stands(fresh) && seen.stands(honest) && !seen.stands(fake) && !seen.stands(east))
      assert.deepEqual(seen.pods(fresh), EAST)
    }
  },
  {
    name: 'a prefix moved during a partition: add, move, drop, and no moment in which two have it in force',
    run(rules) {
      const { world, ann, east, founder, set } = two(rules)
      const owners = look(set, { rules }).owners
      addAll(set, [world.grant(ann, founder, { pods: EAST })])
      const both = look(set, { rules, owners })
      assert.deepEqual([both.pods(east), both.pods(founder)], [EAST, WEST])
      addAll(set, [world.grant(ann, east, { drop: EAST })])
      const moved = look(set, { rules, owners: both.owners })
      assert.deepEqual([moved.pods(east), moved.pods(founder)], [[], ['10.1.0.0/16', '10.2.0.0/16']])
    }
  },
  {
    name: 'a lost cluster removed, alive across the split: restoring voids the bar',
    run(rules) {
      const { world, ann, bob, berlin, set, see } = two(rules)
      const bar = world.bar({ seat: ann }, berlin)
      addAll(set, [bar])
      assert.ok(!see().stands(berlin))
      addAll(set, [world.void(bob, bar)])
      assert.ok(see().stands(berlin), 'this seat covers the name of the bar')
    }
  },
  {
    name: 'an old backup of an administrator: the same statements again change nothing',
    run(rules) {
      const { set, see } = two(rules)
      const before = summary(see())
      for (const id of Array.from(set.ids())) {
        const item = set.itemOf(id)
        assert.ok(item)
        assert.deepEqual(set.add(item), { kind: 'added', added: [], cut: [] })
      }
      assert.deepEqual(summary(see()), before)
    }
  },
  {
    name: 'statements of another mesh, and of the wrong signer, are refused',
    run(rules) {
      const { world, ann, bob, east } = two(rules)
      const other = new World({ k: 1, roots: 2 })
      assert.equal(refusedBy(rules, other, ann.item), 'signature')
      const draft = {
        kind: 'decide',
        under: ann.id,
        name: clusterName('east'),
        clusterKey: east.key
      } as const
      const forged = world.sign(draft, { issuer: bob.seed }, ann.envelopes)
      assert.equal(refusedBy(rules, world, forged.item), 'signature')
      const orphan = encodeItem(forged.envelopes.slice(1))
      assert.equal(refusedBy(rules, world, orphan), 'parents')
      const stuffed = encodeItem([...bob.envelopes, ...world.decide(ann, 'east', east).envelopes])
      assert.equal(refusedBy(rules, world, stuffed), 'parents')
      const stolen = world.redeem(world.invite(ann, 'x'))
      const unaccepted = world.sign(
        {
          kind: 'agentCert',
          clusterKey: east.key,
          agentKey: world.keyOf(stolen.seed),
          node: 'n',
          roles: ['node'],
          generation: 1
        },
        { issuer: east.seed },
        east.envelopes
      )
      assert.equal(
        refusedBy(rules, world, unaccepted.item),
        'F2',
        'a key is certified with its own consent only'
      )
    }
  }
]

export const SCENARIOS: readonly Scenario[] = [...FORM, ...STANDING, ...SITUATIONS]

type TestSet = ReturnType<World['set']>

function thingOf(set: TestSet, id: Parameters<TestSet['itemOf']>[0]) {
  const item = set.itemOf(id)
  assert.ok(item, `${shortOf(id)} is held`)
  return { id, item, envelopes: [] }
}

/** Adds everything of `from` to a set that is not changed otherwise. */
export function merge(into: TestSet, from: TestSet): TestSet {
  for (const id of Array.from(from.ids())) into.add(thingOf(from, id).item)
  return into
}

/** What an operator sees of a mesh: who stands, with which name and prefixes. */
export function summary({ standing, ownership }: ReturnType<typeof look>) {
  const clusters = [...standing.clusters.values()].filter(({ verdict }) => verdict.stands)
  return clusters
    .map(({ key, name }) => {
      const prefixes = ownership.prefixes.get(key)
      return `${key} ${name} ${ownership.names.get(name) === key} ${prefixes?.pods.join(' ')} ${prefixes?.services.join(' ')}`
    })
    .sort()
}
