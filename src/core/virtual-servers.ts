// A cluster's services as virtual servers: which endpoints answer for which (address, protocol, port).
// A service is cut to HOST_LIMITS.service while it is expanded: nothing beyond the limit is ever allocated.
import { familyOf } from './cidr.ts'
import type { RealServer, Scheduler, VirtualServer } from './host.ts'
import {
  HASHED_REAL_SERVERS_MAX,
  HOST_LIMITS,
  REAL_SERVERS_PER_VIRTUAL_SERVER_MAX,
  type Amount,
  type Claim
} from './host-limits.ts'
import { normalizeVirtualServer, realServerKey } from './host-order.ts'
import type { Endpoint, EndpointSliceValue, Ip, ServicePort, ServiceValue } from './model.ts'
import { slotCount } from './slots.ts'
import { SortedMap } from './sorted-map.ts'
import type { ClusterView, ServiceView } from './view.ts'

/** A service's claim on the host, and what comes of it when it is admitted. */
export interface ServiceServers extends Claim {
  readonly servers: readonly VirtualServer[]
  /** What it would be without a limit. */
  readonly asked: Amount
}

/** In the order of the services' names; of two services with one address and port the first counts (normalizeHost). */
export function servicesOf(
  cluster: Pick<ClusterView, 'services'>,
  scheduler: Scheduler
): readonly ServiceServers[] {
  const { services } = cluster
  // A view's services are in that order.
  if (services instanceof SortedMap)
    return Array.from((services as SortedMap<ServiceView>).values(), (view) =>
      serviceServers(view, scheduler)
    )
  return [...services.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, view]) => serviceServers(view, scheduler))
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
const computed = new WeakMap<ServiceView, { scheduler: Scheduler; servers: ServiceServers }>()

export function serviceServers(view: ServiceView, scheduler: Scheduler): ServiceServers {
  const known = computed.get(view)
  if (known?.scheduler === scheduler) return known.servers
  const servers = expand(view, scheduler)
  computed.set(view, { scheduler, servers })
  return servers
}

function expand(view: ServiceView, scheduler: Scheduler): ServiceServers {
  const { service } = view
  const { virtualServers: most } = HOST_LIMITS.service
  const vips = service.clusterIps // a service has eight at most (codec.ts)
  const ports = service.ports.slice(0, Math.floor(most / Math.max(1, vips.length)))
  const draw = service.affinitySeconds > 0 || scheduler === 'mh' ? 'hash' : 'random'
  const cap = realServersPerTarget(vips.length * ports.length, draw)
  const targets = vips.flatMap((vip) => ports.map((port) => newTarget(vip, port)))
  for (const slice of view.slices) fill(targets, slice, { service, cap })
  const asked = { virtualServers: vips.length * service.ports.length, realServers: 0, entries: 0 }
  const amount = { virtualServers: targets.length, realServers: 0, entries: 0 }
  const servers = targets.map((target) => {
    const { servers, excess } = target.ready.servers.size > 0 ? target.ready : target.leaving
    const entries = 1 + slotCount(servers.size, draw)
    amount.realServers += servers.size
    amount.entries += entries
    asked.realServers += servers.size + excess
    asked.entries += entries + excess
    return normalizeVirtualServer({
      vip: target.vip,
      protocol: target.port.protocol,
      port: target.port.port,
      scheduler,
      affinitySeconds: service.affinitySeconds,
      realServers: [...servers.values()]
    })
  })
  const { namespace, name } = service
  return { name: `${namespace}/${name}`, namespace, amount, asked, servers }
}

/** As many for every port, so that no port of a service that is too large is without endpoints. */
function realServersPerTarget(targets: number, draw: 'hash' | 'random'): number {
  const { realServers, entries } = HOST_LIMITS.service
  const most = draw === 'hash' ? HASHED_REAL_SERVERS_MAX : REAL_SERVERS_PER_VIRTUAL_SERVER_MAX
  let cap = Math.min(most, Math.max(1, Math.floor(realServers / Math.max(1, targets))))
  // The number of slots steps at powers of two.
  while (cap > 1 && targets * (1 + slotCount(cap, draw)) > entries) cap = 2 ** Math.floor(Math.log2(cap - 1))
  return cap
}

/** An address and port with its endpoints so far. Each map has at most the cap of its service. */
interface Target {
  readonly vip: Ip
  readonly port: ServicePort
  readonly family: 4 | 6
  readonly ready: Chosen
  readonly leaving: Chosen
}

interface Chosen {
  readonly servers: Map<string, RealServer>
  /** Left out, as the cap was reached. */
  excess: number
}

function newTarget(vip: Ip, port: ServicePort): Target {
  const none = (): Chosen => ({ servers: new Map(), excess: 0 })
  return { vip, port, family: familyOf(vip), ready: none(), leaving: none() }
}

interface FillOptions {
  readonly service: Pick<ServiceValue, 'publishNotReady'>
  readonly cap: number
}

/** Adds what a slice has. Its endpoints are decoded once, and let go. */
function fill(targets: readonly Target[], slice: EndpointSliceValue, { service, cap }: FillOptions): void {
  const matches = targets.flatMap((target) =>
    slice.ports
      .filter(({ name, protocol }) => name === target.port.name && protocol === target.port.protocol)
      .map(({ port }) => ({ target, port }))
  )
  if (matches.length === 0) return
  const { endpoints } = slice
  const lists = { 4: addressesOf(endpoints, 4, service), 6: addressesOf(endpoints, 6, service) }
  for (const { target, port } of matches)
    for (const kind of ['ready', 'leaving'] as const)
      take(target[kind], { ips: lists[target.family][kind], port, cap })
}

function take(
  chosen: Chosen,
  { ips, port, cap }: { readonly ips: readonly Ip[]; readonly port: number; readonly cap: number }
): void {
  for (const [index, ip] of ips.entries()) {
    if (chosen.servers.size >= cap) {
      chosen.excess += ips.length - index
      return
    }
    const server = { ip, port, weight: 1 }
    const key = realServerKey(server)
    if (!chosen.servers.has(key)) chosen.servers.set(key, server)
  }
}

/** selectEndpoints in two lists: those that get traffic, and those that get it when there is none of the first. */
function addressesOf(
  endpoints: readonly Endpoint[],
  family: 4 | 6,
  { publishNotReady }: Pick<ServiceValue, 'publishNotReady'>
): { readonly ready: readonly Ip[]; readonly leaving: readonly Ip[] } {
  const [ready, leaving]: [Ip[], Ip[]] = [[], []]
  for (const endpoint of endpoints) {
    // The addresses of one endpoint are one pod; like kube-proxy, use the first.
    const ip = endpoint.addresses.find((address) => familyOf(address) === family)
    if (ip === undefined) continue
    if (publishNotReady || endpoint.ready) ready.push(ip)
    else if (endpoint.serving && endpoint.terminating) leaving.push(ip)
  }
  return { ready, leaving }
}
