// GET /v1/routes for `meshctl routes`: the prefixes of the other clusters, and whether this host has a route to them. A
// row is made of the view (which prefixes there are) and of the host as the latest pass left it (what is installed);
// the kernel is not read.
import type { RouteRow, RoutesAnswer } from '../../../api/answers.ts'
import type { ClusterView } from '../../../core/view/view.ts'
import { requireSession } from '../../session/current-session.ts'
import type { Session } from '../../session/session.ts'
import type { AgentState } from '../agent-state.ts'
import { conflictText, type Body } from '../answer-body.ts'
import { whyMissing } from '../missing.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED. */
export function routesRoute(state: AgentState): AdminHandlers['routes'] {
  return async () => routes(state, requireSession(state.session))
}

/**
 * The rows of each other cluster: its pod prefixes, its service prefixes, and the values that it lost in a conflict.
 */
function routes(state: AgentState, session: Session): Body<RoutesAnswer> {
  const view = session.control.view()
  const installed = installedPrefixes(session)
  const row = (cluster: ClusterView, kind: 'pod' | 'service', destination: string): RouteRow => {
    // Every tunnel to the cluster is down: connections to it are refused at once, so that clients need not wait for a
    // timeout.
    const dead = session.withdrawn.has(cluster.name)
    const isInstalled = state.host !== undefined && installed[kind].has(destination)
    // Packets to a pod are routed into the tunnel. Those to a service address are balanced to a pod first.
    const via =
      kind === 'pod'
        ? state.settings.device
        : `${state.host?.loadBalancer ?? 'load balancer'}, then ${state.settings.device}`
    const reason = dead
      ? 'no tunnel to it works: connections are refused at once'
      : isInstalled
        ? session.overlaps.get(destination)
        : (state.hostFault ?? whyMissing(session, destination))
    return {
      destination,
      kind,
      cluster: cluster.name,
      via,
      state: dead ? 'withdrawn' : isInstalled ? 'installed' : 'missing',
      ...(reason === undefined ? {} : { reason })
    }
  }
  const rows = [...view.clusters.values()].flatMap((cluster) =>
    cluster.name === view.self
      ? []
      : [
          ...cluster.podPrefixes.map((prefix) => row(cluster, 'pod', prefix)),
          ...cluster.servicePrefixes.map((prefix) => row(cluster, 'service', prefix)),
          ...cluster.conflicts.map((conflict): RouteRow => ({
            destination: conflict.value,
            kind: conflict.what === 'servicePrefix' ? 'service' : 'pod',
            cluster: cluster.name,
            via: '-',
            state: 'conflict',
            reason: conflictText(conflict)
          }))
        ]
  )
  return { routes: rows }
}

/**
 * The prefixes for which this host has a route (pods) or a load-balanced prefix (services). A failed operation leaves
 * one out, so the host may lack some while it has others.
 */
function installedPrefixes({ reconciler }: Session): Record<'pod' | 'service', ReadonlySet<string>> {
  const destinations = (list: readonly { readonly destination: string }[] = []) =>
    new Set(list.map(({ destination }) => destination))
  return { pod: destinations(reconciler?.have.routes), service: destinations(reconciler?.have.vips) }
}
