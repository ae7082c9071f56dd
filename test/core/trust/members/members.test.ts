// Who is a member: credentials, standing and settlement together.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { originOf } from '../../../../src/core/model/identity.ts'
import { agentJudge } from '../../../../src/core/trust/set/agents.ts'
import { bytesOf, type KeyId } from '../../../../src/core/trust/set/ids.ts'
import { openCredential } from '../../../../src/core/trust/members/credential.ts'
import type { Members } from '../../../../src/core/trust/members/members.ts'
import { clusterName, flipBit } from '../fixtures.ts'
import { History, steps } from '../set/history.ts'
import { summary } from '../set/scenarios.ts'
import { look, type TestCluster, type Thing, World } from '../set/world.ts'
import { addThings, admittedTo, credentialOf, membersOf, twoSeats } from './people.ts'

const RUNS = { numRuns: 40 }

function originOfAgent({ key }: { readonly key: KeyId }) {
  return originOf(bytesOf(key))
}

describe('an agent that shows its credential', () => {
  it('is admitted with its cluster', () => {
    const { world, east, things } = twoSeats()
    const members = membersOf(world, things)
    const agent = world.agent(east, 3)
    const origin = originOfAgent(agent)
    const before = members.version
    assert.equal(members.isAdmitted(origin), false)
    assert.deepEqual(members.verdictOn(origin), { kind: 'unknown' })
    assert.deepEqual(members.admit(origin, agent.item), { kind: 'admitted' })
    assert.ok(members.version > before)
    assert.deepEqual(members.agentOf(origin), {
      origin,
      cluster: 'east',
      clusterKey: east.key,
      node: 'gw-1',
      roles: ['gateway'],
      generation: 3
    })
    assert.equal(members.agentOf(origin), members.agentOf(origin), 'the same object')
    assert.deepEqual(members.credentialOf(origin), agent.item)
    assert.deepEqual(members.publicKeyOf(origin), bytesOf(agent.key))
    assert.deepEqual(members.verdictOn(origin), { kind: 'stands' })
    assert.deepEqual(admittedTo(members), [origin])
    assert.deepEqual([...members.generations()], [[east.key, 3]])
  })

  it('brings the admission of its cluster along', () => {
    const { world, west, ann, east } = twoSeats()
    const members = membersOf(world, [west, ann])
    const agent = world.agent(east, 0)
    assert.deepEqual(members.addCredential(credentialOf(members, agent)), { kind: 'admitted' })
    assert.deepEqual(members.takeChanges(), { added: [east.id], cut: [] })
    assert.deepEqual(members.takeChanges(), { added: [], cut: [] })
    assert.equal(members.settlement().get(clusterName('east'))?.clusterKey, east.key)
  })

  it('is refused for a credential that is damaged, or of another agent', () => {
    const { world, east, things } = twoSeats()
    const members = membersOf(world, things)
    const agent = world.agent(east, 0)
    const other = originOfAgent(world.agent(east, 0))
    for (const [origin, bytes] of [
      [other, agent.item],
      [originOfAgent(agent), flipBit(agent.item, agent.item.length * 8 - 9)],
      [originOfAgent(agent), east.item]
    ] as const) {
      const answer = members.admit(origin, bytes)
      assert.ok(answer.kind === 'refused')
      assert.equal(answer.code, 'malformed')
    }
    assert.deepEqual(admittedTo(members), [])
  })

  it('never makes the program throw, whatever its bytes are', () => {
    const { world, east, things } = twoSeats()
    const members = membersOf(world, things)
    const agent = world.agent(east, 0)
    const origin = originOfAgent(agent)
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.nat(agent.item.length * 8 - 1).map((bit) => flipBit(agent.item, bit))
        ),
        (bytes) => {
          assert.equal(members.admit(origin, bytes).kind, 'refused')
        }
      ),
      { numRuns: 300 }
    )
    assert.deepEqual(admittedTo(members), [])
  })

  it('is not kept while the sponsor of its cluster is not known', () => {
    const { world, west, ann, bob, east, berlin } = twoSeats()
    const members = membersOf(world, [west, ann, bob])
    const agent = world.agent(berlin, 0)
    const credential = credentialOf(members, agent)
    const answer = members.addCredential(credential)
    assert.ok(answer.kind === 'refused')
    assert.equal(answer.code, 'unknown')
    assert.deepEqual(members.verdictOn(credential), { kind: 'unknown' })
    assert.equal(members.credentialOf(credential.origin), undefined)
    addThings(members, [east])
    assert.deepEqual(members.verdictOn(credential), { kind: 'stands' }, 'the admission waited for it')
    assert.equal(members.isAdmitted(credential.origin), false)
    assert.equal(members.addCredential(credential).kind, 'admitted')
  })

  it('takes no memory when it names sponsors that do not exist', () => {
    const { world, ann, things } = twoSeats()
    const members = membersOf(world, things)
    const token = world.invite(ann, 'north')
    const sponsor: TestCluster = { ...world.found('ghost'), seed: world.crypto.random(32) }
    const ghost = { ...sponsor, key: world.keyOf(sponsor.seed) }
    const held = [...members.set.ids()].length
    for (let at = 1; at <= 300; at++) {
      const agent = world.agent(world.admit(token, ghost, at), 0)
      members.admit(originOfAgent(agent), agent.item)
      assert.equal(members.credentialOf(originOfAgent(agent)), undefined)
    }
    assert.equal([...members.set.ids()].length, held)
    assert.equal(members.generations().size, 0)
  })
})

describe('an admission that waits for its sponsor', () => {
  it('is not pushed out by the holder of one token', () => {
    const { world, west, ann, bob, east } = twoSeats()
    const members = membersOf(world, [west, ann, bob])
    const honest = world.join(bob, east, 400, 'berlin')
    addThings(members, [honest])
    const [token, ghost] = [world.invite(ann, 'north'), world.join(ann, east, 2, 'ghost')]
    for (let at = 3; at <= 300; at++) addThings(members, [world.admit(token, ghost, at)])
    assert.equal(members.set.has(honest.id), false)
    addThings(members, [east])
    assert.ok(members.set.has(honest.id))
  })
})

describe('the generations of a cluster', () => {
  it('let a newer credential replace an older one, and never the reverse', () => {
    const { world, east, things } = twoSeats()
    fc.assert(
      fc.property(fc.array(fc.nat(4), { minLength: 1, maxLength: 8 }), (list) => {
        const members = membersOf(world, things)
        const seed = world.crypto.random(32)
        const agents = list.map((generation) => world.agent(east, generation, seed))
        let highest = 0
        for (const [at, agent] of agents.entries()) {
          highest = Math.max(highest, list[at] ?? 0)
          assert.equal(members.admit(originOfAgent(agent), agent.item).kind, 'admitted')
          assert.equal(members.agentOf(originOfAgent(agent))?.generation, highest)
        }
        const best = agents.filter((_, at) => list[at] === highest).sort((a, b) => (a.id < b.id ? -1 : 1))[0]
        assert.ok(best)
        assert.deepEqual(members.credentialOf(originOfAgent(best)), best.item)
      }),
      RUNS
    )
  })

  it('end an agent that is two behind, also after a restart', () => {
    const { world, east, things } = twoSeats()
    const members = membersOf(world, things)
    const [old, recent, newest] = [world.agent(east, 4), world.agent(east, 5), world.agent(east, 6)]
    for (const one of [old, recent]) members.admit(originOfAgent(one), one.item)
    assert.ok(members.isAdmitted(originOfAgent(old)))
    members.admit(originOfAgent(newest), newest.item)
    assert.deepEqual(admittedTo(members), [originOfAgent(recent), originOfAgent(newest)].sort())
    const verdict = members.verdictOn(originOfAgent(old))
    assert.ok(verdict.kind === 'fallen')
    assert.deepEqual([verdict.code, verdict.rule, verdict.explain], ['generation', 'S8', []])
    const restarted = membersOf(world, things, { generations: members.generations() })
    const answer = restarted.admit(originOfAgent(old), old.item)
    assert.ok(answer.kind === 'refused')
    assert.equal(answer.code, 'fallen')
  })

  it('is not raised by a credential that is only judged', () => {
    const { world, east, things } = twoSeats()
    const members = membersOf(world, things)
    const before = members.version
    assert.equal(members.verdictOn(credentialOf(members, world.agent(east, 9))).kind, 'stands')
    assert.equal(members.generations().size, 0)
    assert.equal(members.version, before)
  })
})

describe('a cluster that does not stand', () => {
  it('takes its agents along, and gives them back when it is restored', () => {
    const { world, ann, east, berlin, things } = twoSeats()
    const members = membersOf(world, things)
    const agents = [world.agent(east, 0), world.agent(berlin, 0)]
    for (const agent of agents) members.admit(originOfAgent(agent), agent.item)
    const [ofEast, ofBerlin] = agents.map(originOfAgent)
    assert.ok(ofEast && ofBerlin)
    const bar = world.bar({ seat: ann }, east)
    const before = members.version
    addThings(members, [bar])
    assert.ok(members.version > before)
    assert.deepEqual(admittedTo(members), [ofBerlin])
    assert.equal(members.agentOf(ofEast), undefined)
    const verdict = members.verdictOn(ofEast)
    assert.ok(verdict.kind === 'fallen')
    assert.deepEqual([verdict.code, verdict.rule, verdict.explain], ['barred', 'S5', [bar.id]])
    assert.equal(members.settlement().has(clusterName('east')), false)
    const again = members.admit(ofEast, agents[0]?.item ?? bar.item)
    assert.ok(again.kind === 'refused')
    assert.equal(again.code, 'fallen')
    const agent = agents[1]?.key
    assert.ok(agent)
    addThings(members, [world.void(ann, bar), world.bar({ cluster: berlin }, { agent })])
    assert.deepEqual(admittedTo(members), [ofEast], 'a cluster bars its own agent')
  })

  it('says whether a bar, a replacement or a void ended it', () => {
    const { world, west, ann, east, berlin, things } = twoSeats()
    const members = membersOf(world, things)
    const code = (cluster: TestCluster) => {
      const verdict = members.verdictOn(credentialOf(members, world.agent(cluster, 0)))
      return verdict.kind === 'fallen' ? `${verdict.code} ${verdict.explain.length}` : verdict.kind
    }
    assert.equal(code(east), 'stands')
    const north = world.invite(ann, 'north')
    const joined = world.admit(north, west, 3)
    const later = world.join(ann, west, 4, 'east', { pods: ['10.2.0.0/16'], replaces: east })
    addThings(members, [joined, later, world.void(ann, north), world.bar({ cluster: berlin }, berlin)])
    assert.deepEqual([east, joined, berlin, later].map(code), ['replaced 1', 'void 1', 'barred 1', 'stands'])
  })

  it('has no admitted agent, and every other one has, for any history (S1 to S8)', () => {
    fc.assert(
      fc.property(steps(), fc.array(fc.tuple(fc.nat(1000), fc.nat(3)), { maxLength: 12 }), (list, agents) => {
        const history = new History().run(list)
        const { world, clusters } = history
        const members = membersOf(world, history.things)
        const shown = agents.flatMap(([at, generation]) => {
          const cluster = clusters[at % clusters.length]
          return cluster === undefined ? [] : [world.agent(cluster, generation)]
        })
        for (const agent of shown) members.admit(originOfAgent(agent), agent.item)
        const { standing } = look(members.set)
        const judge = agentJudge(standing)
        for (const origin of members.origins()) {
          const agent = members.agentOf(origin)
          assert.ok(agent)
          assert.ok(standing.clusters.get(agent.clusterKey)?.verdict.stands, 'its cluster does not stand')
        }
        const expected = shown.filter(({ item }) => {
          // A history also has seats that invite beyond their rights.
          const credential = openCredential(members.set, item)
          if (credential.kind === 'refused') return false
          const { cert } = credential
          return judge(cert, members.generations().get(cert.clusterKey) ?? 0).stands
        })
        assert.deepEqual(admittedTo(members), expected.map(originOfAgent).sort())
      }),
      RUNS
    )
  })
})

describe('members', () => {
  it('are the same for any order of statements and credentials', () => {
    fc.assert(
      fc.property(
        steps(),
        fc.array(fc.tuple(fc.nat(1000), fc.nat(3), fc.nat(3)), { maxLength: 10 }),
        fc.infiniteStream(fc.nat(1_000_000)),
        (list, agents, numbers) => {
          const history = new History().run(list)
          const { world, clusters } = history
          const seeds = [0, 1, 2, 3].map(() => world.crypto.random(32))
          const shown = agents.flatMap(([at, generation, seed]) => {
            const cluster = clusters[at % clusters.length]
            return cluster === undefined ? [] : [world.agent(cluster, generation, seeds[seed])]
          })
          const inOrder = membersOf(world, history.things)
          showAll(inOrder, shown)
          const mixed = membersOf(world)
          const all = [...history.things, ...history.things.slice(0, 3), ...shown]
            .map((thing) => ({ thing, at: Number(numbers.next().value) }))
            .sort((a, b) => a.at - b.at)
          for (const { thing } of all)
            if (shown.some((one) => one === thing)) showAll(mixed, [thing as (typeof shown)[number]])
            else addThings(mixed, [thing])
          // A credential that came before its sponsor's admission is offered again, as a neighbour does.
          showAll(mixed, shown)
          assert.deepEqual(told(mixed), told(inOrder))
          if (inOrder.ownership().contested.length === 0)
            assert.deepEqual(mixed.settlement(), inOrder.settlement())
        }
      ),
      RUNS
    )
  })

  it('load 2,048 admissions in one call, each before its sponsor’s', function () {
    this.timeout(60_000)
    const world = new World()
    const west = world.found('west')
    const ann = world.seat({ inviteDaysMax: 30 })
    const clusters = [west]
    for (let at = 1; at <= 2048; at++) {
      const sponsor = clusters[at % 3 === 0 ? at - 1 : at >> 1] ?? west
      clusters.push(world.join(ann, sponsor, at, `c${at}`))
    }
    const members = membersOf(world, [...clusters.toReversed(), ann])
    assert.equal(members.set.admissions.size, 2048)
    assert.equal(members.settlement().size, 2049)
  })

  it('keep what was in force before a restart (E1)', () => {
    const { world, west, ann, east, things } = twoSeats()
    const first = membersOf(world, things)
    assert.equal(first.ownership().names.get(clusterName('east')), east.key)
    const rival = world.join(ann, west, 1, 'east', { pods: ['10.2.0.0/16'] })
    const other = membersOf(world, [west, ann, rival])
    assert.equal(other.settlement().get(clusterName('east'))?.clusterKey, rival.key)
    for (const before of [first, other]) {
      const restarted = membersOf(world, [], { owners: before.owners() })
      assert.equal(restarted.settlement().size, 0, 'asked before the store is loaded')
      addThings(restarted, [...things, rival])
      assert.deepEqual(
        restarted.settlement().get(clusterName('east'))?.clusterKey,
        before.settlement().get(clusterName('east'))?.clusterKey
      )
    }
  })
})

function showAll(members: Members, agents: readonly (Thing & { readonly key: KeyId })[]): void {
  for (const agent of agents) members.admit(originOfAgent(agent), agent.item)
}

/** Everything that members say, but for what E1 lets depend on the order of arrival. */
function told(members: Members) {
  return {
    ids: [...members.set.ids()].sort(),
    standing: summary(look(members.set)),
    agents: admittedTo(members).map((origin) => members.agentOf(origin)),
    credentials: admittedTo(members).map((origin) => members.credentialOf(origin)),
    generations: new Map(members.generations())
  }
}
