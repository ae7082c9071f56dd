// What the admin API says: rows made of the live state, without a side effect.
import type { ClusterName, Ip, Origin } from '../../../core/model/values.ts'
import type { HostOp } from '../../../core/host/host-state.ts'
import { meshIdText } from '../../../core/model/identity.ts'
import { serviceDomain } from '../../../core/dns/zone.ts'
import type { AgentView, ClusterView, ServiceView } from '../../../core/view/view.ts'
import type * as api from '../../../api/answers.ts'
import type { Requests } from '../../../api/requests.ts'
import type { State } from '../../agent/agent.ts'
import type { LookupAnswer } from '../../../io/dns/lookup.ts'
import { monotonicMs } from '../../observe/clock.ts'
import { AppError, sentence } from '../../observe/errors.ts'
import { faultSentence } from '../../observe/health.ts'
import { refusalText } from '../../session/path-faults.ts'
import type { Session } from '../../session/session.ts'
import { conflictText, type Body } from '../answer-body.ts'
import { Refusals } from '../../control/refusals.ts'
import { VERSION } from '../../observe/version.ts'

// What a person asks for by name; the responder itself answers every type.
const DNS_TYPES = new Set(['A', 'AAAA', 'SRV', 'PTR', 'TXT', 'CNAME', 'NS', 'SOA'])

export function health({ health }: Pick<State, 'health'>): api.HealthReport {
  const faults = health.faults()
  return {
    state: faults[0]?.severity ?? 'ok',
    faults: faults.map(({ sinceMs, ...fault }) => ({ ...fault, since: new Date(sinceMs).toISOString() })),
    more: Object.fromEntries(health.excess())
  }
}

export function status(state: State): Body<api.StatusAnswer> {
  const { session, membership, source, settings, host } = state
  const dnsAddress = session?.dnsAddress
  const dnsFault = session?.faults.get('dns')
  const last = session?.reconciler?.last
  return {
    health: health(state),
    state: state.joining ? 'joining' : session === undefined ? 'unjoined' : 'running',
    version: VERSION,
    ...(membership === undefined
      ? {}
      : { cluster: membership.cluster, meshId: meshIdText(membership.meshId) }),
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
    podCidrs: membership?.podPrefixes ?? [],
    serviceCidrs: membership?.servicePrefixes ?? [],
    clusters: session?.control.view().clusters.size ?? 0,
    connections: session?.control.neighbours().length ?? 0,
    refused: { ...session?.control.refusals.counts(), ...refusedRecords(session) },
    warnings: state.health.faults().map(faultSentence),
    ...(last === undefined ? {} : { lastPass: last }),
    uptimeSeconds: Math.floor((monotonicMs() - state.startedMs) / 1000)
  }
}

/**
 * For /readyz: why this agent is not of use; undefined: it is. Ready means that the agent does what it was told to do at this stage: an
 * agent that nothing has told to join a mesh is ready, since it waits for `meshctl init` or `meshctl join`.
 */
export function notReady({
  session,
  source,
  joining,
  isToldToJoin,
  health
}: Pick<State, 'session' | 'source' | 'joining' | 'isToldToJoin' | 'health'>): string | undefined {
  const [worst] = health.faults()
  if (worst?.severity === 'critical') return faultSentence(worst)
  if (joining) return 'this cluster is joining the mesh: no member has accepted it yet'
  if (session === undefined)
    return isToldToJoin ? 'this cluster has not joined the mesh of its token yet' : undefined
  if (!source.whole) return 'the services of this cluster have not been read yet'
  if (session.reconciler !== undefined && session.reconciler.last === undefined)
    return 'the host has not been programmed yet'
  return undefined
}

export function joined({ session, membership }: State): Body<api.JoinedAnswer> {
  if (session === undefined || membership === undefined) throw new Error('not joined')
  return {
    cluster: membership.cluster,
    meshId: meshIdText(membership.meshId),
    peerId: session.control.origin,
    podCidrs: membership.podPrefixes,
    serviceCidrs: membership.servicePrefixes,
    members: [...session.control.view().clusters.keys()]
  }
}

export function peers(state: State, session: Session): Body<api.PeersAnswer> {
  const view = session.control.view()
  const rows = [...view.clusters.values()].flatMap((cluster) =>
    cluster.agents.map((agent) => peerRow(state, session, { cluster, agent }))
  )
  return { health: health(state), peers: rows }
}

function peerRow(
  state: State,
  session: Session,
  { cluster, agent: { origin, agent } }: { cluster: ClusterView; agent: AgentView }
): api.PeerRow {
  const self = origin === session.control.origin
  const fellow = !self && cluster.name === session.control.view().self
  const tunnel = session.tunnels.of(origin)
  const stats = tunnel?.stats
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
  const reasons = [reason, control].filter((text) => text !== undefined)
  return {
    cluster: cluster.name,
    peerId: origin,
    node: agent.node,
    state: shown,
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

/** In a large mesh there is no connection to most members, and the others tell of them. */
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

export function services(session: Session): Body<api.ServicesAnswer> {
  const view = session.control.view()
  const rows = [...view.clusters.values()].flatMap((cluster) =>
    [...cluster.services.values()].map((service) => serviceRow(cluster.name, service))
  )
  return { services: rows }
}

function serviceRow(cluster: ClusterName, { service, slices }: ServiceView): api.ServiceRow {
  const endpoints = slices.flatMap((slice) => slice.endpoints)
  return {
    cluster,
    namespace: service.namespace,
    name: service.name,
    type: service.externalName !== '' ? 'ExternalName' : service.headless ? 'Headless' : 'ClusterIP',
    clusterIps: service.clusterIps,
    ports: service.ports.map(({ name, port, protocol }) => ({ name, port, protocol })),
    ready: endpoints.filter((endpoint) => endpoint.ready).length,
    endpoints: endpoints.length,
    dnsName: serviceDomain(cluster, service).replace(/\.$/, '')
  }
}

export function routes(state: State, session: Session): Body<api.RoutesAnswer> {
  const view = session.control.view()
  const installed = installedPrefixes(session)
  const row = (cluster: ClusterView, kind: 'pod' | 'service', destination: string): api.RouteRow => {
    const dead = session.withdrawn.has(cluster.name)
    const isInstalled = state.host !== undefined && installed[kind].has(destination)
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
          ...cluster.conflicts.map((conflict): api.RouteRow => ({
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

/** What this host has, prefix by prefix: one that cannot be set says nothing of the others. */
function installedPrefixes({ reconciler }: Session): Record<'pod' | 'service', ReadonlySet<string>> {
  const destinations = (list: readonly { readonly destination: string }[] = []) =>
    new Set(list.map(({ destination }) => destination))
  return { pod: destinations(reconciler?.have.routes), service: destinations(reconciler?.have.vips) }
}

function whyMissing({ reconciler }: Session, destination: string): string {
  const { steps, parts } = reconciler?.failures ?? { steps: [], parts: [] }
  const own = steps.find(({ op }) => destinationOf(op) === destination)
  const basis = steps.find(({ op }) => op.kind === 'setTunnel' || op.kind === 'setFilter')
  const error = (own ?? basis ?? parts[0])?.error
  return error === undefined ? 'the pass that sets it is under way' : sentence(error)
}

function destinationOf(op: HostOp): string | undefined {
  return op.kind === 'addRoute' ? op.route.destination : op.kind === 'addVip' ? op.vip.destination : undefined
}

/** Names of the mesh from the view; others from the upstreams, as the responder would ask them. */
export async function dns(session: Session, { name, type }: Requests['dns']): Promise<Body<api.DnsAnswer>> {
  const names = session.names()
  if (name === undefined || name === '') {
    return { zones: names.zones().map((zone) => ({ ...zone, zone: zone.zone.replace(/\.$/, '') })) }
  }
  const asked = type.toUpperCase()
  if (!DNS_TYPES.has(asked))
    throw new AppError(
      'BAD_ARGUMENT',
      `type: ${JSON.stringify(type)} is none of ${[...DNS_TYPES].join(', ')}`
    )
  const bare = name.replace(/\.$/, '')
  if (bare.length > 253 || !/^[a-zA-Z0-9_-]{1,63}(\.[a-zA-Z0-9_-]{1,63})*$/.test(bare))
    throw new AppError('BAD_ARGUMENT', `name: ${JSON.stringify(name)} is not a DNS name`)
  const reply = names.answer({ name: bare, type: asked })
  if (reply.kind === 'forward') return forwarded(await session.lookup({ name: bare, type: asked }))
  const records = reply.answers.map((record) => ({
    name: record.name,
    type: record.type,
    ttl: record.ttl,
    data: typeof record.data === 'string' ? record.data : dataText(record.data)
  }))
  if (reply.externalTarget === undefined || (asked !== 'A' && asked !== 'AAAA'))
    return { rcode: reply.rcode, forwarded: false, records }
  const target = await session.lookup({ name: reply.externalTarget, type: asked })
  return {
    ...forwarded(target),
    rcode: reply.rcode,
    forwarded: false,
    records: [...records, ...target.records]
  }
}

function forwarded({ upstream, rcode, records }: LookupAnswer): Body<api.DnsAnswer> {
  return { forwarded: true, rcode, records, ...(upstream === undefined ? {} : { upstream }) }
}

export async function plan(state: State, session: Session): Promise<Body<api.PlanAnswer>> {
  const ops = (await session.reconciler?.preview()) ?? session.paperPlan()
  return { inStep: ops.length === 0, steps: ops.map((op) => ({ op, commands: state.describe(op) })) }
}

function refusedRecords(session: Session | undefined): Readonly<Record<string, number>> {
  const counts = new Refusals()
  for (const cluster of session?.control.view().clusters.values() ?? []) {
    // Reasons quote the record, so a hostile member can make them long and many: refusals.ts bounds both.
    for (const { reason } of cluster.refusals) counts.count(reason)
  }
  return counts.counts()
}

function dataText(data: object): string {
  return Array.isArray(data)
    ? data.join(' ')
    : Object.values(data as Record<string, string | number | Ip>).join(' ')
}
