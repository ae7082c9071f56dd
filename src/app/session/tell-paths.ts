// Reports what the watch over the tunnels has found: as faults in the registry of health, and as metrics.
// path-watch.ts calls it once a second.
import { gatewaysOf } from '../../core/host/nodes.ts'
import type { ClusterName } from '../../core/model/values.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { Control } from '../control/control.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Health } from '../observe/health.ts'
import { STEP_FAILED, TUNNEL_DEVICE } from '../host/host-faults.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { TunnelPaths } from '../paths/tunnel-paths.ts'
import type { OfNode } from './node-faults.ts'
import { PATH_FAULT_CODES, pathFaults } from './path-faults.ts'
import type { Tunnels } from './tunnels.ts'

// Milliseconds. A neighbour pings once a second, so this is shorter than the time until a tunnel counts as down.
const SILENT_MS = 4000

/** The facts from which faults and metrics are made. */
interface Paths {
  readonly view: MeshView
  readonly control: Control
  readonly tunnels: Tunnels
}

/** The further facts that only the faults need. */
interface PathFaultInput extends Paths {
  readonly health: Health
  /** Clusters that no tunnel reaches (Tunnels.down). */
  readonly down: ReadonlySet<ClusterName>
  /** False: there is no data plane, and nothing is known of tunnels. */
  readonly hasHost: boolean
  /** undefined: this agent is a gateway. */
  readonly node: OfNode | undefined
  readonly ways: TunnelPaths
  /** Name of the tunnel device. */
  readonly device: string
  /** MTU of the tunnel device, bytes. */
  readonly mtu: number
}

/** Computes the faults (path-faults.ts) and replaces those in the registry. */
export function tellPathFaults({ health, view, control, tunnels, ...more }: PathFaultInput): void {
  const faults = pathFaults({
    view,
    down: more.down,
    tunnel: (origin) => (more.hasHost ? tunnels.of(origin) : undefined),
    way: (origin) => more.ways.of(origin),
    control: {
      isConnected: (origin) => control.neighbour(origin) !== undefined,
      isHeard: (origin) => monotonicMs() - (control.neighbour(origin)?.heardMs ?? -Infinity) < SILENT_MS,
      liveness: (origin) => control.liveness(origin),
      refusal: (origin) => control.refusal(origin),
      isFrozen: (origin) => control.isFrozen(origin),
      aloneMs: control.aloneMs(),
      ownUnheldMs: control.ownUnheldMs(),
      isCloned: control.isCloned
    },
    ...(more.node === undefined || !more.hasHost ? {} : { node: more.node }),
    hasDevice: !health.has(STEP_FAILED, TUNNEL_DEVICE),
    device: more.device,
    mtu: more.mtu
  })
  for (const code of PATH_FAULT_CODES) health.replace(code, faults[code])
}

/** Clears the faults of all paths. Called when a session stops: its paths are not watched any more. */
export function clearPathFaults(health: Health): void {
  for (const code of PATH_FAULT_CODES) health.replace(code, [])
}

/**
 * Sets the metrics of each other cluster. A cluster is up when one of its tunnels is; its round trip is that of the
 * first agent for which one is known.
 */
export function countPaths(metrics: Metrics, { view, control, tunnels }: Paths): void {
  for (const cluster of view.clusters.values()) {
    if (cluster.name === view.self) continue
    const states = gatewaysOf(cluster).map(({ origin }) => tunnels.of(origin))
    metrics.tunnelUp.set({ cluster: cluster.name }, states.some((state) => state?.state === 'up') ? 1 : 0)
    const rtt = states.find((state) => state?.rttMs !== undefined)?.rttMs
    if (rtt !== undefined) metrics.tunnelRtt.set({ cluster: cluster.name }, rtt / 1000)
    metrics.lag.set(
      { cluster: cluster.name },
      Math.max(0, ...cluster.agents.map(({ origin }) => control.lag(origin)))
    )
  }
}
