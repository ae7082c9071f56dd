// The agents of a view, as one of them sees them.
import type { Origin } from '../../core/model/values.ts'
import type { AgentView, MeshView } from '../../core/view/view.ts'

/** The gateways of the own cluster, this agent among them. */
export function ownAgents(view: MeshView): readonly AgentView[] {
  return view.clusters.get(view.self)?.agents ?? []
}

/** All agents of the mesh but `self`. */
export function otherAgents(view: MeshView, self: Origin): readonly AgentView[] {
  return [...view.clusters.values()]
    .flatMap((cluster) => cluster.agents)
    .filter(({ origin }) => origin !== self)
}
