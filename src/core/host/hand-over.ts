// A gateway that hands its traffic over to the other gateways of its cluster, because an operator asks for it or before its
// agent stops for long (docs/decisions/0075). It says so in its record. The hosts that have a tunnel to it then prefer the
// other gateways (gateway-order.ts), and say in each probe to it when they have moved. So it knows when nothing comes by it
// any more.
// Invariants
//   1. A host has moved only when its kernel sends nothing by the gateway that another one could carry. What its kernel is
//      to do does not count.
//   2. The gateway itself changes nothing: its tunnels, routes and peers stay, so what still comes is forwarded.
//   3. The pods of its own host and its own tunnel address stay with it, since no other gateway reaches them by itself.
import { cidrContains, hostCidr } from '../model/cidr.ts'
import type { ClusterName, Origin } from '../model/values.ts'
import type { AgentView, MeshView } from '../view/view.ts'
import type { HostState } from './host-state.ts'
import { nearGateways, tunnelAgents } from './nodes.ts'
import type { TunnelState } from './tunnel-state.ts'

/** Whether this host has moved from a gateway (1). `have`: its kernel, as far as it is known. */
export function hasMovedFrom({ agent }: AgentView, have: Pick<HostState, 'tunnel' | 'peers'>): boolean {
  if (have.tunnel === undefined) return false // the kernel was not read yet
  const peer = have.peers.find(({ publicKey }) => publicKey === agent.wireguardKey)
  const { nodePrefixes = [], tunnelAddress } = agent
  const own = tunnelAddress === undefined ? nodePrefixes : [...nodePrefixes, hostCidr(tunnelAddress)]
  return (
    peer === undefined || peer.allowedIps.every((prefix) => own.some((each) => cidrContains(each, prefix)))
  )
}

/** Returns the other gateways of the cluster that live and do not hand over themselves. */
export function takers(
  view: MeshView,
  self: Origin,
  isAlive: (origin: Origin) => boolean
): readonly AgentView[] {
  return nearGateways(view, self).filter(
    ({ origin, agent }) => agent.handOver === undefined && isAlive(origin)
  )
}

/**
 * `moved`: it sends nothing by the gateway any more. `waiting`: it has not said so. `untold`: it cannot say so, because it
 * sends no probes. `away`: its tunnel does not answer, so nothing comes from it.
 */
type MoveState = 'moved' | 'waiting' | 'untold' | 'away'

/** A host that has a tunnel to the gateway, and whether it has moved. */
export interface Move {
  readonly cluster: ClusterName
  readonly agent: AgentView
  readonly state: MoveState
}

/** What a gateway knows of the hosts at the other ends of its tunnels. */
interface MoveFacts {
  readonly self: Origin
  readonly tunnel: (origin: Origin) => TunnelState['state']
  /** Whether the latest probe of this agent has said that its host has moved. */
  readonly hasMoved: (agent: AgentView) => boolean
}

/** Returns the hosts that have to move: the gateways of other clusters, and the nodes of the own one. */
export function movesOf(view: MeshView, { self, tunnel, hasMoved }: MoveFacts): readonly Move[] {
  const clusters = new Map(
    [...view.clusters.values()].flatMap(({ name, agents }) => agents.map(({ origin }) => [origin, name]))
  )
  return tunnelAgents(view, self, 'gateway').map((agent): Move => {
    const cluster = clusters.get(agent.origin) ?? view.self
    if (tunnel(agent.origin) !== 'up') return { cluster, agent, state: 'away' }
    if (hasMoved(agent)) return { cluster, agent, state: 'moved' }
    const sendsProbes = agent.agent.probePort !== 0 && agent.agent.tunnelAddress !== undefined
    return { cluster, agent, state: sendsProbes ? 'waiting' : 'untold' }
  })
}

/** Whether all hosts that have a tunnel to the gateway have moved. */
export function haveMoved(moves: readonly Move[]): boolean {
  return moves.every(({ state }) => state === 'moved' || state === 'away')
}
