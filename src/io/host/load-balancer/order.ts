// Helpers of all load balancers for changes of virtual servers. The key and the order are those of
// src/core/host/normalize.ts, so that a list from the kernel and the desired list can be compared as values.
import {
  compareRealServers,
  compareVirtualServers,
  virtualServerKey as keyOfVirtualServer
} from '../../../core/host/normalize.ts'
import type { VirtualServer } from '../../../core/host/host-state.ts'
import type { VirtualServerChange } from '../ports.ts'

export { compareRealServers, compareVirtualServers, keyOfVirtualServer }

/** Joins the changes of each virtual server to one, from its first `have` to its last `want`. */
export function netChanges(changes: readonly VirtualServerChange[]): readonly VirtualServerChange[] {
  const net = new Map<string, VirtualServerChange>()
  for (const change of changes) {
    const server = change.want ?? change.have
    if (server === undefined) continue
    const key = keyOfVirtualServer(server)
    const earlier = net.get(key)
    net.set(key, earlier ? { want: change.want, have: earlier.have } : change)
  }
  return [...net.values()]
}

// Up to this number of changes, a binary search for each place costs less than sorting the list again.
const INSERTIONS_MAX = 64

/** Returns the sorted list after these changes, of which each server has one at most. `servers` must be sorted. */
export function withChanges(
  servers: readonly VirtualServer[],
  changes: readonly VirtualServerChange[]
): readonly VirtualServer[] {
  if (changes.length > INSERTIONS_MAX) {
    const byKey = new Map(servers.map((server) => [keyOfVirtualServer(server), server]))
    for (const { want, have } of changes) {
      const server = want ?? have
      if (want) byKey.set(keyOfVirtualServer(want), want)
      else if (server) byKey.delete(keyOfVirtualServer(server))
    }
    return [...byKey.values()].sort(compareVirtualServers)
  }
  const result = [...servers]
  for (const { want, have } of changes) {
    const server = want ?? have
    if (server === undefined) continue
    const at = placeOf(result, server)
    const found = result[at]
    const isThere = found !== undefined && compareVirtualServers(found, server) === 0
    if (want) result.splice(at, isThere ? 1 : 0, want)
    else if (isThere) result.splice(at, 1)
  }
  return result
}

/** Returns the index of the first server that does not sort before `server`. */
function placeOf(servers: readonly VirtualServer[], server: VirtualServer): number {
  let [low, high] = [0, servers.length]
  while (low < high) {
    const middle = (low + high) >> 1
    const other = servers[middle]
    if (other !== undefined && compareVirtualServers(other, server) < 0) low = middle + 1
    else high = middle
  }
  return low
}
