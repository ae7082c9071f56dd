import assert from 'node:assert/strict'
import { overlayAgents, ownGateways } from '../../../src/app/session/members.ts'
import type { ClusterName, Origin, Role } from '../../../src/core/model/values.ts'
import type { ClusterView, MeshView, ProvedAgent } from '../../../src/core/view/view.ts'

const cluster = (name: string, agents: Readonly<Record<string, Role>>): ClusterView => ({
  name: name as ClusterName,
  podPrefixes: [],
  servicePrefixes: [],
  agents: Object.entries(agents).map(([origin, role]) => ({
    origin: origin as Origin,
    agent: { role } as ProvedAgent
  })),
  services: new Map(),
  complete: true,
  conflicts: [],
  refusals: []
})
const view: MeshView = {
  self: 'east' as ClusterName,
  clusters: new Map(
    [
      cluster('east', { e1: 'gateway', e2: 'gateway', n1: 'node', n2: 'node' }),
      cluster('west', { w1: 'gateway', m1: 'node' })
    ].map((each) => [each.name, each])
  )
}
const names = (self: string, role: Role) =>
  overlayAgents(view, self as Origin, role).map(({ origin }) => origin)

describe('the overlay', () => {
  it('has the gateways of all clusters, and no node', () =>
    assert.deepEqual(names('e1', 'gateway'), ['e2', 'w1']))

  it('has leaves: a node has the gateways of its own cluster', () =>
    assert.deepEqual(names('n1', 'node'), ['e1', 'e2']))

  it('nodes are no candidates for the speaker of their cluster', () =>
    assert.deepEqual(
      ownGateways(view).map(({ origin }) => origin),
      ['e1', 'e2']
    ))
})
