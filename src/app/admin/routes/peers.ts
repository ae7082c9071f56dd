// GET /v1/peers for `meshctl peers`: one row per agent of the mesh, with one for this agent. The tunnel, which carries
// the traffic, and the control connection, which carries the records, are shown apart, because either can fail alone.
import type { PeerRow, PeersAnswer } from '../../../api/answers.ts'
import { isFlapping } from '../../../core/host/flapping.ts'
import type { Origin } from '../../../core/model/values.ts'
import type { AgentView, ClusterView } from '../../../core/view/view.ts'
import { refusalText } from '../../session/path-faults.ts'
import { requireSession } from '../../session/current-session.ts'
import type { Session } from '../../session/session.ts'
import type { AgentState } from '../agent-state.ts'
import { conflictText, type Body } from '../answer-body.ts'
import { healthReport } from '../health-report.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED. */
export function peersRoute(state: AgentState): AdminHandlers['peers'] {
  return async () => peers(state, requireSession(state.session))
}

/** All agents of the view, cluster by cluster. */
function peers(state: AgentState, session: Session): Body<PeersAnswer> {
  const view = session.control.view()
  const rows = [...view.clusters.values()].flatMap((cluster) =>
    cluster.agents.map((agent) => peerRow(state, session, { cluster, agent }))
  )
  return { health: healthReport(state.health), peers: rows }
}

/**
 * One agent. `reason` joins the reason of the tunnel's state and that of a missing control connection. The checks of
 * the state go from what excludes a tunnel (this agent, its own cluster, no data plane) to what the tunnel reports.
 */
function peerRow(
  state: AgentState,
  session: Session,
  { cluster, agent: { origin, agent } }: { cluster: ClusterView; agent: AgentView }
): PeerRow {
  const self = origin === session.control.origin
  // Gateways of one cluster reach each other through the network of the cluster, without a tunnel.
  const fellow = !self && cluster.name === session.control.view().self
  const tunnel = session.paths.tunnels.of(origin)
  const stats = tunnel?.stats
  // A tunnel can be up although its cluster has lost a prefix, name or key to a cluster with an older certificate.
  const [conflict] = cluster.conflicts
  const connected = session.control.neighbour(origin) !== undefined
  const { state: shown, reason } = self
    ? { state: 'self' as const, reason: undefined }
    : fellow
      ? { state: 'off' as const, reason: 'a gateway of this cluster: no tunnel is needed' }
      : state.host === undefined
        ? { state: 'off' as const, reason: 'no data plane on this host' }
        : tunnel === undefined
          ? { state: 'connecting' as const, reason: 'not seen yet' }
          : tunnel.state === 'up'
            ? {
                state: conflict === undefined ? ('up' as const) : ('conflict' as const),
                reason: conflict === undefined ? tunnel.reason : conflictText(conflict)
              }
            : { state: tunnel.state, reason: tunnel.reason }
  const control = self || connected ? undefined : controlReason(session, origin)
  const changes = tunnel !== undefined && isFlapping(tunnel.changes) ? changesText(tunnel.changes) : undefined
  const reasons = [reason, changes, control].filter((text) => text !== undefined)
  return {
    cluster: cluster.name,
    peerId: origin,
    node: agent.node,
    state: shown,
    ...(tunnel === undefined || tunnel.changes === 0 ? {} : { changes: tunnel.changes }),
    ...(reasons.length === 0 ? {} : { reason: reasons.join('; ') }),
    path: self ? '-' : agent.wireguardAddresses.length === 0 ? 'dial-in' : 'direct',
    ...(stats?.peerAddress === undefined ? {} : { endpoint: stats.peerAddress }),
    ...(tunnel?.rttMs === undefined ? {} : { rttMs: Math.round(tunnel.rttMs * 100) / 100 }),
    ...(stats?.lastHandshakeMs === undefined
      ? {}
      : { handshakeAgeSeconds: Math.max(0, Math.round((Date.now() - stats.lastHandshakeMs) / 1000)) }),
    rxBytes: stats?.rxBytes ?? 0,
    txBytes: stats?.txBytes ?? 0,
    cidrs: [...cluster.podPrefixes, ...cluster.servicePrefixes],
    services: cluster.services.size,
    lag: session.control.lag(origin),
    connected: self || connected,
    version: agent.version
  }
}

function changesText(changes: number): string {
  return `${changes} changes between up and down in the last 10 min`
}

/**
 * Why there is no control connection. In a large mesh an agent is connected to few members, so this is no fault by
 * itself; whether the member is alive then follows from the reports of the other members.
 */
function controlReason({ control }: Session, origin: Origin): string {
  const refusal = control.refusal(origin)
  if (refusal !== undefined) return refusalText(refusal)
  const words = {
    alive: '',
    suspected: ', and other members have lost it too',
    dead: ', and no other member has one'
  }
  return `no control connection${words[control.liveness(origin)]}`
}
