import assert from 'node:assert/strict'
import { gatewayChoice } from '../../../src/app/session/gateway-choice.ts'
import type { ClusterName, Origin } from '../../../src/core/model/values.ts'
import type { ClusterView, MeshView, ProvedAgent } from '../../../src/core/view/view.ts'

const cluster = (name: string, ...origins: readonly string[]): ClusterView => ({
  name: name as ClusterName,
  podPrefixes: [],
  servicePrefixes: [],
  agents: origins.map((origin) => ({ origin: origin as Origin, agent: { role: 'gateway' } as ProvedAgent })),
  services: new Map(),
  complete: true,
  conflicts: [],
  refusals: []
})

const view = (...clusters: readonly ClusterView[]): MeshView => ({
  self: 'west' as ClusterName,
  clusters: new Map([cluster('west', 'w1', 'w2'), ...clusters].map((each) => [each.name, each]))
})

const choice = (of: MeshView, dead: readonly string[] = [], mtu?: number) =>
  gatewayChoice(of, {
    health: (origin) => (dead.includes(origin) ? 'down' : 'up'),
    pathMtu: () => mtu
  })

describe('the choice of gateways', () => {
  it('is another one when one of several gateways dies', () => {
    const two = view(cluster('east', 'e1', 'e2'))
    assert.notEqual(choice(two), choice(two, ['e1']))
  })

  it('is the same when the only gateway of a cluster dies', () => {
    const one = view(cluster('east', 'e1'))
    assert.equal(choice(one), choice(one, ['e1']))
  })

  it('is another one when a path carries less', () => {
    const one = view(cluster('east', 'e1'))
    assert.notEqual(choice(one), choice(one, [], 1380))
  })

  it('does not depend on the gateways of the own cluster', () => {
    assert.equal(choice(view()), choice(view(), ['w1']))
  })
})
