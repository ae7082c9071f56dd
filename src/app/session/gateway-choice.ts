// The facts on which the choice among the gateways of another cluster depends. A prefix moves to another gateway as soon as its gateway
// is down, or when a better one is up again (src/core/host/desired.ts).
import type { Origin } from '../../core/model/values.ts'
import type { MeshView } from '../../core/view/view.ts'

export interface GatewayFacts {
  readonly health: (origin: Origin) => string
  /** Bytes; undefined: the path carries the tunnel's MTU, or is not measured. */
  readonly pathMtu: (origin: Origin) => number | undefined
}

/** A text that differs exactly when the host has to be planned again. The health of a cluster's only gateway changes no choice. */
export function gatewayChoice(view: MeshView, { health, pathMtu }: GatewayFacts): string {
  return [...view.clusters.values()]
    .filter(({ name }) => name !== view.self)
    .flatMap(({ agents }) =>
      agents.map(
        ({ origin }) => `${origin} ${agents.length > 1 ? health(origin) : ''} ${pathMtu(origin) ?? ''}`
      )
    )
    .join()
}
