// A Void with the list that keepListOf makes takes down the seat alone.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { keepListOf } from '../../../../src/core/trust/members/keep-list.ts'
import { History, steps } from '../set/history.ts'
import { look, type TestSeat, type World } from '../set/world.ts'
import { addThings, membersOf, twoSeats } from './people.ts'
import type { Members } from '../../../../src/core/trust/members/members.ts'

describe('the list that a Void of a seat keeps', () => {
  for (const children of [true, false])
    it(`changes nothing that stands but the seat${children ? '' : ' and its children'}, for any history`, () => {
      fc.assert(
        fc.property(steps(), fc.nat(1000), (list, at) => {
          const history = new History().run(list)
          const members = membersOf(history.world, history.things)
          const seat = history.seats[at % history.seats.length]
          if (seat === undefined || !members.set.seats.has(seat.id)) return
          const before = standingOf(members, seat, children)
          removeSeat(history.world, members, seat, children)
          assert.deepEqual(standingOf(members, seat, children), before)
          assert.equal(members.standing().seats.get(seat.id)?.stands, false)
        }),
        { numRuns: 60 }
      )
    })

  it('has clusters first, and says how many do not fit', () => {
    const { world, ann, east, things } = twoSeats()
    const grant = world.grant(ann, east, { pods: ['10.20.0.0/16'] })
    const child = world.seat({ under: ann })
    const members = membersOf(world, [...things, grant, child])
    const { entries, beyond } = keepListOf(members.set, members.standing(), ann.id, { children: true })
    assert.deepEqual(
      entries.map(({ id }) => id),
      [east.id, grant.id, child.id]
    )
    assert.equal(beyond, 0)
    const without = keepListOf(members.set, members.standing(), ann.id, { children: false })
    assert.deepEqual(
      without.entries.map(({ id }) => id),
      [east.id, grant.id]
    )
  })
})

/** Adds a Void of the roots with the list. */
function removeSeat(world: World, members: Members, seat: TestSeat, children: boolean): void {
  const { entries } = keepListOf(members.set, members.standing(), seat.id, { children })
  const keep = entries.map(({ id }) => ({ id, envelopes: [], item: new Uint8Array(0) }))
  addThings(members, [world.void('roots', seat, keep)])
}

/** Everything that stands, but for the seat, the children that may fall, and the Void itself. */
function standingOf(members: Members, seat: TestSeat, children: boolean) {
  const { standing } = look(members.set)
  const isOut = (id: string) => {
    const under = [...members.set.seats.values()].find(({ statement }) => statement.id === id)?.statement
      .under
    return id === seat.id || (!children && under === seat.id)
  }
  const ids = <T extends string>(verdicts: ReadonlyMap<T, { readonly stands: boolean }>) =>
    [...verdicts].filter(([id, verdict]) => verdict.stands && !isOut(id)).map(([id]) => id as string)
  const voids = new Set<string>(
    [...members.set.commands.values()]
      .filter(({ statement }) => statement.kind === 'void' && statement.target === seat.id)
      .map(({ statement }) => statement.id)
  )
  return {
    seats: ids(standing.seats).sort(),
    commands: ids(standing.commands)
      .filter((id) => !voids.has(id))
      .sort(),
    admissions: ids(standing.admissions).sort(),
    clusters: [...standing.clusters]
      .filter(([, { verdict }]) => verdict.stands)
      .map(([key]) => key as string)
      .sort()
  }
}
