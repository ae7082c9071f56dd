// The order and identity of what a HostState lists. Two hosts that are alike are deeply equal once both are normalised.
import { compareCidr, ipSortKey } from '../model/cidr.ts'
import type {
  Filter,
  HostEndpoint,
  HostState,
  RealServer,
  VirtualServer,
  WireguardPeer
} from './host-state.ts'
import type { Cidr } from '../model/values.ts'

export const EMPTY_HOST: HostState = {
  tunnel: undefined,
  peers: [],
  routes: [],
  vips: [],
  virtualServers: [],
  filter: undefined,
  sysctls: []
}

/** "10.101.0.1 TCP 80": at most one virtual server of a host has it. */
export function virtualServerKey(server: Pick<VirtualServer, 'vip' | 'protocol' | 'port'>): string {
  return `${server.vip} ${server.protocol} ${server.port}`
}

/** "10.1.0.11 8080": at most one real server of a virtual server has it. */
export function realServerKey(server: Pick<RealServer, 'ip' | 'port'>): string {
  return `${server.ip} ${server.port}`
}

/** Sorted, with the first of any duplicates. */
export function normalizeHost(state: HostState): HostState {
  return {
    tunnel: state.tunnel,
    peers: sortedBy(state.peers.map(normalizePeer), ({ publicKey }) => publicKey),
    routes: sortedByPrefix(state.routes),
    vips: sortedByPrefix(state.vips),
    virtualServers: sortedBy(state.virtualServers.map(normalizeVirtualServer), virtualServerOrder),
    filter: state.filter && normalizeFilter(state.filter),
    sysctls: sortedBy(state.sysctls, ({ name }) => name)
  }
}

// Sorting real servers is most of the work in a host with 10,000 services, and a pass keeps the objects that did not change.
const normalized = new WeakMap<VirtualServer, string>()

/** The same object when it is normalised already. */
export function normalizeVirtualServer(server: VirtualServer): VirtualServer {
  if (normalized.has(server)) return server
  const sorted = { ...server, realServers: sortedBy(server.realServers, sortKeyOfReal) }
  normalized.set(sorted, sortKeyOfVirtual(sorted))
  return sorted
}

/** What a list of virtual servers is sorted by: address, protocol name, port. */
export function virtualServerOrder(server: VirtualServer): string {
  return normalized.get(server) ?? sortKeyOfVirtual(server)
}

/** The same order without making keys: by vip (IPv4 first, then numeric), protocol name, port. */
export function compareVirtualServers(left: VirtualServer, right: VirtualServer): number {
  const protocols = left.protocol === right.protocol ? 0 : left.protocol < right.protocol ? -1 : 1
  return compareCidr(left.vip, right.vip) || protocols || left.port - right.port
}

/** By ip (numeric), port: as normalizeVirtualServer sorts them. */
export function compareRealServers(left: RealServer, right: RealServer): number {
  return compareCidr(left.ip, right.ip) || left.port - right.port
}

function sortKeyOfVirtual({ vip, protocol, port }: VirtualServer): string {
  return `${ipSortKey(vip)} ${protocol} ${String(port).padStart(5, '0')}`
}

function sortKeyOfReal({ ip, port }: RealServer): string {
  return `${ipSortKey(ip)} ${String(port).padStart(5, '0')}`
}

export function sortRealServers(servers: readonly RealServer[]): readonly RealServer[] {
  return sortedBy(servers, sortKeyOfReal)
}

function normalizePeer(peer: WireguardPeer): WireguardPeer {
  return { ...peer, allowedIps: sortedPrefixes(peer.allowedIps) }
}

function normalizeFilter(filter: Filter): Filter {
  return {
    ...filter,
    remoteSources: sortedPrefixes(filter.remoteSources),
    localDestinations: sortedPrefixes(filter.localDestinations),
    ...(filter.guardedVips === undefined ? {} : { guardedVips: sortedPrefixes(filter.guardedVips) }),
    ...(filter.ownNetworks === undefined ? {} : { ownNetworks: sortedPrefixes(filter.ownNetworks) }),
    ...(filter.hostEndpoints === undefined ? {} : { hostEndpoints: sortedEndpoints(filter.hostEndpoints) })
  }
}

/** By code units. */
export function sortedEndpoints(endpoints: Iterable<HostEndpoint>): readonly HostEndpoint[] {
  return [...new Set(endpoints)].sort()
}

export function sortedPrefixes(prefixes: Iterable<Cidr>): readonly Cidr[] {
  return [...new Set(prefixes)].sort(compareCidr)
}

function sortedByPrefix<T extends { readonly destination: Cidr }>(items: readonly T[]): readonly T[] {
  const unique = [...firstOf(items, ({ destination }) => destination).values()]
  return unique.sort((a, b) => compareCidr(a.destination, b.destination))
}

/** By code units of the key: the cheapest order that is the same everywhere. */
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
