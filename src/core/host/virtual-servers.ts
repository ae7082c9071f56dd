// This file turns a cluster's services into virtual servers: it decides which endpoints serve which (address,
// protocol, port).
// Invariants
//   1. A claim is counted, not expanded: `servers` are built when they are read, that is, when the service is
//      admitted to the host.
//   2. A service is cut to HOST_LIMITS.service while it is expanded: nothing beyond the limit is ever allocated.
import { familyOf } from '../model/cidr.ts'
import { useOf } from './endpoint-use.ts'
import type { RealServer, Scheduler, VirtualServer } from './host-state.ts'
import {
  HASHED_REAL_SERVERS_MAX,
  HOST_LIMITS,
  REAL_SERVERS_PER_VIRTUAL_SERVER_MAX,
  type Amount,
  type Claim
} from './host-limits.ts'
import { normalizeVirtualServer, realServerKey } from './normalize.ts'
import type {
  Endpoint,
  EndpointPort,
  EndpointSliceValue,
  Ip,
  ServicePort,
  ServiceValue
} from '../model/values.ts'
import { RANDOM_SIZES, slotCount } from './slots.ts'
import { SortedMap } from '../model/sorted-map.ts'
import type { Place } from '../model/topology.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import { nearView } from './zone-choice.ts'

/** A service's claim on the host, and its virtual servers once it is admitted. */
export interface ServiceServers extends Claim {
  /** The virtual servers are built at the first read, and kept. */
  readonly servers: readonly VirtualServer[]
  /** What the service would have without a limit. */
  readonly asked: Amount
}

/**
 * Returns the claims in the order of the services' names. When two services claim one address and port, the caller
 * keeps the first.
 */
export function servicesOf(
  cluster: Pick<ClusterView, 'services'> & { readonly place?: Place },
  scheduler: Scheduler
): readonly ServiceServers[] {
  const { services, place } = cluster
  const claims = (view: ServiceView): ServiceServers =>
    serviceServers(place === undefined ? view : nearView(view, place), scheduler)
  // The services of a view are in that order already.
  if (services instanceof SortedMap) return Array.from((services as SortedMap<ServiceView>).values(), claims)
  return [...services.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, view]) => claims(view))
}

// A view keeps the ServiceView of a service that did not change, and a pass computes all services for a change of
// one. So results are cached by ServiceView.
const computed = new WeakMap<ServiceView, { scheduler: Scheduler; servers: ServiceServers }>()

/** Returns the claim of one service, and computes it once for each ServiceView and scheduler. */
export function serviceServers(view: ServiceView, scheduler: Scheduler): ServiceServers {
  const known = computed.get(view)
  if (known?.scheduler === scheduler) return known.servers
  const servers = claimOf(view, scheduler)
  computed.set(view, { scheduler, servers })
  return servers
}

function claimOf(view: ServiceView, scheduler: Scheduler): ServiceServers {
  const { service } = view
  const shape = shapeOf(view, scheduler)
  const asked = {
    virtualServers: service.clusterIps.length * service.ports.length,
    realServers: 0,
    entries: 0
  }
  const amount = { virtualServers: shape.targets.length, realServers: 0, entries: 0 }
  for (const { count, weight } of countsOf(view, shape.targets)) {
    const used = Math.min(count, shape.cap)
    asked.realServers += count
    asked.entries += 1 + count
    amount.realServers += used
    amount.entries += 1 + slotCount(used, shape.draw, view.weights === undefined ? used : weight)
  }
  const { namespace, name } = service
  let made: readonly VirtualServer[] | undefined
  return {
    name: `${namespace}/${name}`,
    namespace,
    amount,
    asked,
    get servers() {
      return (made ??= expand(view, shape, scheduler))
    }
  }
}

function expand(view: ServiceView, { targets, cap }: Shape, scheduler: Scheduler): readonly VirtualServer[] {
  const { service } = view
  const filled = targets.map((target): Filled => ({ ...target, ready: new Map(), leaving: new Map() }))
  for (const [index, slice] of view.slices.entries())
    fill(filled, slice, { service, cap, weight: view.weights?.[index] ?? 1 })
  return filled.map(({ vip, port, ready, leaving }) =>
    normalizeVirtualServer({
      vip,
      protocol: port.protocol,
      port: port.port,
      // Neither round robin nor least connections looks at weights.
      scheduler: view.weights === undefined || scheduler === 'mh' ? scheduler : 'wrr',
      affinitySeconds: service.affinitySeconds,
      realServers: [...(ready.size > 0 ? ready : leaving).values()]
    })
  )
}

/** The size to which a service is cut before its endpoints are read. */
interface Shape {
  readonly targets: readonly Target[]
  readonly draw: 'hash' | 'random'
  /** Most real servers of each target. */
  readonly cap: number
}

interface Target {
  readonly vip: Ip
  readonly port: ServicePort
  readonly family: 4 | 6
}

function shapeOf({ service, weights }: ServiceView, scheduler: Scheduler): Shape {
  const most = weights === undefined ? HOST_LIMITS.service.virtualServers : WEIGHTED_TARGETS_MAX
  const vips = service.clusterIps // a service has eight at most (wire/value-codec.ts)
  const ports = service.ports.slice(0, Math.floor(most / Math.max(1, vips.length)))
  const draw = service.affinitySeconds > 0 || scheduler === 'mh' ? 'hash' : 'random'
  const targets = vips.flatMap((vip) => ports.map((port) => ({ vip, port, family: familyOf(vip) })))
  const cap = realServersPerTarget(targets.length, draw)
  return { targets, draw, cap: weights === undefined ? cap : Math.min(cap, HASHED_REAL_SERVERS_MAX) }
}

/** So many tables of the largest size are within the limit of one service. */
const WEIGHTED_TARGETS_MAX = Math.floor(HOST_LIMITS.service.entries / (1 + (RANDOM_SIZES.at(-1) ?? 0)))

/** Returns how many endpoints each target has and what they weigh, duplicates included. No endpoint is kept in memory. */
function countsOf(
  { service, slices, weights }: ServiceView,
  targets: readonly Target[]
): readonly { readonly count: number; readonly weight: number }[] {
  const counts = targets.map(() => ({ ready: 0, leaving: 0, readyWeight: 0, leavingWeight: 0 }))
  for (const [place, slice] of slices.entries()) {
    if (targets.length === 0) break
    const weight = weights?.[place] ?? 1
    const { endpoints } = slice
    const lists = { 4: addressesOf(endpoints, 4, service), 6: addressesOf(endpoints, 6, service) }
    for (const [index, target] of targets.entries()) {
      const count = counts[index]
      const times = slice.ports.filter((port) => isFor(port, target)).length
      if (count === undefined || times === 0) continue
      const { ready, leaving } = lists[target.family]
      count.ready += times * ready.length
      count.leaving += times * leaving.length
      count.readyWeight += weight * times * ready.length
      count.leavingWeight += weight * times * leaving.length
    }
  }
  return counts.map(({ ready, leaving, readyWeight, leavingWeight }) =>
    ready > 0 ? { count: ready, weight: readyWeight } : { count: leaving, weight: leavingWeight }
  )
}

function isFor({ name, protocol }: EndpointPort, { port }: Target): boolean {
  return name === port.name && protocol === port.protocol
}

/**
 * Every port gets the same number of endpoints, so that no port of a service that is too large is without endpoints.
 */
function realServersPerTarget(targets: number, draw: 'hash' | 'random'): number {
  const { realServers, entries } = HOST_LIMITS.service
  const most = draw === 'hash' ? HASHED_REAL_SERVERS_MAX : REAL_SERVERS_PER_VIRTUAL_SERVER_MAX
  let cap = Math.min(most, Math.max(1, Math.floor(realServers / Math.max(1, targets))))
  // The number of slots grows in powers of two.
  while (cap > 1 && targets * (1 + slotCount(cap, draw)) > entries) cap = 2 ** Math.floor(Math.log2(cap - 1))
  return cap
}

/** A target with the endpoints found so far. Each map has at most the cap of its service. */
interface Filled extends Target {
  readonly ready: Map<string, RealServer>
  readonly leaving: Map<string, RealServer>
}

interface FillOptions {
  readonly service: Pick<ServiceValue, 'publishNotReady'>
  readonly cap: number
  /** Of each endpoint of the slice. */
  readonly weight: number
}

/** Adds the endpoints of one slice. They are decoded once and not kept. */
function fill(
  targets: readonly Filled[],
  slice: EndpointSliceValue,
  { service, cap, weight }: FillOptions
): void {
  const matches = targets.flatMap((target) =>
    slice.ports.filter((port) => isFor(port, target)).map(({ port }) => ({ target, port }))
  )
  if (matches.length === 0) return
  const { endpoints } = slice
  const lists = { 4: addressesOf(endpoints, 4, service), 6: addressesOf(endpoints, 6, service) }
  for (const { target, port } of matches)
    for (const kind of ['ready', 'leaving'] as const)
      take(target[kind], { ips: lists[target.family][kind], port, cap, weight })
}

function take(
  chosen: Map<string, RealServer>,
  {
    ips,
    port,
    cap,
    weight
  }: { readonly ips: readonly Ip[]; readonly port: number; readonly cap: number; readonly weight: number }
): void {
  for (const ip of ips) {
    if (chosen.size >= cap) return
    const server = { ip, port, weight }
    const key = realServerKey(server)
    if (!chosen.has(key)) chosen.set(key, server)
  }
}

/**
 * Returns the endpoints that get traffic, as kube-proxy chooses them: the ready ones; when no endpoint of the service is
 * ready, those that terminate but still serve (KEP-1669).
 */
function addressesOf(
  endpoints: readonly Endpoint[],
  family: 4 | 6,
  service: Pick<ServiceValue, 'publishNotReady'>
): { readonly ready: readonly Ip[]; readonly leaving: readonly Ip[] } {
  const [ready, leaving]: [Ip[], Ip[]] = [[], []]
  for (const endpoint of endpoints) {
    // The addresses of one endpoint belong to one pod. The first is used, as kube-proxy does.
    const ip = endpoint.addresses.find((address) => familyOf(address) === family)
    if (ip === undefined) continue
    const use = useOf(endpoint, service)
    if (use === 'ready') ready.push(ip)
    else if (use === 'leaving') leaving.push(ip)
  }
  return { ready, leaving }
}

/**
 * Returns, for each slice of a service, its ports and the addresses that get traffic: of the ready endpoints, or of those
 * that terminate but still serve while none is ready. A headless service has no such fallback, because DNS publishes ready
 * endpoints only.
 */
export function servingAddresses({ service, slices }: ServiceView): readonly {
  readonly ports: readonly EndpointPort[]
  readonly addresses: readonly Ip[]
}[] {
  const chosen = (use: 'ready' | 'leaving') =>
    slices.map(({ endpoints, ports }) => ({
      ports,
      addresses: endpoints.flatMap((endpoint) => (useOf(endpoint, service) === use ? endpoint.addresses : []))
    }))
  const ready = chosen('ready')
  const isNoneReady = ready.every(({ addresses }) => addresses.length === 0)
  return isNoneReady && !service.headless ? chosen('leaving') : ready
}

/**
 * Returns how many endpoints of a service are ready, and how many get its traffic as a fallback because none is ready.
 * A headless service has no fallback, since DNS publishes ready endpoints only.
 */
export function trafficOf({ service, slices }: ServiceView): {
  readonly ready: number
  readonly fallback: number
} {
  let [ready, leaving] = [0, 0]
  for (const { endpoints } of slices)
    for (const endpoint of endpoints) {
      const use = useOf(endpoint, service)
      if (use === 'ready') ready++
      else if (use === 'leaving') leaving++
    }
  return { ready, fallback: ready > 0 || service.headless ? 0 : leaving }
}

/**
 * Returns the slices of a service with `most` of its `of` endpoints, each slice with its part of them. Endpoints of another
 * use or family are left out.
 */
export function cutSlices(
  { service, slices }: Pick<ServiceView, 'service' | 'slices'>,
  { family, use, most, of }: { family: 4 | 6; use: 'ready' | 'leaving'; most: number; of: number }
): readonly EndpointSliceValue[] {
  let seen = 0
  return slices.map(({ kind, namespace, name, service: owner, ports, endpoints }) => {
    const used = endpoints.filter(
      (endpoint) =>
        useOf(endpoint, service) === use && endpoint.addresses.some((address) => familyOf(address) === family)
    )
    // A slice of other ports has no endpoint of the service.
    const from = Math.round((seen * most) / of)
    if (isOf(service, ports)) seen += used.length
    const count = Math.round((seen * most) / of) - from
    return { kind, namespace, name, service: owner, ports, endpoints: used.slice(0, count) }
  })
}

/** Whether a slice has one of the ports of the service. */
function isOf(service: Pick<ServiceValue, 'ports'>, ports: readonly EndpointPort[]): boolean {
  return ports.some((port) =>
    service.ports.some(({ name, protocol }) => port.name === name && port.protocol === protocol)
  )
}

/** Returns how many addresses of one family are ready, and how many terminate but still serve. */
export function useCounts(
  { service, slices }: Pick<ServiceView, 'service' | 'slices'>,
  family: 4 | 6
): { readonly ready: number; readonly leaving: number } {
  let [ready, leaving] = [0, 0]
  for (const { endpoints, ports } of slices) {
    if (!isOf(service, ports)) continue
    const found = addressesOf(endpoints, family, service)
    ready += found.ready.length
    leaving += found.leaving.length
  }
  return { ready, leaving }
}
