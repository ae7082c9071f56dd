import assert from 'node:assert/strict'
import fc from 'fast-check'
import { keyHolders } from '../../../src/core/host/key-holders.ts'
import type { ClusterName, Origin, WireguardKey } from '../../../src/core/model/values.ts'
import type { ClusterView, MeshView, ProvedAgent } from '../../../src/core/view/view.ts'

type Entry = readonly [cluster: string, origin: string, key: string]

/** A view with these agents, clusters and agents in their order. */
function viewOf(entries: readonly Entry[]): MeshView {
  const names = [...new Set(entries.map(([cluster]) => cluster))].sort()
  const clusters = names.map((name): [ClusterName, ClusterView] => {
    const agents = entries
      .filter(([cluster]) => cluster === name)
      .map(([, origin, key]) => ({
        origin: origin as Origin,
        agent: { role: 'gateway', wireguardKey: key as WireguardKey } as ProvedAgent
      }))
      .sort((a, b) => (a.origin < b.origin ? -1 : 1))
    return [name as ClusterName, { name, agents } as unknown as ClusterView]
  })
  return { self: 'self' as ClusterName, clusters: new Map(clusters) }
}

const entries = fc.uniqueArray(
  fc.tuple(
    fc.constantFrom('a', 'b', 'self'),
    fc.constantFrom('p', 'q', 'r', 's'),
    fc.constantFrom('k1', 'k2')
  ),
  { selector: ([cluster, origin]) => `${cluster}${origin}`, maxLength: 8 }
)

describe('the holder of a WireGuard key that several agents have proved', () => {
  it('stays the same while it announces the key, whoever else comes with a copy of the seed', () => {
    const first = viewOf([['b', 'p', 'k1']])
    const both = viewOf([
      ['a', 'q', 'k1'],
      ['b', 'p', 'k1']
    ])
    const before = keyHolders(first, new Map())
    assert.deepEqual([...keyHolders(both, before).values()], ['p'])
    assert.deepEqual([...keyHolders(both, new Map()).values()], ['q'], 'the first in order when both are new')
    assert.deepEqual([...keyHolders(viewOf([['a', 'q', 'k1']]), before).values()], ['q'])
  })

  it('is one for each key of the other clusters, and never changes without need', () => {
    fc.assert(
      fc.property(fc.array(entries, { minLength: 1, maxLength: 6 }), (list) => {
        let before: ReadonlyMap<WireguardKey, Origin> = new Map()
        for (const each of list) {
          const now = keyHolders(viewOf(each), before)
          const others: readonly Entry[] = each.filter(([cluster]) => cluster !== 'self')
          assert.deepEqual([...now.keys()].sort(), [...new Set(others.map(([, , key]) => key))].sort())
          for (const [key, origin] of now) {
            const claimants = new Set<string>(
              others.filter((entry) => entry[2] === key).map((entry) => entry[1])
            )
            assert.ok(claimants.has(origin))
            const was = before.get(key)
            if (was !== undefined && claimants.has(was)) assert.equal(origin, was)
          }
          before = now
        }
      })
    )
  })
})
