// What of a host may be kept although it is not wanted: what belongs to a cluster whose catalogue is not complete here. All
// else is deleted, so a cluster that tells nothing keeps no other cluster's tunnel alive.
import { holderAmong } from '../model/prefix-holder.ts'
import type { Cidr, Ip } from '../model/values.ts'
import type { HostState } from './host-state.ts'

/**
 * Returns the part of `have` that lies in these prefixes. A peer that would keep only what is wanted for another peer is
 * left out. The cost is that of `have`.
 */
export function keepable(have: HostState, want: HostState, prefixes: readonly Cidr[]): HostState {
  const claimed = new Set(want.peers.flatMap(({ allowedIps }) => allowedIps))
  const holder = holderAmong(prefixes)
  const isIn = (part: Cidr | Ip): boolean => holder(part) !== undefined
  // An endpoint is "<address> <protocol> <port>".
  const isEndpointIn = (endpoint: string): boolean => isIn(endpoint.slice(0, endpoint.indexOf(' ')) as Ip)
  const { filter } = have
  return {
    ...have,
    peers: have.peers
      .map((peer) => ({
        ...peer,
        allowedIps: peer.allowedIps.filter((cidr) => isIn(cidr) && !claimed.has(cidr))
      }))
      .filter(({ allowedIps }) => allowedIps.length > 0),
    routes: have.routes.filter(({ destination }) => isIn(destination)),
    vips: have.vips.filter(({ destination }) => isIn(destination)),
    virtualServers: have.virtualServers.filter(({ vip }) => isIn(vip)),
    filter: filter && {
      ...filter,
      remoteSources: filter.remoteSources.filter(isIn),
      localDestinations: filter.localDestinations.filter(isIn),
      ...(filter.nodeSources && { nodeSources: filter.nodeSources.filter(isIn) }),
      ...(filter.guardedVips && { guardedVips: filter.guardedVips.filter(isIn) }),
      ...(filter.hostEndpoints && { hostEndpoints: filter.hostEndpoints.filter(isEndpointIn) }),
      ...(filter.reachable && { reachable: filter.reachable.filter(isEndpointIn) }),
      // A pair is "<source> <endpoint>".
      ...(filter.reachableFrom && {
        reachableFrom: filter.reachableFrom.filter((pair) => isEndpointIn(pair.slice(pair.indexOf(' ') + 1)))
      })
    }
  }
}
