// A cluster key that its own successor has replaced: the old key has admitted the new one, and a thief may have the old one.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { addAll, look, lookAtAgents, type Thing, World } from './world.ts'

describe('a cluster key that has admitted its successor', () => {
  const world = new World()
  const seat = world.seat()
  const west = world.found('west', ['10.1.0.0/16'])
  const east = world.join(seat, west, 1, 'east', { pods: ['10.2.0.0/16'], services: ['10.102.0.0/16'] })
  const granted = world.grant(seat, east, { pods: ['10.22.0.0/16'] })
  const invite = world.invite(seat, 'east', {
    pods: ['10.2.0.0/16', '10.22.0.0/16'],
    services: ['10.102.0.0/16'],
    replaces: east
  })
  const next = world.admit(invite, east, 2)
  const nodeSeed = world.crypto.random(32)
  const [before, after] = [world.agent(east, 1, nodeSeed), world.agent(next, 1, nodeSeed)]
  const thief = world.agent(east, 7)
  const honest: readonly Thing[] = [west, east, granted, next]
  /** Everything that the old key can sign: bars of itself, of its former agents, of the new agents; newcomers. */
  const stolen: readonly Thing[] = [
    world.bar({ cluster: east }, east),
    world.bar({ cluster: east }, { agent: after.key }),
    world.bar({ cluster: east }, { agent: thief.key }),
    world.admit(world.invite(seat, 'north', { pods: ['10.4.0.0/16'] }), east, 9)
  ]

  it('gives name, prefixes, place and agents to it, whatever the old key signs later, in any order', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([...stolen]), fc.nat(1000), (signed, turn) => {
        const all = [...honest, ...signed]
        const order = all.map((_, at) => all[(at + turn) % all.length]).filter((one) => one !== undefined)
        const set = world.set()
        // One that waits for its sponsor comes again, as with the next exchange.
        for (const { item } of [...order, ...all]) set.add(item)
        const seen = look(set)
        assert.deepEqual([seen.stands(next), seen.stands(east)], [true, false])
        assert.equal(seen.owner('east'), next.key)
        assert.deepEqual(
          seen.pods(next).map(String),
          look(addAll(world.set(), honest)).pods(next).map(String)
        )
        assert.deepEqual([...seen.pods(next)].sort(), ['10.2.0.0/16', '10.22.0.0/16'])
        assert.deepEqual(seen.pods(east), [])
        assert.equal(seen.standing.clusters.get(next.key)?.place.seen, 1, 'the place of the old key')
        const one = lookAtAgents(set, [after])
        assert.equal(one.get(after.key)?.stands, true)
        for (const fallen of [before, thief])
          assert.equal(lookAtAgents(set, [fallen]).get(fallen.key)?.stands, false)
      }),
      { numRuns: 60 }
    )
  })

  it('stands alike on two sides of a partition when they meet, and the old key only where nothing was heard', () => {
    const [apart, there] = [addAll(world.set(), [west, east, granted]), addAll(world.set(), honest)]
    assert.deepEqual([look(apart).stands(east), look(there).stands(east)], [true, false])
    apart.add(next.item)
    assert.deepEqual([look(apart).stands(next), look(apart).stands(east)], [true, false])
  })

  it('falls when an administrator revokes the old key without having heard of it', () => {
    const set = addAll(world.set(), [...honest, world.bar({ seat }, east, [])])
    assert.equal(look(set).stands(next), false)
    // `remove` ends the old key alone.
    assert.equal(look(addAll(world.set(), [...honest, world.bar({ seat }, east)])).stands(next), true)
  })
})
