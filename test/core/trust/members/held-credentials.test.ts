// The bounds on credentials, beside a plain computation of which ones count.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { newestFirst } from '../../../../src/core/trust/set/agents.ts'
import type { Credential } from '../../../../src/core/trust/members/credential.ts'
import { HeldCredentials } from '../../../../src/core/trust/members/held-credentials.ts'
import { World } from '../set/world.ts'
import { credentialOf, membersOf } from './people.ts'

const BOUNDS = { ofCluster: 3, origins: 6, ofFallenCluster: 1, fallen: 2 }

/** Credentials of four clusters with several agents and generations each. */
const world = new World()
const ann = world.seat()
const west = world.found('west')
const clusters = [west, ...[1, 2, 3].map((at) => world.join(ann, west, at, `c${at}`))]
const members = membersOf(world, [west, ann, ...clusters])
const seeds = [0, 1, 2, 3, 4].map(() => world.crypto.random(32))
const POOL: readonly Credential[] = clusters.flatMap((cluster) =>
  seeds.flatMap((seed) =>
    [1, 2].map((generation) => credentialOf(members, world.agent(cluster, generation, seed)))
  )
)

/** The ids that are held. */
function heldIds(held: HeldCredentials): readonly string[] {
  return Array.from(held.origins())
    .flatMap((origin) => held.of(origin))
    .map(({ cert }) => cert.id)
    .sort()
}

/** Invariants 1 and 2, by sorting everything. */
function expected(list: readonly Credential[]): readonly string[] {
  const best = [...Map.groupBy(list, ({ origin, clusterKey }) => `${origin} ${clusterKey}`).values()].flatMap(
    (same) => same.toSorted((a, b) => newestFirst(a.cert, b.cert)).slice(0, 1)
  )
  return [...Map.groupBy(best, ({ clusterKey }) => clusterKey)]
    .flatMap(([key, of]) =>
      of
        .toSorted((a, b) => newestFirst(a.cert, b.cert))
        .slice(0, BOUNDS.ofCluster)
        .map(({ cert }, turn) => ({ id: cert.id, turn, key }))
    )
    .sort((a, b) => a.turn - b.turn || (a.key < b.key ? -1 : 1))
    .slice(0, BOUNDS.origins)
    .map(({ id }) => id as string)
    .sort()
}

describe('held credentials', () => {
  it('are the newest of each cluster, and of the clusters in turn, for any order', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...POOL), { maxLength: 40 }), (list) => {
        const held = new HeldCredentials(BOUNDS)
        for (const one of list) held.add(one, true)
        assert.deepEqual(heldIds(held), expected(list))
      }),
      { numRuns: 300 }
    )
  })

  it('say what became of one', () => {
    const held = new HeldCredentials({ ...BOUNDS, ofCluster: 1 })
    const of = (seed: number, generation: number) => {
      const found = POOL[seed * 2 + generation - 1]
      assert.ok(found)
      return found
    }
    assert.equal(held.add(of(0, 1), true), 'kept')
    assert.equal(held.add(of(0, 1), true), 'same')
    assert.equal(held.add(of(0, 2), true), 'kept')
    assert.equal(held.add(of(0, 1), true), 'older')
    assert.equal(held.add(of(1, 1), true), 'full')
    assert.deepEqual(heldIds(held), [of(0, 2).cert.id])
  })

  it('of fallen clusters are few, and give way to those of standing ones', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...POOL), { maxLength: 40 }),
        fc.subarray(clusters.map(({ key }) => key)),
        fc.subarray(clusters.map(({ key }) => key)),
        (list, fallenBefore, fallenNow) => {
          const held = new HeldCredentials(BOUNDS)
          for (const one of list) held.add(one, !fallenBefore.includes(one.clusterKey))
          const all = [...list.keys()].filter(
            (at) => !fallenBefore.includes(list[at]?.clusterKey ?? west.key)
          )
          const standing = all.flatMap((at) => list[at] ?? [])
          const heldOfStanding = heldIds(held).filter((id) => standing.some(({ cert }) => cert.id === id))
          assert.deepEqual(heldOfStanding, expected(standing), 'fallen ones took no place')
          held.follow((key) => (fallenNow.includes(key) ? 'fallen' : 'stands'))
          const now = heldIds(held).flatMap((id) => POOL.find(({ cert }) => cert.id === id) ?? [])
          const fallen = now.filter(({ clusterKey }) => fallenNow.includes(clusterKey))
          assert.ok(fallen.length <= BOUNDS.fallen)
          assert.ok(now.length <= BOUNDS.origins)
          for (const of of Map.groupBy(fallen, ({ clusterKey }) => clusterKey).values())
            assert.equal(of.length, BOUNDS.ofFallenCluster)
          held.follow(() => 'unknown')
          assert.deepEqual(heldIds(held), [])
        }
      ),
      { numRuns: 200 }
    )
  })
})
