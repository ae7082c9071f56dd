// Reports what the watch over the tunnels has found as faults in the registry of health. path-watch.ts calls it once a
// second; path-counts.ts makes metrics of it.
import type { ClusterName } from '../../core/model/values.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { Control } from '../control/control.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Health } from '../observe/health.ts'
import { STEP_FAILED, TUNNEL_DEVICE } from '../host/host-faults.ts'
import type { TunnelPaths } from '../paths/tunnel-paths.ts'
import type { OfNode } from './node-faults.ts'
import { PATH_FAULT_CODES, pathFaults } from './path-faults.ts'
import type { Tunnels } from './tunnels.ts'

// Milliseconds. A neighbour pings once a second, so this is shorter than the time until a tunnel counts as down.
const SILENT_MS = 4000

/** The facts from which the faults are made. */
interface PathFaultInput {
  readonly view: MeshView
  readonly control: Control
  readonly tunnels: Tunnels
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
    isOffline: health.faults().some(({ code }) => code === 'NO_ADDRESS'),
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
