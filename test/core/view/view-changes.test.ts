import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import type { ClusterName } from '../../../src/core/model/values.ts'
import { SortedMap } from '../../../src/core/model/sorted-map.ts'
import { changedClusters } from '../../../src/core/view/view-changes.ts'
import type { ClusterView, MeshView, ServiceView } from '../../../src/core/view/view.ts'
import { cluster, meshOf, service } from '../dns/fixtures.ts'

/** Few objects, so that two views often share some. */
const SERVICES = Array.from({ length: 6 }, (_, n) => service(`shop/s${n % 3}`, [`10.2.0.${n}`]))
const CLUSTERS: readonly ClusterView[] = ['east', 'west'].flatMap((name) => [
  cluster(name, {}),
  cluster(name, { services: SERVICES.slice(0, 3) }),
  cluster(name, { services: SERVICES.slice(2, 5) })
])

const services = fc.uniqueArray(fc.constantFrom(...SERVICES), {
  selector: ({ service: { name } }) => name
})
const view: fc.Arbitrary<MeshView> = fc
  .uniqueArray(
    fc.oneof(
      fc.constantFrom(...CLUSTERS),
      fc.tuple(fc.constantFrom('east', 'west'), services, fc.boolean()).map(([name, list, isSorted]) => {
        const made = cluster(name, { services: list })
        return isSorted ? { ...made, services: SortedMap.from(made.services) } : made
      })
    ),
    { selector: ({ name }) => name }
  )
  .map((clusters) => meshOf(...clusters))

describe('what changed between two views', () => {
  it('is every cluster and every service that is another object, and nothing else', () => {
    fc.assert(
      fc.property(fc.option(view, { nil: undefined }), view, (before, after) => {
        const clusters = new Map<string, ClusterView>(before?.clusters ?? [])
        const held = new Map<string, ServiceView>()
        for (const { name, services: own } of clusters.values())
          for (const [key, each] of own) held.set(`${name} ${key}`, each)
        for (const change of changedClusters(before, after)) {
          assert.notEqual(change.before, change.after)
          assert.equal(clusters.get(change.name), change.before)
          if (change.after === undefined) clusters.delete(change.name)
          else clusters.set(change.name, change.after)
          for (const each of change.services) {
            const key = `${change.name} ${each.key}`
            assert.notEqual(each.before, each.after)
            assert.equal(held.get(key), each.before)
            if (each.after === undefined) held.delete(key)
            else held.set(key, each.after)
          }
        }
        assert.equal(clusters.size, after.clusters.size)
        for (const [name, each] of after.clusters) assert.equal(clusters.get(name), each)
        const expected = [...after.clusters.values()].flatMap(({ name, services: own }) =>
          Array.from(own, ([key, each]) => [`${name} ${key}`, each] as const)
        )
        assert.equal(held.size, expected.length)
        for (const [key, each] of expected) assert.equal(held.get(key), each)
      }),
      { numRuns: 500 }
    )
  })

  it('is nothing between a view and itself', () => {
    const one = meshOf(...CLUSTERS.slice(0, 1))
    assert.deepEqual(changedClusters(one, one), [])
    assert.deepEqual(
      changedClusters(undefined, one).map(({ name }) => name),
      ['east' as ClusterName]
    )
  })
})
