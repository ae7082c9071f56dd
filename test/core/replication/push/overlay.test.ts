import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import type { Origin } from '../../../../src/core/model/values.ts'
import {
  chooseNeighbours,
  FULL_MESH_MAX,
  type OverlayMember
} from '../../../../src/core/replication/push/overlay.ts'

describe('the overlay', () => {
  it('has one agent of a cluster while there are others, however many agents it has', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 8, maxLength: 30 }),
        fc.integer({ min: 100, max: 1000 }),
        fc.nat({ max: 50 }),
        fc.boolean(),
        (sizes, size, round, dialable) => {
          // The large one is near, and the others are as far as chance has it.
          const members = [size, ...sizes].flatMap((count, cluster) =>
            many(count).map((member, index) => ({
              ...member,
              origin: `${cluster}/${index}` as Origin,
              cluster: `c${cluster}`,
              rttMs: cluster === 0 ? 1 : (cluster * 7 + index) % 50
            }))
          )
          const chosen = chooseNeighbours({ self: SELF, dialable, members, round })
          const clusters = new Set(chosen.map((origin) => origin.split('/')[0]))
          assert.equal(clusters.size, chosen.length)
          assert.equal(chosen.length, dialable ? 5 : 8)
        }
      )
    )
  })

  it('gives a cluster of many agents no more random choices than a cluster of one', () => {
    const members = [500, ...Array.from({ length: 19 }, () => 1)].flatMap((count, cluster) =>
      many(count).map((member, index) => ({
        ...member,
        origin: `${cluster}/${index}` as Origin,
        cluster: `c${cluster}`
      }))
    )
    const of = (self: number) =>
      chooseNeighbours({ self: `self ${self}` as Origin, dialable: true, members, round: 0 })
    const chosen = Array.from({ length: 400 }, (_, self) => of(self)).flat()
    const large = chosen.filter((origin) => origin.startsWith('0/')).length
    assert.ok(large < (2 * chosen.length) / 20, `${large} of ${chosen.length}`)
  })

  it('fills its places with agents of few clusters when there are no more', () => {
    const members = many(40).map((member, index) => ({ ...member, cluster: `c${index % 2}`, rttMs: index }))
    assert.equal(choose(members).length, 5)
  })

  it('is everyone while the mesh is small', () => {
    const members = many(FULL_MESH_MAX - 1)
    assert.equal(choose(members).length, FULL_MESH_MAX - 1)
  })

  it('takes the two nearest and random ones of many', () => {
    const members = many(500).map((member, index) => ({ ...member, rttMs: 10 + index }))
    const chosen = choose(members)
    assert.equal(chosen.length, 5)
    const nearest = new Set(members.slice(0, 2).map(({ origin }) => origin))
    assert.ok(chosen.slice(0, 2).every((origin) => nearest.has(origin)))
  })

  it('chooses more when nobody can dial us, and never whom nobody can dial', () => {
    const members = many(500).map((member, index) => ({ ...member, dialable: index % 5 === 0 }))
    const chosen = chooseNeighbours({ self: SELF, dialable: false, members, round: 0 })
    assert.ok(chosen.length > choose(members).length)
    assert.ok(chosen.every((origin) => members.find((member) => member.origin === origin)?.dialable))
  })

  it('changes one choice at most for a member that comes or goes, and one for a new round', () => {
    const members = many(500)
    const before = choose(members)
    const gone = members.filter(({ origin }) => origin !== before[0])
    assert.ok(choose(gone).filter((origin) => !before.includes(origin)).length <= 1)
    const next = chooseNeighbours({ self: SELF, dialable: true, members, round: 1 })
    assert.ok(next.filter((origin) => !before.includes(origin)).length <= 1)
  })
})

const SELF = 'self' as Origin

function many(count: number): OverlayMember[] {
  return Array.from({ length: count }, (_, index) => ({
    origin: `agent ${index}` as Origin,
    dialable: true,
    rttMs: undefined
  }))
}

function choose(members: readonly OverlayMember[]): readonly Origin[] {
  return chooseNeighbours({ self: SELF, dialable: true, members, round: 0 })
}
