// Draining: a real server that is no longer wanted gets no new flow but keeps its old ones, until they are gone or a
// deadline passes. Pure; the caller keeps `drains` between passes. At most as many entries as the host has real servers.
import type { HostState, RealServer, VirtualServer } from './host-state.ts'
import { normalizeVirtualServer, realServerKey, virtualServerKey } from './normalize.ts'
import { differenceOf } from './server-list.ts'

/** drainKey → Unix or monotonic milliseconds at which the real server goes. */
export type Drains = ReadonlyMap<string, number>

export const NO_DRAINS: Drains = new Map()

interface DrainInput {
  readonly want: HostState
  readonly have: HostState
  readonly drains: Drains
  readonly nowMs: number
  readonly drainMs: number
  /** drainKeys of real servers known to have no connections left. */
  readonly idle?: ReadonlySet<string>
}

export interface DrainResult {
  /** `want`, with the draining real servers at weight 0. */
  readonly want: HostState
  readonly drains: Drains
  /** When to look again; undefined: nothing drains. */
  readonly nextDeadlineMs: number | undefined
}

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

/** Not spread: they may be more than a call takes. */
function earliest(drains: Drains): number {
  let least = Infinity
  for (const deadlineMs of drains.values()) least = Math.min(least, deadlineMs)
  return least
}

/** "10.101.0.1 TCP 80 10.1.0.11 8080" */
export function drainKey(
  virtualServer: Pick<VirtualServer, 'vip' | 'protocol' | 'port'>,
  realServer: Pick<RealServer, 'ip' | 'port'>
): string {
  return `${virtualServerKey(virtualServer)} ${realServerKey(realServer)}`
}

function leavingOf(want: VirtualServer, have: VirtualServer): readonly RealServer[] {
  // No backend left means a withdrawn cluster or an empty service: nothing answers, so old flows are cut, not left hanging.
  // A UDP sender with a fixed port would go on to the dead backend for as long as it drains.
  if (want.realServers.length === 0 || want.protocol === 'UDP') return []
  const still = new Set(want.realServers.map(realServerKey))
  return have.realServers.filter((real) => !still.has(realServerKey(real)))
}

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
