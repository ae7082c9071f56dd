// What a host should be while it is not yet known whether the wish is complete: everything wanted, and nothing lost.
import type { Filter, HostState, VirtualServer, WireguardPeer } from './host.ts'
import { normalizeHost, sortRealServers, sortedPrefixes, virtualServerKey } from './host-order.ts'

/** `want`, widened by what `have` has besides. Where both say something of the same thing, `want` counts. */
export function unionHost(want: HostState, have: HostState): HostState {
  return normalizeHost({
    tunnel: want.tunnel ?? have.tunnel,
    peers: unionPeers(want.peers, have.peers),
    // Of two with one destination, normalizeHost keeps the first.
    routes: [...want.routes, ...have.routes],
    vips: [...want.vips, ...have.vips],
    virtualServers: unionVirtualServers(want.virtualServers, have.virtualServers),
    filter: unionFilter(want.filter, have.filter),
    sysctls: want.sysctls
  })
}

function unionPeers(
  want: readonly WireguardPeer[],
  have: readonly WireguardPeer[]
): readonly WireguardPeer[] {
  const wanted = new Map(want.map((peer) => [peer.publicKey, peer]))
  const claimed = new Set(want.flatMap(({ allowedIps }) => allowedIps))
  const kept = have.map((peer) => {
    const wish = wanted.get(peer.publicKey)
    const free = peer.allowedIps.filter((cidr) => !claimed.has(cidr))
    return { ...(wish ?? peer), allowedIps: sortedPrefixes([...(wish?.allowedIps ?? []), ...free]) }
  })
  return [...kept, ...want]
}

function unionVirtualServers(
  want: readonly VirtualServer[],
  have: readonly VirtualServer[]
): readonly VirtualServer[] {
  const old = new Map(have.map((server) => [virtualServerKey(server), server]))
  const widened = want.map((server) => {
    const before = old.get(virtualServerKey(server))
    if (before === undefined) return server
    return { ...server, realServers: sortRealServers([...server.realServers, ...before.realServers]) }
  })
  return [...widened, ...have]
}

function unionFilter(want: Filter | undefined, have: Filter | undefined): Filter | undefined {
  if (want === undefined || have === undefined) return want ?? have
  const guardedVips = sortedPrefixes([...(want.guardedVips ?? []), ...(have.guardedVips ?? [])])
  return {
    ...want,
    remoteSources: sortedPrefixes([...want.remoteSources, ...have.remoteSources]),
    localDestinations: sortedPrefixes([...want.localDestinations, ...have.localDestinations]),
    ...(guardedVips.length === 0 ? {} : { guardedVips })
  }
}
