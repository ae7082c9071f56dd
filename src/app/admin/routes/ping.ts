// GET /v1/ping for `meshctl ping`: a bounded number of probes through the tunnel to each gateway of a cluster, with the
// path, the loss and the round trips. A tunnel that is not up is tried all the same: the answer then has the reason and
// the fix beside what came back.
// Invariant: at most PINGS_MAX requests run at a time, each with at most GATEWAYS_MAX sockets.
import type { PingAnswer, PingRow } from '../../../api/diagnosis-answers.ts'
import type { Requests } from '../../../api/requests.ts'
import { gatewaysOf } from '../../../core/host/nodes.ts'
import { roundTrips } from '../../../core/host/round-trips.ts'
import type { ClusterName, Ip } from '../../../core/model/values.ts'
import type { AgentView } from '../../../core/view/view.ts'
import { tunnelFault } from '../../../core/why/tunnel-fault.ts'
import { ping, type PingResult } from '../../../io/probe/ping.ts'
import { AppError } from '../../observe/errors.ts'
import { requireSession } from '../../session/current-session.ts'
import type { Session } from '../../session/session.ts'
import { answersProbes } from '../../session/tunnels.ts'
import type { AgentState } from '../agent-state.ts'
import type { Body } from '../answer-body.ts'
import type { AdminHandlers } from '../server.ts'
import { pathFields } from './peers.ts'

// A reply that takes longer counts as lost; a satellite link takes 0.7 s.
const WAIT_MS = 2000
// Gateways of one cluster that are asked; the others are left out and named by `meshctl peers`.
const GATEWAYS_MAX = 16
const PINGS_MAX = 4

/** Returns the handler. Errors: AppError NOT_JOINED, UNKNOWN_CLUSTER, OWN_CLUSTER, TOO_MANY_PINGS. */
export function pingRoute(state: AgentState): AdminHandlers['ping'] {
  let running = 0
  return async (request) => {
    const session = requireSession(state.session)
    const gateways = gatewaysNamed(session, request.cluster).slice(0, GATEWAYS_MAX)
    if (running >= PINGS_MAX)
      throw new AppError(
        'TOO_MANY_PINGS',
        `${PINGS_MAX} pings of this agent run now, and no more may run at a time`,
        'run the command again when one of them has ended'
      )
    running++
    try {
      const rows = await Promise.all(gateways.map((agent) => pingOne(state, session, agent, request)))
      return { verdict: verdictOf(rows), gateways: rows }
    } finally {
      running--
    }
  }
}

/** The gateways of the cluster. Errors: AppError UNKNOWN_CLUSTER; OWN_CLUSTER, to whose agents there is no tunnel. */
function gatewaysNamed({ control }: Session, name: string): readonly AgentView[] {
  const view = control.view()
  const cluster = view.clusters.get(name as ClusterName)
  if (cluster === undefined)
    throw new AppError(
      'UNKNOWN_CLUSTER',
      `no cluster ${JSON.stringify(name)} is in this mesh`,
      '`meshctl peers` lists the clusters'
    )
  if (cluster.name === view.self)
    throw new AppError(
      'OWN_CLUSTER',
      `${name} is the cluster of this agent, so no tunnel leads to it`,
      'name another cluster: `meshctl peers` lists them'
    )
  return gatewaysOf(cluster)
}

/**
 * Pings one gateway, or says why no packet can be sent. A tunnel that is down is tried, too: its routes to the far tunnel
 * address stay in place (core/host/desired.ts), so the answer is a measurement and not a repetition of the state.
 */
async function pingOne(
  state: AgentState,
  session: Session,
  entry: AgentView,
  { cluster, count, intervalMs }: Requests['ping']
): Promise<PingRow> {
  const { origin, agent } = entry
  const tunnel = session.paths.tunnels.of(origin)
  const view = session.control.view()
  const carrier = session.paths.node.carriers(view)?.get(cluster as ClusterName)?.agent.node
  const from = session.facts.nodeAddress
  const to = agent.tunnelAddress
  // The state of the tunnel is no obstacle here: only what keeps this host from sending at all, and an agent that is known
  // to answer nothing.
  const impossible = whyNoPacket(state, { from, agent })
  const sent =
    impossible === undefined && from !== undefined && to !== undefined
      ? await ping({ from, to: { address: to, port: agent.probePort }, count, intervalMs, waitMs: WAIT_MS })
      : undefined
  // The state after the series: a tunnel that came up meanwhile is up.
  const after = session.paths.tunnels.of(origin) ?? tunnel
  const isUp = after?.state === 'up'
  const reason =
    impossible ?? whatFailed(sent) ?? (isUp ? undefined : (after?.reason ?? 'it is not seen yet'))
  const fix = isUp ? undefined : tunnelFault(state.health.faults(), { cluster, node: agent.node })?.fix
  return {
    node: agent.node,
    peerId: origin,
    ...pathFields(session, entry, carrier),
    ...(to === undefined ? {} : { address: to }),
    tunnel: after?.state ?? 'connecting',
    ...(reason === undefined ? {} : { reason }),
    ...(fix === undefined || fix === '' ? {} : { fix }),
    ...numbers(sent)
  }
}

/**
 * Why no packet can be sent to this agent; undefined: it can. A packet from another address than the tunnel address of this
 * host would be dropped by the filter of the other side.
 */
function whyNoPacket(
  { host, hostFault }: Pick<AgentState, 'host' | 'hostFault'>,
  { from, agent }: { readonly from: Ip | undefined; readonly agent: AgentView['agent'] }
): string | undefined {
  if (host === undefined) return `this host has no tunnel: ${hostFault ?? 'there is no data plane'}`
  if (from === undefined)
    return 'this host has no address inside its pod prefixes (setting node-address), so it can send nothing into the tunnel'
  if (!answersProbes(agent))
    return `${agent.node} answers no probes (setting probe-port there is 0, or its tunnel address is its outer address)`
  return undefined
}

/**
 * What the kernel of either host said; undefined: nothing. The error of this host comes first, since the packets that it
 * refused never left. ENOKEY and EDESTADDRREQ are WireGuard's: no peer has the address, or the peer has no address.
 */
function whatFailed(sent: PingResult | undefined): string | undefined {
  if (sent?.error !== undefined) return `the kernel of this host refused a packet: ${sent.error}`
  return sent !== undefined && sent.refused > 0
    ? 'the host behind the tunnel refuses the packets: meshd does not run there'
    : undefined
}

/** The numbers of the series, rounded to 0.001 ms. A packet that was refused went through the tunnel, so it is not lost. */
function numbers(
  sent: PingResult | undefined
): Pick<PingRow, 'sent' | 'received' | 'refused' | 'lossPercent' | 'rttsMs' | 'rtt'> {
  const rttsMs = (sent?.rttsMs ?? []).map((rtt) => (rtt === undefined ? null : rounded(rtt)))
  const received = rttsMs.filter((rtt) => rtt !== null).length
  const refused = sent?.refused ?? 0
  const lost = rttsMs.length - received - refused
  const summary = roundTrips(sent?.rttsMs ?? [])
  return {
    sent: rttsMs.length,
    received,
    refused,
    lossPercent: rttsMs.length === 0 ? 100 : Math.round((1000 * lost) / rttsMs.length) / 10,
    rttsMs,
    ...(summary === undefined
      ? {}
      : {
          rtt: {
            min: rounded(summary.min),
            avg: rounded(summary.avg),
            max: rounded(summary.max),
            mdev: rounded(summary.mdev)
          }
        })
  }
}

/** The event loop is not exact to more than some microseconds. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000
}

/** The verdict on all gateways together: one that got no packet keeps it from being `answered`. */
function verdictOf(rows: readonly PingRow[]): Body<PingAnswer>['verdict'] {
  const came = rows.reduce((sum, { received, refused }) => sum + received + refused, 0)
  if (came === 0) return 'silent'
  return rows.every(({ sent, received, refused }) => sent > 0 && received + refused === sent)
    ? 'answered'
    : 'lossy'
}
