// GET /v1/status for `meshctl status`: the state of this agent and its parts. It also answers while this cluster is in
// no mesh, so it is the first command of an operator who looks for a fault.
import type { StatusAnswer } from '../../../api/answers.ts'
import { meshIdText } from '../../../core/model/identity.ts'
import { Refusals } from '../../control/refusals.ts'
import { monotonicMs } from '../../observe/clock.ts'
import { faultSentence } from '../../observe/health.ts'
import { VERSION } from '../../observe/version.ts'
import type { Session } from '../../session/session.ts'
import { relays, roleOf } from '../../settings/role.ts'
import type { AgentState } from '../agent-state.ts'
import type { Body } from '../answer-body.ts'
import { healthReport } from '../health-report.ts'
import { translatedField } from '../translated-field.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. It has no errors of its own. */
export function statusRoute({
  state,
  look
}: {
  readonly state: AgentState
  /** Updates the registry of health, which is then at most as old as this request. */
  readonly look: () => void
}): AdminHandlers['status'] {
  return async () => {
    look()
    return status(state)
  }
}

/**
 * Fields without a value are left out of the answer. `refused` counts what was refused since the start of the session
 * (handshakes and frames), and the records that the present view refuses.
 */
function status(state: AgentState): Body<StatusAnswer> {
  const { session, membership, source, settings, host, pendingCluster } = state
  const dnsAddress = session?.dnsAddress
  const dnsFault = session?.faults.get('dns')
  const last = session?.reconciler?.last
  return {
    health: healthReport(state.health),
    state: state.joining ? 'joining' : session === undefined ? 'unjoined' : 'running',
    version: VERSION,
    // While a join waits for an answer, the state says so. A session of a member has no pending token: its identity loses
    // the token with the admission.
    ...(session === undefined && !state.joining && pendingCluster !== undefined
      ? { pendingToken: { cluster: pendingCluster } }
      : {}),
    ...(membership === undefined
      ? {}
      : { cluster: membership.cluster, meshId: meshIdText(membership.roots.meshId) }),
    ...(session === undefined ? {} : { peerId: session.control.origin }),
    wireguardKey: state.wireguardKey,
    dataplane:
      host === undefined
        ? { state: 'off', ...(state.hostFault === undefined ? {} : { reason: state.hostFault }) }
        : { state: 'on', loadBalancer: host.loadBalancer, device: settings.device },
    dns:
      dnsAddress === undefined
        ? {
            state: 'off',
            reason:
              (dnsFault === undefined ? undefined : faultSentence(dnsFault)) ??
              (session === undefined
                ? 'starts when this cluster is in a mesh'
                : 'switched off by the setting dns-listen')
          }
        : { state: 'on', address: dnsAddress },
    source: {
      kind: state.sourceKind,
      path: state.sourcePath,
      services: source.snapshot.services.length,
      endpointSlices: source.snapshot.endpointSlices.length,
      problems: source.problems
    },
    role: roleOf(settings),
    podCidrs: membership?.podPrefixes ?? [],
    serviceCidrs: membership?.servicePrefixes ?? [],
    ...translatedField(membership?.translation),
    reach: { what: settings.reach, clusters: settings['reach-clusters'] },
    clusters: session?.control.view().clusters.size ?? 0,
    connections: session?.control.neighbours().length ?? 0,
    refused: { ...session?.control.refusals.counts(), ...refusedRecords(session) },
    ...(session === undefined ? {} : { dropped: { ...session.paths.dropped } }),
    ...(session === undefined || !relays(settings) ? {} : { relays: relayed(session) }),
    warnings: state.health.faults().map(faultSentence),
    ...(last === undefined ? {} : { lastPass: last }),
    uptimeSeconds: Math.floor((monotonicMs() - state.startedMs) / 1000)
  }
}

/** The tunnels of others that this agent relays. */
function relayed({ paths }: Session): NonNullable<StatusAnswer['relays']> {
  return paths.ways.relays.pairs().map(({ ends, clusters, sinceMs }) => ({
    peerIds: ends,
    clusters,
    seconds: Math.floor((monotonicMs() - sinceMs) / 1000)
  }))
}

/** The records that the view refuses now, counted by reason. */
function refusedRecords(session: Session | undefined): Readonly<Record<string, number>> {
  const counts = new Refusals()
  for (const cluster of session?.control.view().clusters.values() ?? []) {
    // Reasons quote the record, so a hostile member can make them long and many; `Refusals` limits the length and the
    // number.
    for (const { reason } of cluster.refusals) counts.count(reason)
  }
  return counts.counts()
}
