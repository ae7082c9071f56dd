// The facts on which the choice among the gateways of another cluster depends. A prefix moves to another gateway as
// soon as its gateway is down, or when a better one is up again (core/host/desired.ts). path-watch.ts compares these
// facts once a second and asks for a pass over the host only when they have changed.
import { gatewaysOf } from '../../core/host/nodes.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import type { AgentView, MeshView } from '../../core/view/view.ts'

/** The state and the path MTU of the tunnel to a gateway. */
interface GatewayFacts {
  /** Returns the state of the tunnel: `up`, `silent`, `connecting` or `down`. */
  readonly health: (origin: Origin) => string
  /** Returns the bytes that the path carries; undefined: it carries the tunnel's MTU, or was not measured. */
  readonly pathMtu: (origin: Origin) => number | undefined
  /** On a node: the gateway by which it reaches each other cluster (core/host/nodes.ts). */
  readonly carriers?: ReadonlyMap<ClusterName, AgentView>
}

/**
 * Returns a text that differs from the one before exactly when the host has to be planned again. The health of a
 * cluster's only gateway is not in it, since there is no other gateway to choose.
 */
export function gatewayChoice(view: MeshView, { health, pathMtu, carriers }: GatewayFacts): string {
  return [...view.clusters.values()]
    .filter(({ name }) => name !== view.self)
    .flatMap((cluster) => {
      const gateways = gatewaysOf(cluster)
      return [
        carriers?.get(cluster.name)?.origin ?? '',
        ...gateways.map(
          ({ origin }) => `${origin} ${gateways.length > 1 ? health(origin) : ''} ${pathMtu(origin) ?? ''}`
        )
      ]
    })
    .join()
}
