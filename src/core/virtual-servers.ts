// A cluster's services as virtual servers: which endpoints answer for which (address, protocol, port).
import { familyOf } from './cidr.ts'
import type { RealServer, Scheduler, VirtualServer } from './host.ts'
import { normalizeVirtualServer, realServerKey } from './host-order.ts'
import type { Endpoint, Ip, ServicePort, ServiceValue } from './model.ts'
import type { ClusterView, ServiceView } from './view.ts'

/** In the order of the services' names; of two services with one address and port the first counts (normalizeHost). */
export function virtualServersOf(cluster: ClusterView, scheduler: Scheduler): readonly VirtualServer[] {
  return [...cluster.services.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([, view]) => serversOfService(view, scheduler))
}

/**
 * The endpoints that get traffic, as kube-proxy chooses them: the ready ones; when there is none, those that terminate but
 * still serve (KEP-1669); every one of a service that publishes addresses which are not ready.
 */
export function selectEndpoints<T extends Pick<Endpoint, 'ready' | 'serving' | 'terminating'>>(
  service: Pick<ServiceValue, 'publishNotReady'>,
  endpoints: readonly T[]
): readonly T[] {
  if (service.publishNotReady) return endpoints
  const ready = endpoints.filter((endpoint) => endpoint.ready)
  return ready.length > 0 ? ready : endpoints.filter(({ serving, terminating }) => serving && terminating)
}

// A view keeps the ServiceView of what did not change, and a pass recomputes all services for a change of one.
const computed = new WeakMap<ServiceView, { scheduler: Scheduler; servers: readonly VirtualServer[] }>()

function serversOfService(view: ServiceView, scheduler: Scheduler): readonly VirtualServer[] {
  const known = computed.get(view)
  if (known?.scheduler === scheduler) return known.servers
  const { service } = view
  const servers = service.clusterIps.flatMap((vip) =>
    service.ports.map((port) =>
      normalizeVirtualServer({
        vip,
        protocol: port.protocol,
        port: port.port,
        scheduler,
        affinitySeconds: service.affinitySeconds,
        realServers: realServersOf(view, { vip, port })
      })
    )
  )
  computed.set(view, { scheduler, servers })
  return servers
}

function realServersOf(
  { service, slices }: ServiceView,
  { vip, port }: { readonly vip: Ip; readonly port: ServicePort }
): readonly RealServer[] {
  const targets = slices.flatMap((slice) =>
    slice.ports
      .filter((each) => each.name === port.name && each.protocol === port.protocol)
      .flatMap((each) => slice.endpoints.map((endpoint) => ({ ...endpoint, port: each.port })))
  )
  const sameFamily = targets.flatMap((target) => {
    // The addresses of one endpoint are one pod; like kube-proxy, use the first.
    const ip = target.addresses.find((address) => familyOf(address) === familyOf(vip))
    return ip === undefined ? [] : [{ ...target, ip }]
  })
  const servers = selectEndpoints(service, sameFamily).map(({ ip, port }) => ({ ip, port, weight: 1 }))
  return [...new Map(servers.map((server) => [realServerKey(server), server])).values()]
}
