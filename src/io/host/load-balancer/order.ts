// Changes of virtual servers. Their one key and their one order are those of core/host/normalize.ts, so that what the kernel says and what we
// wish compare as values.
import {
  compareRealServers,
  compareVirtualServers,
  virtualServerKey as keyOfVirtualServer
} from '../../../core/host/normalize.ts'
import type { VirtualServer } from '../../../core/host/host-state.ts'
import type { VirtualServerChange } from '../ports.ts'

export { compareRealServers, compareVirtualServers, keyOfVirtualServer }

/** One change for each virtual server: from the first `have` to the last `want`. */
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

// Below this, finding each place by halving costs less than sorting again.
const INSERTIONS_MAX = 64

/** The sorted list after these changes, one for each server. */
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

/** The index of the first that is not before `server`. */
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
