// What the status of a MeshPeer follows from, as this agent sees the other clusters now.
import { gatewaysOf } from '../../core/host/nodes.ts'
import type { PeerFacts } from '../../core/mcs/mesh-peer.ts'
import type { ClusterView } from '../../core/view/view.ts'
import type { Session } from '../session/session.ts'

/** Returns the facts of all other clusters, in the order of their names. */
export function peerFacts(session: Session): readonly PeerFacts[] {
  const view = session.control.view()
  return [...view.clusters.values()]
    .filter(({ name }) => name !== view.self)
    .map((cluster) => factsOf(session, cluster))
}

function factsOf({ paths, reconciler }: Session, cluster: ClusterView): PeerFacts {
  const gateways = gatewaysOf(cluster)
  const up = gateways.filter(({ origin }) => paths.tunnels.health(origin) === 'up')
  const [first] = up
  return {
    cluster: cluster.name,
    podPrefixes: cluster.podPrefixes,
    servicePrefixes: cluster.servicePrefixes,
    gateways: gateways.length,
    // Without a data plane, nothing brings this host up to date.
    connected: reconciler === undefined ? undefined : up.length,
    isConnecting: gateways.some(({ origin }) => paths.tunnels.health(origin) === 'connecting'),
    isComplete: cluster.complete,
    hasConflict: cluster.conflicts.length > 0,
    path: first === undefined ? '' : (paths.ways.of(first.origin)?.path ?? 'direct'),
    rttMs: first && paths.tunnels.of(first.origin)?.rttMs,
    services: cluster.services.size
  }
}
