// Which gateway carries what while others of its cluster hand over, as properties of the order and of the whole host.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { desired, type DesiredInput } from '../../../src/core/host/desired.ts'
import { gatewaysInOrder } from '../../../src/core/host/gateway-order.ts'
import { hasMovedFrom, haveMoved, movesOf, takers } from '../../../src/core/host/hand-over.ts'
import { EMPTY_HOST } from '../../../src/core/host/normalize.ts'
import { NO_SURROUNDINGS } from '../../../src/core/host/surroundings.ts'
import type { GatewayHealth } from '../../../src/core/host/tunnel-state.ts'
import { parseCidr, parseIp } from '../../../src/core/model/cidr.ts'
import type {
  Cidr,
  ClusterName,
  HandOver,
  Ip,
  Origin,
  Role,
  WireguardKey
} from '../../../src/core/model/values.ts'
import type { AgentView, ClusterView, MeshView } from '../../../src/core/view/view.ts'

const HEALTHS = ['up', 'silent', 'connecting', 'down'] as const
const ip = (text: string): Ip => parseIp(text) ?? assert.fail(text)
const cidr = (text: string): Cidr => {
  const parsed = parseCidr(text)
  return parsed.kind === 'cidr' ? parsed.cidr : assert.fail(parsed.reason)
}

interface Gateway {
  readonly health: GatewayHealth
  readonly handOver: HandOver | undefined
}
const gateway: fc.Arbitrary<Gateway> = fc.record({
  health: fc.constantFrom(...HEALTHS),
  handOver: fc.constantFrom<HandOver | undefined>(undefined, undefined, 'drained', 'stopping')
})
const gateways = fc.array(gateway, { minLength: 1, maxLength: 5 })
const key = fc.string({ minLength: 1, maxLength: 8 })

/** Agent number `index` of the cluster east. */
function agentOf(index: number, handOver: HandOver | undefined, role: Role = 'gateway'): AgentView {
  const name = `${role}-${index}`
  return {
    origin: name as Origin,
    agent: {
      kind: 'agent',
      wireguardKey: `key-${name}` as WireguardKey,
      wireguardAddresses: [],
      multiaddrs: [],
      tunnelAddress: ip(role === 'node' ? `10.2.${100 + index}.1` : `10.2.${index}.1`),
      node: name,
      role,
      version: '0',
      probePort: 7,
      nodePrefixes: [cidr(role === 'node' ? `10.2.${100 + index}.0/24` : `10.2.${index}.0/24`)],
      ...(handOver && { handOver })
    }
  }
}
const agentsOf = (all: readonly Gateway[]): readonly AgentView[] =>
  all.map(({ handOver }, index) => agentOf(index, handOver))
const healthOf =
  (all: readonly Gateway[]) =>
  (origin: Origin): GatewayHealth =>
    all[Number(origin.split('-')[1])]?.health ?? 'up'
const first = (key: string, all: readonly Gateway[]): Gateway & { readonly index: number } => {
  const [chosen] = gatewaysInOrder(key, agentsOf(all), healthOf(all))
  const index = Number(chosen?.origin.split('-')[1])
  return { ...(all[index] ?? assert.fail('no gateway was chosen')), index }
}
const at = (health: GatewayHealth): number => HEALTHS.indexOf(health)

describe('the order of gateways', () => {
  it('always chooses one, and never one whose tunnel is worse than that of another', () => {
    fc.assert(
      fc.property(key, gateways, (key, all) => {
        const { health } = first(key, all)
        for (const each of all)
          assert.ok(at(health) <= at(each.health), `${health}, and one is ${each.health}`)
      })
    )
  })

  it('chooses one that hands over only where all of the same health do', () => {
    fc.assert(
      fc.property(key, gateways, (key, all) => {
        const { health, handOver } = first(key, all)
        if (handOver === undefined) return
        for (const each of all) assert.ok(each.health !== health || each.handOver !== undefined)
      })
    )
  })

  it('is the same in whatever order the gateways are known, and whatever their reason is', () => {
    fc.assert(
      fc.property(key, gateways, (key, all) => {
        const order = (of: readonly AgentView[]) =>
          gatewaysInOrder(key, of, healthOf(all)).map(({ origin }) => origin)
        const agents = agentsOf(all)
        assert.deepEqual(order(agents.toReversed()), order(agents))
        const others = all.map((each) => ({ ...each, handOver: each.handOver && ('stopping' as const) }))
        assert.deepEqual(order(agentsOf(others)), order(agents))
      })
    )
  })

  it('moves the keys of a gateway that hands over, and no other key; all come back', () => {
    fc.assert(
      fc.property(key, gateways, fc.nat(4), (key, all, number) => {
        const active = all.map(({ health }) => ({ health, handOver: undefined }))
        const drained = number % all.length
        const during = active.map((each, index) => ({
          ...each,
          handOver: index === drained ? ('drained' as const) : undefined
        }))
        const before = first(key, active)
        const now = first(key, during)
        if (before.index !== drained) assert.equal(now.index, before.index)
        const isOther = active.some(({ health }, index) => index !== drained && health === before.health)
        if (before.index === drained) assert.equal(now.index !== drained, isOther)
        const all2 = active.map((each) => ({ ...each, handOver: 'drained' as const }))
        assert.equal(first(key, all2).index, before.index, 'as if none handed over')
      })
    )
  })
})

const cluster = (name: string, pods: string, agents: readonly AgentView[]): ClusterView => ({
  name: name as ClusterName,
  podPrefixes: [cidr(pods)],
  servicePrefixes: [],
  agents,
  services: new Map(),
  complete: true,
  conflicts: [],
  refusals: []
})
const WEST = cluster('west', '10.1.0.0/16', [])
const viewOf = (self: string, agents: readonly AgentView[]): MeshView => ({
  self: self as ClusterName,
  clusters: new Map([WEST, cluster('east', '10.2.0.0/16', agents)].map((each) => [each.name, each]))
})

/** The host of west, or that of a node of east. */
function hostOf(agents: readonly AgentView[], all: readonly Gateway[], node?: AgentView) {
  const cluster = (node === undefined ? 'west' : 'east') as ClusterName
  const input: DesiredInput = {
    view: viewOf(cluster, agents),
    self: { origin: node?.origin ?? ('w' as Origin), cluster },
    role: node === undefined ? 'gateway' : 'node',
    local: { publicKey: (node?.agent.wireguardKey ?? 'key-w') as WireguardKey },
    health: () => 'up',
    gatewayHealth: healthOf(all),
    surroundings: NO_SURROUNDINGS,
    settings: {
      device: 'rhizome0',
      listenPort: 51_820,
      mtu: 1420,
      balanceLocal: false,
      keepaliveSeconds: 25,
      scheduler: 'rr'
    }
  }
  return desired(input)
}

describe('hosts around a gateway that hands over', () => {
  const nodes = [0, 1, 2].map((index) => agentOf(index, undefined, 'node'))

  it('leave no prefix without a gateway, and choose one gateway for a node at both its ends', () => {
    fc.assert(
      fc.property(gateways, (all) => {
        const agents = [...agentsOf(all), ...nodes]
        const west = hostOf(agents, all)
        const owner = (prefix: string) =>
          west.peers.find(({ allowedIps }) => allowedIps.some((each) => each === prefix))?.publicKey
        assert.ok(owner('10.2.0.0/16'), 'the prefix of the cluster')
        for (const node of nodes) {
          const [prefix = ''] = node.agent.nodePrefixes ?? []
          const atNode = hostOf(agents, all, node).peers.find(({ allowedIps }) =>
            allowedIps.some((each) => each === '10.1.0.0/16')
          )
          assert.equal(owner(prefix), atNode?.publicKey)
          assert.ok(atNode)
        }
      })
    )
  })

  it('have moved exactly when nothing but its own is left at it, and say so only of what their kernel has', () => {
    fc.assert(
      fc.property(gateways, (all) => {
        const agents = [...agentsOf(all), ...nodes]
        const chosen = new Set(
          ['10.2.0.0/16', ...nodes.map(({ origin }) => origin)].map((each) => first(each, all).index)
        )
        const have = hostOf(agents, all)
        for (const [index, gateway] of agentsOf(all).entries()) {
          assert.equal(hasMovedFrom(gateway, have), !chosen.has(index), gateway.origin)
          assert.equal(hasMovedFrom(gateway, EMPTY_HOST), false, 'a kernel that was not read')
        }
      })
    )
  })

  it('are counted: only those that answer have to move, and one without probes cannot say it', () => {
    const [self, other] = [agentOf(0, 'drained'), agentOf(1, undefined)]
    const west = { ...agentOf(7, undefined), origin: 'w' as Origin }
    const view: MeshView = {
      ...viewOf('east', [self, other, ...nodes]),
      clusters: new Map(
        [cluster('west', '10.1.0.0/16', [west]), cluster('east', '10.2.0.0/16', [self, other, ...nodes])].map(
          (each) => [each.name, each]
        )
      )
    }
    const states = (hasMoved: boolean, away: readonly string[] = []) =>
      movesOf(view, {
        self: self.origin,
        tunnel: (origin) => (away.includes(origin) ? 'down' : 'up'),
        hasMoved: () => hasMoved
      })
    assert.deepEqual(
      states(true)
        .map(({ agent }) => agent.origin)
        .toSorted(),
      ['node-0', 'node-1', 'node-2', 'w']
    )
    assert.equal(haveMoved(states(true)), true)
    assert.equal(haveMoved(states(false)), false)
    assert.equal(haveMoved(states(false, ['node-0', 'node-1', 'node-2', 'w'])), true)
    Object.assign(west.agent, { probePort: 0 })
    assert.deepEqual(
      states(false).find(({ agent }) => agent === west),
      { cluster: 'west', agent: west, state: 'untold' }
    )
    const names = (isAlive: boolean) => takers(view, self.origin, () => isAlive).map(({ origin }) => origin)
    assert.deepEqual([names(true), names(false)], [[other.origin], []])
    Object.assign(other.agent, { handOver: 'stopping' })
    assert.deepEqual(names(true), [])
  })
})
