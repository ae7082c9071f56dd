import assert from 'node:assert/strict'
import type { Origin } from '../../../../src/core/model/values.ts'
import {
  chooseNeighbours,
  FULL_MESH_MAX,
  type OverlayMember
} from '../../../../src/core/replication/push/overlay.ts'

describe('the overlay', () => {
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
