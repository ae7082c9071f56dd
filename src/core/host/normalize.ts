// This file defines the order and identity of the items in a HostState. Two hosts with the same content are deeply
// equal once both are normalised.
import { compareCidr, ipSortKey } from '../model/cidr.ts'
import type { Filter, HostState, RealServer, Route, VirtualServer, WireguardPeer } from './host-state.ts'
import type { Cidr } from '../model/values.ts'

/** A host on which this agent owns nothing. */
export const EMPTY_HOST: HostState = {
  tunnel: undefined,
  peers: [],
  routes: [],
  vips: [],
  virtualServers: [],
  filter: undefined,
  sysctls: []
}

/** Returns the identity of a virtual server, such as "10.101.0.1 TCP 80", which is unique on a host. */
export function virtualServerKey(server: Pick<VirtualServer, 'vip' | 'protocol' | 'port'>): string {
  return `${server.vip} ${server.protocol} ${server.port}`
}

/** Returns the identity of a real server, such as "10.1.0.11 8080", which is unique in its virtual server. */
export function realServerKey(server: Pick<RealServer, 'ip' | 'port'>): string {
  return `${server.ip} ${server.port}`
}

/** Sorts all lists and keeps the first of any duplicates. */
export function normalizeHost(state: HostState): HostState {
  return {
    tunnel: state.tunnel,
    peers: sortedBy(state.peers.map(normalizePeer), ({ publicKey }) => publicKey),
    routes: sortedByPrefix(state.routes, routeKey),
    vips: sortedByPrefix(state.vips, ({ destination }) => destination),
    virtualServers: sortedBy(state.virtualServers.map(normalizeVirtualServer), virtualServerOrder),
    filter: state.filter && normalizeFilter(state.filter),
    sysctls: sortedBy(state.sysctls, ({ name }) => name)
  }
}

// Sorting real servers is most of the work for a host with 10,000 services, and a pass keeps the objects that did not
// change. So each sorted server is remembered with its sort key.
const normalized = new WeakMap<VirtualServer, string>()

/** Sorts the real servers and removes duplicates. Returns the same object when it is normalised already. */
export function normalizeVirtualServer(server: VirtualServer): VirtualServer {
  if (normalized.has(server)) return server
  const sorted = { ...server, realServers: sortedBy(server.realServers, sortKeyOfReal) }
  normalized.set(sorted, sortKeyOfVirtual(sorted))
  return sorted
}

/** Returns the key by which virtual servers are sorted: address, protocol name, port. */
export function virtualServerOrder(server: VirtualServer): string {
  return normalized.get(server) ?? sortKeyOfVirtual(server)
}

/**
 * Compares in the same order as virtualServerOrder without building keys: by vip (IPv4 first, then numeric), protocol
 * name, port.
 */
export function compareVirtualServers(left: VirtualServer, right: VirtualServer): number {
  const protocols = left.protocol === right.protocol ? 0 : left.protocol < right.protocol ? -1 : 1
  return compareCidr(left.vip, right.vip) || protocols || left.port - right.port
}

/** Compares by ip (numeric) and port, as normalizeVirtualServer sorts real servers. */
export function compareRealServers(left: RealServer, right: RealServer): number {
  return compareCidr(left.ip, right.ip) || left.port - right.port
}

function sortKeyOfVirtual({ vip, protocol, port }: VirtualServer): string {
  return `${ipSortKey(vip)} ${protocol} ${String(port).padStart(5, '0')}`
}

function sortKeyOfReal({ ip, port }: RealServer): string {
  return `${ipSortKey(ip)} ${String(port).padStart(5, '0')}`
}

/** Sorts real servers by ip (numeric) and port, and removes duplicates. */
export function sortRealServers(servers: readonly RealServer[]): readonly RealServer[] {
  return sortedBy(servers, sortKeyOfReal)
}

function normalizePeer(peer: WireguardPeer): WireguardPeer {
  return { ...peer, allowedIps: sortedPrefixes(peer.allowedIps) }
}

// The lists that a filter may leave out, with their order.
const OPTIONAL_LISTS = {
  guardedVips: sortedPrefixes,
  ownNetworks: sortedPrefixes,
  hostEndpoints: sortedTexts,
  ownSources: sortedPrefixes,
  checkedDevices: sortedTexts,
  overlayDevices: sortedTexts,
  containerBridges: sortedTexts,
  reachable: sortedTexts,
  reachableFrom: sortedTexts,
  barredSources: sortedPrefixes,
  nodeSources: sortedPrefixes,
  translatedPods: sortedTexts
} as const

/** Sorts the lists of a filter, and leaves out the optional ones that are empty. */
export function normalizeFilter(filter: Filter): Filter {
  const { remoteSources, localDestinations, probePort, mtu, reach } = filter
  const lists = Object.entries(OPTIONAL_LISTS).flatMap(([field, sorted]) => {
    const list = filter[field as keyof typeof OPTIONAL_LISTS] ?? []
    return list.length === 0 ? [] : [[field, (sorted as (items: readonly string[]) => unknown)(list)]]
  })
  return {
    remoteSources: sortedPrefixes(remoteSources),
    localDestinations: sortedPrefixes(localDestinations),
    probePort,
    mtu,
    ...(reach === undefined ? {} : { reach }),
    ...(Object.fromEntries(lists) as Partial<Filter>)
  }
}

/** Sorts host endpoints or names of devices by code units and removes duplicates. */
export function sortedTexts<Text extends string>(texts: Iterable<Text>): readonly Text[] {
  return [...new Set(texts)].sort()
}

/** Sorts prefixes by compareCidr and removes duplicates. */
export function sortedPrefixes(prefixes: Iterable<Cidr>): readonly Cidr[] {
  return [...new Set(prefixes)].sort(compareCidr)
}

/** Returns the identity of a route, which is unique on a host: two tables may have a route to one destination. */
export function routeKey({ destination, inner }: Pick<Route, 'destination' | 'inner'>): string {
  return inner === true ? `${destination} inner` : destination
}

/** Sorts by destination, then by key, and keeps the first item of each key. */
function sortedByPrefix<T extends { readonly destination: Cidr }>(
  items: readonly T[],
  keyOf: (item: T) => string
): readonly T[] {
  const unique = [...firstOf(items, keyOf)]
  return unique
    .sort(([a, left], [b, right]) => compareCidr(left.destination, right.destination) || (a < b ? -1 : 1))
    .map(([, item]) => item)
}

/**
 * Sorts by code units of the key, the cheapest order that is the same on every host, and keeps the first item of each
 * key.
 */
export function sortedBy<T>(items: readonly T[], keyOf: (item: T) => string): readonly T[] {
  return [...firstOf(items, keyOf)].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, item]) => item)
}

function firstOf<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T> {
  const first = new Map<string, T>()
  for (const item of items) {
    const key = keyOf(item)
    if (!first.has(key)) first.set(key, item)
  }
  return first
}
