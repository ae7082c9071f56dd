// GET /v1/services for `meshctl services`: the services of all clusters, the own one included, as the view has them:
// services outside the certificate of their cluster are not in it.
import type { ServiceRow, ServicesAnswer } from '../../../api/answers.ts'
import type { BalancedRow } from '../../../api/balanced-row.ts'
import { sharesOf, type ChoiceFacts } from '../../../core/host/merged-services.ts'
import { trafficOf } from '../../../core/host/virtual-servers.ts'
import type { ClusterName } from '../../../core/model/values.ts'
import { clustersetDomain, isClustersetKey, serviceDomain } from '../../../core/model/zones.ts'
import type { BalancedService, Overruled } from '../../../core/view/balanced.ts'
import type { ServiceView } from '../../../core/view/view.ts'
import { requireSession } from '../../session/current-session.ts'
import type { Session } from '../../session/session.ts'
import type { AgentState } from '../agent-state.ts'
import type { Body } from '../answer-body.ts'
import { meshIpsField } from '../translated-field.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED. */
export function servicesRoute(state: Pick<AgentState, 'session'>): AdminHandlers['services'] {
  return async () => services(requireSession(state.session))
}

/**
 * All services of the view, cluster by cluster, in the order of the view. The view has the real addresses of the own cluster, so
 * those that other clusters use are added where they differ.
 */
function services(session: Session): Body<ServicesAnswer> {
  const view = session.control.view()
  const { translation } = session.membership
  const rows = [...view.clusters.values()].flatMap((cluster) =>
    [...cluster.services.values()].map((service) => ({
      ...serviceRow(cluster.name, service),
      ...(cluster.name === view.self ? meshIpsField(service, translation) : {})
    }))
  )
  const facts = session.balancing.facts()
  const balanced = [...session.balancing.services().values()].map((each) => balancedRow(each, facts))
  return balanced.length === 0 ? { services: rows } : { services: rows, balanced }
}

/**
 * A balanced service, with the part of each cluster. The shares are chosen anew by the same pure function and the same
 * facts as in the latest pass, so the row says what the load balancer has.
 */
function balancedRow(service: BalancedService, facts: ChoiceFacts): BalancedRow {
  const { address, text, from, overruled, holders } = service
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
    ...(overruled.length > 0 && { overruled: overruled.map((each) => overruledRow(each, from)) }),
    clusters: shares.map(({ cluster, endpoints, weight, reason }) => ({
      cluster,
      endpoints,
      percent: total === 0 ? 0 : Math.round((endpoints * weight * 1000) / total) / 10,
      reason
    }))
  }
}

/** Why the policy that another cluster wrote is not in force. */
function overruledRow({ cluster, text, fault }: Overruled, from: string) {
  const reason = fault === undefined ? `the policy of ${from} is in force` : `${fault.message}: ${fault.fix}`
  return { cluster, policy: text, reason }
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
