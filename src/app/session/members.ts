// Selects agents of a view.
import type { Origin, Role } from '../../core/model/values.ts'
import type { AgentView, MeshView } from '../../core/view/view.ts'

/** Returns the agents of this agent's own cluster, itself among them once its record is in the view. */
export function ownAgents(view: MeshView): readonly AgentView[] {
  return view.clusters.get(view.self)?.agents ?? []
}

/** Returns the record of an agent of this agent's own cluster; undefined when it is not in the view. */
export function agentIn(view: MeshView, origin: Origin): AgentView['agent'] | undefined {
  return ownAgents(view).find((own) => own.origin === origin)?.agent
}

/** Returns the gateways of this agent's own cluster, itself among them if it is one. */
export function ownGateways(view: MeshView): readonly AgentView[] {
  return ownAgents(view).filter(({ agent }) => agent.role === 'gateway')
}

/**
 * Returns the agents with which this one keeps control connections, except itself. Nodes are leaves: a gateway has the
 * gateways of all clusters, a node those of its own. So the overlay has as many members as there are gateways.
 */
export function overlayAgents(view: MeshView, self: Origin, role: Role): readonly AgentView[] {
  const clusters = role === 'node' ? [view.clusters.get(view.self)] : [...view.clusters.values()]
  return clusters
    .flatMap((cluster) => cluster?.agents ?? [])
    .filter(({ origin, agent }) => origin !== self && agent.role === 'gateway')
}
