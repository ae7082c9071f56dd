// Selects agents of a view.
import type { Origin } from '../../core/model/values.ts'
import type { AgentView, MeshView } from '../../core/view/view.ts'

/** Returns the agents of this agent's own cluster, itself among them once its record is in the view. */
export function ownAgents(view: MeshView): readonly AgentView[] {
  return view.clusters.get(view.self)?.agents ?? []
}

/** Returns the record of an agent of this agent's own cluster; undefined when it is not in the view. */
export function agentIn(view: MeshView, origin: Origin): AgentView['agent'] | undefined {
  return ownAgents(view).find((own) => own.origin === origin)?.agent
}

/** Returns all agents of the mesh except `self`, in the order of the names of their clusters. */
export function otherAgents(view: MeshView, self: Origin): readonly AgentView[] {
  return [...view.clusters.values()]
    .flatMap((cluster) => cluster.agents)
    .filter(({ origin }) => origin !== self)
}
