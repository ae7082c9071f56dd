// GET /v1/peers for `meshctl peers`: one row per agent of the mesh, with one for this agent. The tunnel, which carries
// the traffic, and the control connection, which carries the records, are shown apart, because either can fail alone.
import type { PeerRow, PeersAnswer } from '../../../api/answers.ts'
import { isFlapping } from '../../../core/host/flapping.ts'
import { tunnelAgents } from '../../../core/host/nodes.ts'
import type { Origin } from '../../../core/model/values.ts'
import type { AgentView, ClusterView } from '../../../core/view/view.ts'
import { peerHostOf } from '../../host/reached-first.ts'
import { refusalText } from '../../session/path-faults.ts'
import { requireSession } from '../../session/current-session.ts'
import type { Session } from '../../session/session.ts'
import { roleOf } from '../../settings/role.ts'
import type { AgentState } from '../agent-state.ts'
import { conflictText, type Body } from '../answer-body.ts'
import { healthReport } from '../health-report.ts'
import { prefixFields } from '../translated-field.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED. */
export function peersRoute(state: AgentState): AdminHandlers['peers'] {
  return async () => peers(state, requireSession(state.session))
}

/** All agents of the view, cluster by cluster. */
function peers(state: AgentState, session: Session): Body<PeersAnswer> {
  const view = session.control.view()
  const role = roleOf(state.settings)
  const ends = new Set(tunnelAgents(view, session.control.origin, role).map(({ origin }) => origin))
  const carriers = session.paths.node.carriers(view)
  const rows = [...view.clusters.values()].flatMap((cluster) =>
    cluster.agents.map((agent) =>
      peerRow(state, session, {
        cluster,
        agent,
        isEnd: ends.has(agent.origin),
        carrier: carriers?.get(cluster.name)?.agent.node
      })
    )
  )
  return { health: healthReport(state.health), peers: rows }
}

/** An agent of the view, and how this agent reaches it. */
interface Peer {
  readonly cluster: ClusterView
  readonly agent: AgentView
  /** A tunnel of this agent, or a way through a gateway of its cluster, ends there. */
  readonly isEnd: boolean
  /** On a node: the gateway of its own cluster that carries the traffic of the peer's cluster. */
  readonly carrier: string | undefined
}

/** One agent. `reason` joins the reason of the tunnel's state and that of a missing control connection. */
function peerRow(state: AgentState, session: Session, peer: Peer): PeerRow {
  const { cluster, agent: entry, isEnd, carrier } = peer
  const { origin, agent } = entry
  const self = origin === session.control.origin
  const tunnel = session.paths.tunnels.of(origin)
  const stats = tunnel?.stats
  const connected = session.control.neighbour(origin) !== undefined
  const { state: shown, reason } = stateOf(state, session, peer)
  // With agents to which there is no tunnel, this one needs no connection, either: nodes are leaves.
  const control =
    self || connected || !needsControl(state, session, peer) ? undefined : controlReason(session, origin)
  const changes = tunnel !== undefined && isFlapping(tunnel.changes) ? changesText(tunnel.changes) : undefined
  const handOver = agent.handOver && HANDS_OVER[agent.handOver]
  const reasons = [reason, handOver, changes, control].filter((text) => text !== undefined)
  return {
    cluster: cluster.name,
    peerId: origin,
    node: agent.node,
    role: agent.role,
    state: shown,
    ...(tunnel === undefined || tunnel.changes === 0 ? {} : { changes: tunnel.changes }),
    ...(reasons.length === 0 ? {} : { reason: reasons.join('; ') }),
    ...(self || (!isEnd && agent.role === 'node') ? { path: '-' } : pathFields(session, entry, carrier)),
    ...(tunnel?.rttMs === undefined ? {} : { rttMs: Math.round(tunnel.rttMs * 100) / 100 }),
    ...(stats?.lastHandshakeMs === undefined
      ? {}
      : { handshakeAgeSeconds: Math.max(0, Math.round((Date.now() - stats.lastHandshakeMs) / 1000)) }),
    rxBytes: stats?.rxBytes ?? 0,
    txBytes: stats?.txBytes ?? 0,
    ...prefixFields(cluster, {
      translation: session.membership.translation,
      isOwn: cluster.name === session.control.view().self
    }),
    services: cluster.services.size,
    lag: session.control.lag(origin),
    connected: self || connected,
    version: agent.version,
    ...(agent.handOver === undefined ? {} : { handOver: agent.handOver })
  }
}

/**
 * How packets to an agent go, as `meshctl peers` and `meshctl ping` show it, and to which address. `carrier`: on a node, its
 * gateway.
 */
export function pathFields(
  session: Session,
  { origin, agent }: AgentView,
  carrier: string | undefined
): Pick<PeerRow, 'path' | 'pathReason' | 'endpoint'> {
  if (carrier !== undefined) return { path: `via ${carrier}` }
  const way = session.paths.ways.of(origin)
  if (way !== undefined && way.path !== 'direct') {
    const address = session.control.neighbour(way.relay?.origin ?? origin)?.address
    const host = peerHostOf(address)
    const endpoint =
      host === undefined ? {} : { endpoint: `${host}:${/\/tcp\/(\d+)/.exec(address ?? '')?.[1]}` }
    return { path: way.path, ...(way.reason === undefined ? {} : { pathReason: way.reason }), ...endpoint }
  }
  const { peerAddress } = session.paths.tunnels.of(origin)?.stats ?? {}
  return {
    path: agent.wireguardAddresses.length === 0 ? 'dial-in' : 'direct',
    ...(peerAddress === undefined ? {} : { endpoint: peerAddress })
  }
}

/**
 * The state of the tunnel. The checks go from what excludes a tunnel (this agent, agents that need none, no data plane) to
 * what the tunnel reports.
 */
function stateOf(
  state: AgentState,
  session: Session,
  { cluster, agent: { origin, agent }, isEnd }: Peer
): { readonly state: PeerRow['state']; readonly reason: string | undefined } {
  if (origin === session.control.origin) return { state: 'self', reason: undefined }
  if (!isEnd) {
    const isOwn = cluster.name === session.control.view().self
    return {
      state: 'off',
      reason: isOwn ? NO_TUNNEL[agent.role] : 'a node: the gateways of its cluster carry its traffic'
    }
  }
  if (state.host === undefined) return { state: 'off', reason: 'no data plane on this host' }
  const tunnel = session.paths.tunnels.of(origin)
  if (tunnel === undefined) return { state: 'connecting', reason: 'not seen yet' }
  // A tunnel can be up although its cluster has lost a prefix, name or key to a cluster with an older certificate.
  const [conflict] = cluster.conflicts
  return tunnel.state === 'up' && conflict !== undefined
    ? { state: 'conflict', reason: conflictText(conflict) }
    : { state: tunnel.state, reason: tunnel.reason }
}

// Agents of one cluster reach each other through the network of the cluster.
const NO_TUNNEL = {
  gateway: 'a gateway of this cluster: no tunnel is needed',
  node: 'a node of this cluster: no tunnel is needed'
} as const

// The health of the tunnel comes first (core/host/gateway-order.ts), so such a gateway may still carry traffic.
const HANDS_OVER = {
  drained: 'drained: the other gateways of its cluster are preferred',
  stopping: 'its agent has stopped: the other gateways of its cluster are preferred'
} as const

/** Whether this agent should have a control connection with the peer, as far as roles tell. */
function needsControl(state: AgentState, session: Session, { cluster, agent, isEnd }: Peer): boolean {
  if (agent.agent.role === 'node') return isEnd
  return roleOf(state.settings) === 'gateway' || cluster.name === session.control.view().self
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
