// GET /v1/services for `meshctl services`: the services of all clusters, the own one included, as the view has them:
// services outside the certificate of their cluster are not in it.
import type { ServiceRow, ServicesAnswer } from '../../../api/answers.ts'
import type { BalancedRow, NearRow, UnbalancedRow, UnusedPolicyRow } from '../../../api/balanced-row.ts'
import { sharesOf, type ChoiceFacts } from '../../../core/host/merged-services.ts'
import { useOf } from '../../../core/host/endpoint-use.ts'
import { trafficOf } from '../../../core/host/virtual-servers.ts'
import { chooseNearOwn } from '../../../core/host/zone-choice.ts'
import { namedClusters } from '../../../core/model/balance-policy.ts'
import { NOWHERE, type Place } from '../../../core/model/topology.ts'
import type { ClusterName } from '../../../core/model/values.ts'
import { conflictText } from '../../../core/mcs/export-conditions.ts'
import { clustersetDomain, clustersetKey, isClustersetKey, serviceDomain } from '../../../core/model/zones.ts'
import {
  POLICIES_PER_CLUSTER_MAX,
  unbalancedServices,
  type BalancedService,
  type Overruled,
  type UnbalancedService
} from '../../../core/view/balanced.ts'
import { clustersetServices } from '../../../core/view/clusterset.ts'
import type { MeshView, ServiceView } from '../../../core/view/view.ts'
import { balancesOwn } from '../../host/desired-host.ts'
import { requireSession } from '../../session/current-session.ts'
import type { Session } from '../../session/session.ts'
import type { Settings } from '../../settings/settings.ts'
import type { AgentState } from '../agent-state.ts'
import type { Body } from '../answer-body.ts'
import { meshIpsField } from '../translated-field.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED. */
export function servicesRoute(state: Pick<AgentState, 'session' | 'settings'>): AdminHandlers['services'] {
  return async () => services(requireSession(state.session), state.settings)
}

/**
 * All services of the view, cluster by cluster, in the order of the view. The view has the real addresses of the own cluster, so
 * those that other clusters use are added where they differ.
 */
function services(session: Session, settings: Settings): Body<ServicesAnswer> {
  const view = session.control.view()
  const facts = session.balancing.facts()
  const { place = NOWHERE } = facts
  const isBalanced = (cluster: ClusterName): boolean => cluster === view.self && balancesOwn(settings)
  const { translation } = session.membership
  const rows = [...view.clusters.values()].flatMap((cluster) =>
    [...cluster.services.values()].map((service) => ({
      ...serviceRow(cluster.name, service),
      ...(cluster.name === view.self ? meshIpsField(service, translation) : {}),
      ...(isBalanced(cluster.name) ? nearField(service, place) : {})
    }))
  )
  const known = session.balancing.services()
  const conflicts = conflictsOf(view)
  const balanced = [...known.values()].map((each) => balancedRow(each, { facts, conflicts }, view))
  const unbalanced = unbalancedServices(view, known).map((each) => unbalancedRow(each, view.self))
  return {
    services: rows,
    ...(balanced.length > 0 && { balanced }),
    ...(unbalanced.length > 0 && { unbalanced }),
    ...(place.zone !== '' && { zone: place.zone })
  }
}

/**
 * Which endpoints of a service of the own cluster this host uses, as numbers of ready and used endpoints for each zone; nothing where
 * the Service does not ask for near ones.
 */
function nearField(view: ServiceView, place: Place): { readonly near?: NearRow } {
  const { nearness, reason, slices } = chooseNearOwn(view, place)
  if (reason === undefined) return {}
  const zones = new Map<string, { ready: number; used: number }>()
  const count = (all: ServiceView['slices'], what: 'ready' | 'used'): void => {
    for (const endpoint of all.flatMap(({ endpoints }) => endpoints)) {
      if (useOf(endpoint, view.service) !== 'ready') continue
      const counts = zones.get(endpoint.zone ?? '') ?? { ready: 0, used: 0 }
      counts[what]++
      zones.set(endpoint.zone ?? '', counts)
    }
  }
  count(view.slices, 'ready')
  count(slices, 'used')
  const rows = [...zones].sort(([a], [b]) => (a < b ? -1 : 1)).map(([zone, counts]) => ({ zone, ...counts }))
  return { near: { nearness, reason, zones: rows } }
}

/**
 * How the exports of each service of clusterset.local differ, by its key. A site without an API server has no conditions of
 * ServiceExports, so this is where it is told.
 */
function conflictsOf(view: MeshView): ReadonlyMap<string, string> {
  return new Map(
    clustersetServices(view).flatMap((each) =>
      each.conflicts.length === 0 ? [] : [[clustersetKey(each.key), conflictText(each)] as const]
    )
  )
}

/**
 * A balanced service, with the part of each cluster. The shares are chosen anew by the same pure function and the same
 * facts as in the latest pass, so the row says what the load balancer has.
 */
function balancedRow(
  service: BalancedService,
  { facts, conflicts }: { readonly facts: ChoiceFacts; readonly conflicts: ReadonlyMap<string, string> },
  { clusters }: Pick<MeshView, 'clusters'>
): BalancedRow {
  const { address, policy, text, from, overruled, holders } = service
  const unknown = namedClusters(policy).filter((cluster) => !clusters.has(cluster))
  const conflict = conflicts.get(service.key)
  const shares = sharesOf(service, facts)
  const total = shares.reduce((sum, { endpoints, weight }) => sum + endpoints * weight, 0)
  const { namespace, name } = holders[0].view.service
  return {
    namespace,
    name,
    dnsName: isClustersetKey(service.key)
      ? clustersetDomain({ namespace, name })
      : serviceDomain('all', { namespace, name }),
    address,
    policy: text,
    from,
    ...(unknown.length > 0 && { unknown }),
    ...(conflict !== undefined && { conflict }),
    ...(overruled.length > 0 && {
      overruled: overruled.map((each) => unusedRow(each, `the policy of ${from} is in force`))
    }),
    clusters: shares.map(({ cluster, endpoints, weight, reason }) => ({
      cluster,
      endpoints,
      percent: total === 0 ? 0 : Math.round((endpoints * weight * 1000) / total) / 10,
      reason
    }))
  }
}

// A service of which no policy is in force. Its name in cluster.all has the addresses of all clusters, as without a policy.
function unbalancedRow({ key, cause, policies }: UnbalancedService, self: ClusterName): UnbalancedRow {
  const [namespace = '', name = ''] = key.split('/')
  return { namespace, name, policies: policies.map((each) => unusedRow(each, whyNone(cause, self))) }
}

/**
 * Why a policy that is understood is not in force, where no other one is. Empty where no policy is understood: each has a fault
 * of its own then.
 */
function whyNone(cause: UnbalancedService['cause'], self: ClusterName): string {
  switch (cause) {
    case 'own':
      return `the cluster of this agent, ${self}, has the service, too, so only its own annotation counts here: write it there`
    case 'limit':
      return `one cluster decides about ${POLICIES_PER_CLUSTER_MAX} services at most, the first by name`
    case 'full':
      return 'the prefix of the setting balance-cidr has no address left: choose a larger one'
    case undefined:
      return ''
    default:
      return cause satisfies never
  }
}

/** A policy that is not in force. `reason`: of one that is understood. */
function unusedRow({ cluster, text, fault }: Overruled, reason: string): UnusedPolicyRow {
  const why = fault === undefined ? reason : `${fault.message}: ${fault.fix}`
  return { cluster, policy: text, reason: why }
}

/**
 * One service. `ready` and `fallback` count endpoints that get traffic now, `endpoints` all of them. The type follows from the
 * record: it has an external name, or no address of its own (headless), or a cluster IP.
 */
function serviceRow(cluster: ClusterName, { service, slices }: ServiceView): ServiceRow {
  const endpoints = slices.reduce((sum, slice) => sum + slice.endpoints.length, 0)
  const { ready, fallback } = trafficOf({ service, slices })
  return {
    cluster,
    namespace: service.namespace,
    name: service.name,
    type: service.externalName !== '' ? 'ExternalName' : service.headless ? 'Headless' : 'ClusterIP',
    clusterIps: service.clusterIps,
    ports: service.ports.map(({ name, port, protocol }) => ({ name, port, protocol })),
    ready,
    ...(fallback === 0 ? {} : { fallback }),
    endpoints,
    dnsName: serviceDomain(cluster, service).replace(/\.$/, '')
  }
}
