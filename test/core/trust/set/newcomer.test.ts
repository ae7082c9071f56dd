import assert from 'node:assert/strict'
import { BOUNDS } from '../../../../src/core/trust/set/bounds.ts'
import { judgeNewcomer } from '../../../../src/core/trust/set/newcomer.ts'
import { addAll, look, RULES, type TestInvite, type Thing, World } from './world.ts'

/** A mesh of one administrator and two clusters, and what its sponsor answers. */
function mesh(options: { readonly clustersMax?: number; readonly clusters?: number } = {}) {
  const world = new World()
  const founder = world.found('west', ['10.1.0.0/16'])
  const seat = world.seat({ clustersMax: options.clustersMax ?? 64 })
  const east = world.join(seat, founder, 1, 'east', { pods: ['10.2.0.0/16'] })
  const bounds = { ...BOUNDS, clusters: options.clusters ?? BOUNDS.clusters }
  const set = addAll(world.set(RULES, bounds), [founder, east])
  const answer = ({ item }: Thing) => {
    const opened = set.open(item)
    assert.ok(opened.kind === 'item', JSON.stringify(opened))
    set.addOpened([
      { ...opened, statements: opened.statements.filter(({ statement }) => statement.kind === 'seat') }
    ])
    return judgeNewcomer({ set, ...look(set) }, opened)
  }
  const knock = (invite: TestInvite) => {
    const found = answer(world.redeem(invite))
    return found.kind === 'reject' ? found.code : found.kind
  }
  return { world, founder, seat, east, set, answer, knock }
}

describe('a newcomer at the door', () => {
  it('is admitted by an unused invite whose name and prefixes are free', () => {
    const { world, seat, knock } = mesh()
    assert.equal(knock(world.invite(seat, 'north', { pods: ['10.4.0.0/16'] })), 'admit')
    assert.equal(knock(world.invite(world.seat(), 'north')), 'admit', 'its seat comes with it')
  })

  it('gets the same admission again with the same key, and none with another one', () => {
    const { world, founder, seat, set, answer, knock } = mesh()
    const invite = world.invite(seat, 'north')
    const seed = world.crypto.random(32)
    const north = world.admit(invite, founder, 2, { seed })
    addAll(set, [north])
    assert.deepEqual(answer(world.redeem(invite, seed)), { kind: 'again', admission: north.id })
    const other = answer(world.redeem(invite))
    assert.ok(other.kind === 'reject' && other.code === 'used')
    assert.deepEqual(other.explain, [north.id])
    assert.equal(knock(invite), 'used')
  })

  it('is refused when the invite or its seat was voided, and told by which statement', () => {
    const { world, seat, set, answer, knock } = mesh()
    const invite = world.invite(seat, 'north')
    const cancelled = world.void(seat, invite.id)
    addAll(set, [cancelled])
    const found = answer(world.redeem(invite))
    assert.ok(found.kind === 'reject' && found.code === 'cancelled')
    assert.deepEqual(found.explain, [cancelled.id])
    const removed = world.seat()
    addAll(set, [world.void('roots', removed)])
    assert.equal(knock(world.invite(removed, 'south')), 'cancelled', 'the Void was here before the seat')
  })

  it('is refused for a name or prefix of another cluster, but for the one that it replaces', () => {
    const { world, seat, east, set, knock } = mesh()
    assert.equal(knock(world.invite(seat, 'east')), 'nameTaken')
    assert.equal(knock(world.invite(seat, 'north', { services: ['10.2.3.0/24'] })), 'prefixOverlap')
    assert.equal(knock(world.invite(seat, 'east', { pods: ['10.2.0.0/16'], replaces: east })), 'admit')
    assert.equal(knock(world.invite(seat, 'west', { replaces: east })), 'nameTaken')
    addAll(set, [world.bar({ seat }, east)])
    assert.equal(knock(world.invite(seat, 'east', { pods: ['10.2.0.0/16'] })), 'admit', 'it was removed')
  })

  it('is refused with a barred key, and where there is no room', () => {
    const { world, founder, seat, set, answer } = mesh()
    const seed = world.crypto.random(32)
    const north = world.admit(world.invite(seat, 'north'), founder, 2, { seed })
    addAll(set, [north, world.bar({ seat }, north)])
    const found = answer(world.redeem(world.invite(seat, 'south'), seed))
    assert.equal(found.kind === 'reject' && found.code, 'barred')
    const full = mesh({ clustersMax: 1 })
    assert.equal(full.knock(full.world.invite(full.seat, 'north')), 'quota')
    const crowded = mesh({ clusters: 1 })
    assert.equal(crowded.knock(crowded.world.invite(crowded.world.seat(), 'north')), 'quota')
  })

  it('is refused when it shows no certificate', () => {
    const { world, seat, answer } = mesh()
    for (const thing of [seat, world.invite(seat, 'north'), world.found('other')]) {
      const found = answer(thing)
      assert.equal(found.kind === 'reject' && found.code, 'malformed')
    }
  })
})
