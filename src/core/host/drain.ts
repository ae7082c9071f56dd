// Draining: a real server that is no longer wanted gets no new flow but keeps its old flows, until they end or a
// deadline passes. The functions are pure, and the caller keeps `drains` between passes. There are at most as many
// drains as the host has real servers.
import type { HostState, RealServer, VirtualServer } from './host-state.ts'
import { normalizeVirtualServer, realServerKey, virtualServerKey } from './normalize.ts'
import { differenceOf } from './server-list.ts'

/** Maps each drainKey to the time, in milliseconds on the caller's clock, at which the real server is removed. */
export type Drains = ReadonlyMap<string, number>

export const NO_DRAINS: Drains = new Map()

interface DrainInput {
  readonly want: HostState
  readonly have: HostState
  readonly drains: Drains
  readonly nowMs: number
  readonly drainMs: number
  /** drainKeys of real servers that are known to have no connections left. */
  readonly idle?: ReadonlySet<string>
}

/** Result of `drain`. */
export interface DrainResult {
  /** The input's `want`, to which the draining real servers are added with weight 0. */
  readonly want: HostState
  readonly drains: Drains
  /** Time of the earliest deadline; undefined when no real server drains. */
  readonly nextDeadlineMs: number | undefined
}

/**
 * Adds to `want` the real servers of `have` that still drain. A drain starts when a real server leaves a TCP virtual
 * server, and ends after `drainMs` or when the real server is idle.
 */
export function drain(input: DrainInput): DrainResult {
  const { want, have } = input
  const drains = new Map<string, number>()
  let virtualServers: VirtualServer[] | undefined
  for (const pair of differenceOf(want.virtualServers, have.virtualServers).pairs) {
    if (pair.have === undefined) continue
    const server = pair.want
    const leaving = leavingOf(server, pair.have)
    const draining = leaving.filter((real) => isDraining(server, real, { input, drains }))
    if (draining.length === 0) continue
    const quiet = draining.map((real) => ({ ...real, weight: 0 }))
    virtualServers ??= [...want.virtualServers]
    virtualServers[pair.index] = normalizeVirtualServer({
      ...server,
      realServers: [...server.realServers, ...quiet]
    })
  }
  return {
    want: virtualServers === undefined ? want : { ...want, virtualServers },
    drains,
    nextDeadlineMs: drains.size === 0 ? undefined : earliest(drains)
  }
}

/**
 * Returns the earliest deadline. A loop is used because Math.min(...) fails with as many arguments as there may be
 * drains.
 */
function earliest(drains: Drains): number {
  let least = Infinity
  for (const deadlineMs of drains.values()) least = Math.min(least, deadlineMs)
  return least
}

/** Returns the key of one real server of one virtual server: "10.101.0.1 TCP 80 10.1.0.11 8080". */
export function drainKey(
  virtualServer: Pick<VirtualServer, 'vip' | 'protocol' | 'port'>,
  realServer: Pick<RealServer, 'ip' | 'port'>
): string {
  return `${virtualServerKey(virtualServer)} ${realServerKey(realServer)}`
}

/** Returns the real servers that are no longer wanted and may drain. */
function leavingOf(want: VirtualServer, have: VirtualServer): readonly RealServer[] {
  // A virtual server without backends belongs to a withdrawn cluster or an empty service, and its old flows are cut
  // at once. UDP is not drained: a sender with a fixed port would reach the dead backend for as long as the drain
  // lasts.
  if (want.realServers.length === 0 || want.protocol === 'UDP') return []
  const still = new Set(want.realServers.map(realServerKey))
  return have.realServers.filter((real) => !still.has(realServerKey(real)))
}

/** Returns whether a real server still drains, and records its deadline, which starts at the first call for it. */
function isDraining(
  server: VirtualServer,
  real: RealServer,
  { input, drains }: { readonly input: DrainInput; readonly drains: Map<string, number> }
): boolean {
  const key = drainKey(server, real)
  const deadlineMs = input.drains.get(key) ?? input.nowMs + input.drainMs
  if (input.idle?.has(key) || input.nowMs >= deadlineMs) return false
  drains.set(key, deadlineMs)
  return true
}
