// What meshctl shows of seats, invites and statements.
import assert from 'node:assert/strict'
import { explain, seatsOf, stateOfInvite } from '../../../../src/core/trust/members/survey.ts'
import type { Thing } from '../set/world.ts'
import { addThings, membersOf, twoSeats } from './people.ts'

describe('the survey of a trust set', () => {
  it('lists seats with what stands below them', () => {
    const { world, ann, bob, east, things } = twoSeats()
    const child = world.seat({ under: ann })
    const members = membersOf(world, [...things, child, world.grant(ann, east, { pods: ['10.20.0.0/16'] })])
    addThings(members, [world.void('roots', bob)])
    const seats = seatsOf(members.set, members.standing())
    const at = (thing: Thing) => seats.findIndex(({ seat }) => seat.id === thing.id)
    assert.equal(seats.length, 3)
    assert.equal(at(child), at(ann) + 1, 'a child follows its parent')
    const shown = (thing: Thing) => {
      const found = seats[at(thing)]
      return [found?.verdict.stands, found?.clusters, found?.statements]
    }
    assert.deepEqual(shown(ann), [true, 1, 1])
    assert.deepEqual(shown(child), [true, 0, 0])
    assert.deepEqual(shown(bob), [false, 0, 0])
  })

  it('tells open, used and cancelled invites apart', () => {
    const { world, west, ann, things } = twoSeats()
    const members = membersOf(world, things)
    const [open, used, cancelled] = ['n1', 'n2', 'n3'].map((name) => world.invite(ann, name))
    assert.ok(open && used && cancelled)
    const joined = world.admit(used, west, 7)
    const taken = world.void(ann, cancelled)
    addThings(members, [joined, taken])
    const state = (thing: Thing) => {
      const item = members.set.open(thing.item)
      const invite = item.kind === 'item' ? item.statements.at(-1)?.statement : undefined
      assert.ok(invite?.kind === 'invite')
      return stateOfInvite(members.set, members.standing(), invite)
    }
    assert.deepEqual(state(open), { kind: 'open' })
    assert.deepEqual(state(used), {
      kind: 'used',
      by: [{ admission: joined.id, clusterKey: joined.key }]
    })
    const last = state(cancelled)
    assert.ok(last.kind === 'cancelled')
    assert.deepEqual(last.verdict.causes, [taken.id])
  })

  it('says in words what a statement does, and who signed it', () => {
    const { world, west, ann, bob, east, berlin, things } = twoSeats()
    const members = membersOf(world, things)
    const agent = world.agent(east, 0)
    const rows: readonly (readonly [Thing, string, RegExp])[] = [
      [west, 'the roots', /^founded the cluster west$/],
      [ann, 'the roots', /^created the seat "admin"$/],
      [berlin, 'the cluster east', /^admitted the cluster berlin$/],
      [
        world.join(ann, west, 9, 'east', { replaces: east }),
        'the cluster west',
        /^admitted the cluster east in the place of the key [0-9a-f]{16}$/
      ],
      [world.bar({ seat: bob }, berlin), 'the seat "admin"', /^ended the cluster berlin$/],
      [
        world.bar({ seat: ann }, east, [east]),
        'the seat "admin"',
        /^ended the cluster east, and what it admitted but for 1$/
      ],
      [
        world.bar({ cluster: east }, { agent: agent.key }),
        'the cluster east',
        /^ended the agent with the key /
      ],
      [world.decide(ann, 'east', east), 'the seat "admin"', /^gave the name east to the key [0-9a-f]{16}$/],
      [
        world.grant(ann, east, { drop: ['10.2.0.0/16'] }),
        'the seat "admin"',
        /^changed the prefixes of the cluster east$/
      ],
      [world.void('roots', bob, [berlin]), 'the roots', /^removed the seat "admin" and kept 1 statements$/],
      [world.void(ann, east), 'the seat "admin"', /^took back the statement [0-9a-f]{32}$/]
    ]
    addThings(
      members,
      rows.map(([thing]) => thing)
    )
    for (const [thing, signer, text] of rows) {
      const [found] = explain(members.set, [thing.id])
      assert.equal(found?.signer, signer)
      assert.match(found.text, text)
    }
    assert.deepEqual(explain(members.set, [agent.id]), [])
  })
})
