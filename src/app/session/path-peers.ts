// The agents to which a tunnel of this agent begins here, with what their records say of its path. The tunnels of a node to
// other clusters begin at its gateways, so they are none.
import { tunnelAgents } from '../../core/host/nodes.ts'
import type { ClusterName, Origin, Role } from '../../core/model/values.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { PathPeer } from '../paths/member-path.ts'
import type { Relay } from '../paths/relay-end.ts'

/** The gateways of all clusters that offer to relay. */
export function relaysOf(view: MeshView): readonly Relay[] {
  return [...view.clusters.values()].flatMap(({ name, agents }) =>
    agents
      .filter(({ agent }) => agent.role === 'gateway' && agent.relayRate !== undefined)
      .map(({ origin, agent }) => ({ origin, cluster: name, node: agent.node }))
  )
}

/** `isCarried`: a gateway of this cluster carries the traffic to another one. */
export function pathPeers(
  view: MeshView,
  self: {
    readonly origin: Origin
    readonly role: Role
    readonly isCarried: (cluster: ClusterName) => boolean
  }
): readonly PathPeer[] {
  const members = new Set(tunnelAgents(view, self.origin, self.role).map(({ origin }) => origin))
  return [...view.clusters.values()].flatMap(({ name, agents }) =>
    agents
      .filter(({ origin }) => members.has(origin) && !self.isCarried(name))
      .map(({ origin, agent }) => ({
        origin,
        cluster: name,
        node: agent.node,
        key: agent.wireguardKey,
        addresses: agent.wireguardAddresses
      }))
  )
}
