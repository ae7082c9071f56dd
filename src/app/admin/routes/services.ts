// GET /v1/services for `meshctl services`: the services of all clusters, the own one included, as the view has them:
// services outside the certificate of their cluster are not in it.
import type { ServiceRow, ServicesAnswer } from '../../../api/answers.ts'
import { trafficOf } from '../../../core/host/virtual-servers.ts'
import type { ClusterName } from '../../../core/model/values.ts'
import { serviceDomain } from '../../../core/model/zones.ts'
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
  return { services: rows }
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
