// What a host should be while it is not yet known whether the wish is complete: everything wanted, and nothing lost.
import type { Filter, HostState, VirtualServer, WireguardPeer } from './host-state.ts'
import {
  normalizeHost,
  sortRealServers,
  sortedEndpoints,
  sortedPrefixes,
  virtualServerKey
} from './normalize.ts'
import { differenceOf, editedServers, type ServerEdits } from './server-list.ts'

/** `want`, widened by what `have` has besides. Where both say something of the same thing, `want` counts. */
export function unionHost(want: HostState, have: HostState): HostState {
  const rest = normalizeHost({
    tunnel: want.tunnel ?? have.tunnel,
    peers: unionPeers(want.peers, have.peers),
    // Of two with one destination, normalizeHost keeps the first.
    routes: [...want.routes, ...have.routes],
    vips: [...want.vips, ...have.vips],
    virtualServers: [],
    filter: unionFilter(want.filter, have.filter),
    sysctls: want.sysctls
  })
  return { ...rest, virtualServers: unionVirtualServers(want.virtualServers, have.virtualServers) }
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

/** Costs what differs: while one catalogue is not whole, every change of every other comes through here. */
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
  const guardedVips = sortedPrefixes([...(want.guardedVips ?? []), ...(have.guardedVips ?? [])])
  const hostEndpoints = sortedEndpoints([...(want.hostEndpoints ?? []), ...(have.hostEndpoints ?? [])])
  return {
    ...want,
    remoteSources: sortedPrefixes([...want.remoteSources, ...have.remoteSources]),
    localDestinations: sortedPrefixes([...want.localDestinations, ...have.localDestinations]),
    ...(guardedVips.length === 0 ? {} : { guardedVips }),
    ...(hostEndpoints.length === 0 ? {} : { hostEndpoints })
  }
}
