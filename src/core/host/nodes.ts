// The nodes of a cluster: agents on hosts that are no gateways. A node has tunnels to the gateways of its own cluster
// only, and these carry its traffic to the other clusters and back. This file decides which gateway carries which node.
// WireGuard knows one peer for a prefix, in both directions. So what leaves by one gateway must come back by the same one:
// the node and the hosts of all other clusters must choose alike, without a word between them. The choice is therefore made
// for each node, by a key that all know (its PeerId), and not for each prefix of another cluster.
// Invariants
//   1. No node takes what another agent of the cluster has. A prefix that overlaps one of a gateway, the tunnel address of a
//      gateway, or a prefix of a node with a lower PeerId is left out on every host alike, and so is a tunnel address
//      inside a prefix of another agent.
//   2. With the same states of tunnels, a node and the hosts of other clusters choose the same gateway for it
//      (gateway-order.ts).
//   3. An agent whose role is `node` is a peer of the gateways of its own cluster only.
import { cidrContains, cidrOverlaps, hostCidr } from '../model/cidr.ts'
import type { Cidr, ClusterName, Origin, Role } from '../model/values.ts'
import { gatewaysInOrder, type HealthOf } from './gateway-order.ts'
import type { AgentView, ClusterView, MeshView } from '../view/view.ts'

/** Returns the gateways of a cluster in an order that is the same on every host. */
export function gatewaysOf(cluster: Pick<ClusterView, 'agents'>): readonly AgentView[] {
  return ofRole(cluster, 'gateway')
}

/** Returns the nodes of a cluster that are no gateways, in an order that is the same on every host. */
function nodesOf(cluster: Pick<ClusterView, 'agents'>): readonly AgentView[] {
  return ofRole(cluster, 'node')
}

function ofRole({ agents }: Pick<ClusterView, 'agents'>, role: Role): readonly AgentView[] {
  return agents.filter(({ agent }) => agent.role === role).toSorted((a, b) => (a.origin < b.origin ? -1 : 1))
}

/** A node of a cluster with what its gateways carry for it. */
interface NodeClaim {
  readonly node: AgentView
  /** Pod prefixes of the node that no other agent claims (1). Empty: no pod of the node is served. */
  readonly pods: readonly Cidr[]
  /** `pods`, and the node's tunnel address where it lies outside of all prefixes. */
  readonly sources: readonly Cidr[]
}

/** Returns the claims of all nodes of a cluster. */
export function nodeClaims(cluster: Pick<ClusterView, 'agents' | 'podPrefixes'>): readonly NodeClaim[] {
  const nodes = nodesOf(cluster)
  if (nodes.length === 0) return []
  const gateways = gatewaysOf(cluster)
  const taken: Cidr[] = gateways.flatMap(({ agent: { nodePrefixes = [], tunnelAddress } }) =>
    tunnelAddress === undefined ? nodePrefixes : [...nodePrefixes, hostCidr(tunnelAddress)]
  )
  const claims = nodes.map((node) => {
    const pods: Cidr[] = []
    for (const prefix of node.agent.nodePrefixes ?? []) {
      if (taken.some((other) => cidrOverlaps(prefix, other))) continue
      taken.push(prefix)
      pods.push(prefix)
    }
    return { node, pods }
  })
  return claims.map(({ node, pods }) => {
    const address = node.agent.tunnelAddress && hostCidr(node.agent.tunnelAddress)
    const isFree =
      address !== undefined &&
      !taken.some((other) => cidrContains(other, address)) &&
      cluster.podPrefixes.some((prefix) => cidrContains(prefix, address))
    if (isFree) taken.push(address)
    return { node, pods, sources: isFree ? [...pods, address] : pods }
  })
}

/**
 * How often a node has gone on to its next gateway, for each other cluster, because that did not answer by the one before.
 */
export type TurnOf = (cluster: ClusterName) => number

/** What a node knows of its gateways. */
interface NodeFacts {
  readonly self: Origin
  readonly state: HealthOf
  readonly turnOf: TurnOf
}

/** Returns the gateway by which a node reaches each other cluster. The map is empty while its cluster has no gateway. */
export function gatewayByCluster(view: MeshView, facts: NodeFacts): ReadonlyMap<ClusterName, AgentView> {
  const ordered = gatewaysInOrder(facts.self, nearGateways(view, facts.self), facts.state)
  return new Map(
    [...view.clusters.keys()].flatMap((name) => {
      const gateway = ordered[facts.turnOf(name) % Math.max(1, ordered.length)]
      return name === view.self || gateway === undefined ? [] : [[name, gateway]]
    })
  )
}

/** Returns the gateways of the own cluster of a node. */
export function nearGateways(view: MeshView, self: Origin | undefined): readonly AgentView[] {
  return gatewaysOf(view.clusters.get(view.self) ?? { agents: [] }).filter(({ origin }) => origin !== self)
}

/**
 * Returns the agents to which this one has tunnels or sends probes through them: the gateways of the other clusters, and
 * the nodes of its own, or, for a node, its gateways.
 */
export function tunnelAgents(view: MeshView, self: Origin | undefined, role: Role): readonly AgentView[] {
  const near =
    role === 'node' ? nearGateways(view, self) : nodesOf(view.clusters.get(view.self) ?? { agents: [] })
  const far = [...view.clusters.values()].filter(({ name }) => name !== view.self)
  return [...near.filter(({ origin }) => origin !== self), ...far.flatMap((cluster) => gatewaysOf(cluster))]
}
