import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { FAST_MAX, fastProbed } from '../../../src/core/host/fast-probes.ts'
import type { ClusterName, Origin } from '../../../src/core/model/values.ts'
import type { AgentView, ClusterView, MeshView } from '../../../src/core/view/view.ts'

const agent = (origin: string): AgentView =>
  ({ origin: origin as Origin, agent: { role: 'gateway' } }) as Partial<AgentView> as AgentView

/** A mesh of clusters with so many gateways each. This agent is the first gateway of west. */
function mesh(gateways: Readonly<Record<string, number>>): MeshView {
  const clusters = Object.entries(gateways).map(([name, count]) => {
    const agents = Array.from({ length: count }, (_, index) => agent(`${name}-${index}`))
    const cluster = { name: name as ClusterName, agents } as Partial<ClusterView> as ClusterView
    return [cluster.name, cluster] as const
  })
  return { self: 'west' as ClusterName, clusters: new Map(clusters) }
}
const probed = (gateways: Readonly<Record<string, number>>): string[] =>
  [...fastProbed(mesh(gateways), 'west-0' as Origin)].sort()

describe('the gateways that are probed more often', () => {
  it('are those whose cluster has another one', () => {
    assert.deepEqual(probed({ west: 1, east: 1, edge: 2 }), ['edge-0', 'edge-1'])
    assert.deepEqual(probed({ west: 2, east: 1 }), [], 'one fellow alone has no other')
    assert.deepEqual(probed({ west: 3, east: 1 }), ['west-1', 'west-2'])
  })

  it('are not fewer in other clusters because one announces many', () => {
    assert.deepEqual(probed({ west: 1, edge: 2, flood: 4600 }), ['edge-0', 'edge-1'])
  })

  it('are bounded, and the smallest clusters have them first', () => {
    const counts = fc.uniqueArray(fc.integer({ min: 2, max: 300 }), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(counts, (all) => {
        const chosen = probed(Object.fromEntries(all.map((count) => [`c${count}`, count])))
        assert.ok(chosen.length <= FAST_MAX)
        const clusters = new Set(chosen.map((origin) => Number(/^c(\d+)-/.exec(origin)?.[1])))
        const sorted = all.toSorted((a, b) => a - b)
        assert.deepEqual(
          [...clusters].sort((a, b) => a - b),
          sorted.slice(0, clusters.size)
        )
      })
    )
  })
})
