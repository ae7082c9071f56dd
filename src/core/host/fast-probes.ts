// Which gateways are probed more often: those whose cluster has another one that takes over. A probe costs both ends, so there
// is a budget.
// Invariants
//   1. At most FAST_MAX gateways are probed more often.
//   2. The clusters with the fewest gateways come first, so a member that announces many of them takes this from itself and
//      not from the others.
import type { Origin } from '../model/values.ts'
import type { MeshView } from '../view/view.ts'
import { gatewaysOf, nearGateways } from './nodes.ts'

/** A probe and its answer take 93 µs of a processor, about half of it at each end: at five a second these cost 5 %. */
export const FAST_MAX = 200

/** Returns the gateways that this agent probes more often. */
export function fastProbed(view: MeshView, self: Origin): ReadonlySet<Origin> {
  const groups = [...view.clusters.values()]
    .map((cluster) => ({
      name: cluster.name,
      gateways: cluster.name === view.self ? nearGateways(view, self) : gatewaysOf(cluster)
    }))
    .filter(({ gateways }) => gateways.length > 1)
    .sort((a, b) => a.gateways.length - b.gateways.length || (a.name < b.name ? -1 : 1))
  const chosen = new Set<Origin>()
  for (const { gateways } of groups) {
    if (chosen.size + gateways.length > FAST_MAX) break
    for (const { origin } of gateways) chosen.add(origin)
  }
  return chosen
}
