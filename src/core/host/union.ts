// While it is not known whether `want` is complete, a host should have everything that is wanted and keep everything
// that it has. This file computes that union.
import { cidrOverlaps } from '../model/cidr.ts'
import type { Cidr } from '../model/values.ts'
import type { Filter, HostState, SourceEndpoint, VirtualServer, WireguardPeer } from './host-state.ts'
import {
  normalizeFilter,
  normalizeHost,
  sortRealServers,
  sortedPrefixes,
  virtualServerKey
} from './normalize.ts'
import { differenceOf, editedServers, type ServerEdits } from './server-list.ts'

/**
 * Returns `want`, widened by what `have` has besides. Where both have a value for the same item, that of `want` is
 * used.
 */
export function unionHost(want: HostState, have: HostState): HostState {
  const rest = normalizeHost({
    tunnel: want.tunnel ?? have.tunnel,
    peers: unionPeers(want.peers, have.peers),
    // When two routes have one destination, normalizeHost keeps the first.
    routes: [...want.routes, ...have.routes],
    vips: [...want.vips, ...have.vips],
    virtualServers: [],
    filter: unionFilter(want.filter, have.filter),
    sysctls: want.sysctls
  })
  return { ...rest, virtualServers: unionVirtualServers(want.virtualServers, have.virtualServers) }
}

/** A prefix that is wanted for one peer is taken from all others, because WireGuard knows one owner for a prefix. */
function unionPeers(
  want: readonly WireguardPeer[],
  have: readonly WireguardPeer[]
): readonly WireguardPeer[] {
  const wanted = new Map(want.map((peer) => [peer.publicKey, peer]))
  const claimed = new Set(want.flatMap(({ allowedIps }) => allowedIps))
  const kept = have.map((peer) => {
    const desired = wanted.get(peer.publicKey)
    const free = peer.allowedIps.filter((cidr) => !claimed.has(cidr))
    return { ...(desired ?? peer), allowedIps: sortedPrefixes([...(desired?.allowedIps ?? []), ...free]) }
  })
  return [...kept, ...want]
}

/**
 * The cost is that of the differences: while one catalogue is incomplete, every change of every other catalogue
 * passes here.
 */
function unionVirtualServers(
  want: readonly VirtualServer[],
  have: readonly VirtualServer[]
): readonly VirtualServer[] {
  const { pairs, gone } = differenceOf(want, have)
  const edits: ServerEdits = new Map()
  for (const { want: of, have: before } of pairs) {
    if (before === undefined) continue
    const realServers = sortRealServers([...of.realServers, ...before.realServers])
    if (realServers.length === of.realServers.length) continue
    edits.set(virtualServerKey(of), { of, now: { ...of, realServers } })
  }
  for (const server of gone) edits.set(virtualServerKey(server), { of: server, now: server })
  return editedServers(want, edits)
}

function unionFilter(want: Filter | undefined, have: Filter | undefined): Filter | undefined {
  if (want === undefined || have === undefined) return want ?? have
  return normalizeFilter({
    ...want,
    remoteSources: [...want.remoteSources, ...have.remoteSources],
    localDestinations: [...want.localDestinations, ...have.localDestinations],
    nodeSources: [...(want.nodeSources ?? []), ...(have.nodeSources ?? [])],
    guardedVips: [...(want.guardedVips ?? []), ...(have.guardedVips ?? [])],
    hostEndpoints: [...(want.hostEndpoints ?? []), ...(have.hostEndpoints ?? [])],
    // Without `reach` all are reachable, and the lists say nothing.
    reachable: want.reach === undefined ? [] : [...(want.reachable ?? []), ...(have.reachable ?? [])],
    reachableFrom: want.reach === undefined ? [] : unionSources(want.reachableFrom, have.reachableFrom)
  })
}

/**
 * Of two sources of one endpoint that overlap, as when the prefixes of a cluster have changed, only the wanted one stays: one
 * set of nftables cannot hold both.
 */
function unionSources(
  want: readonly SourceEndpoint[] = [],
  have: readonly SourceEndpoint[] = []
): readonly SourceEndpoint[] {
  const wanted = new Map<string, Cidr[]>()
  for (const [source, endpoint] of want.map(parts))
    wanted.set(endpoint, [...(wanted.get(endpoint) ?? []), source])
  const isFree = (pair: SourceEndpoint): boolean => {
    const [source, endpoint] = parts(pair)
    return !(wanted.get(endpoint) ?? []).some((prefix) => cidrOverlaps(prefix, source))
  }
  return [...want, ...have.filter(isFree)]
}

function parts(pair: SourceEndpoint): readonly [source: Cidr, endpoint: string] {
  const at = pair.indexOf(' ')
  return [pair.slice(0, at) as Cidr, pair.slice(at + 1)]
}
