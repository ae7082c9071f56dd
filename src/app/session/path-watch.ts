// The watch over the paths to other clusters: once a second, and when a probe is answered again, the state of each tunnel is judged, and
// what follows from it is marked. `withdrawn` is the one signal that names, routes and backends follow.
import type { ClusterName, Ip } from '../../core/model/values.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { ProbeResult } from '../../io/probe/probe.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Control } from '../control/control.ts'
import type { Health } from '../observe/health.ts'
import type { TunnelMtu } from '../host/tunnel-mtu.ts'
import type { HostNetworks } from '../host/host-networks.ts'
import { Loop } from '../observe/loop.ts'
import type { Metrics } from '../observe/metrics.ts'
import { Obstacles } from '../host/obstacles.ts'
import type { Settings } from '../settings/settings.ts'
import { Tunnels } from './tunnels.ts'
import { gatewayChoice } from './gateway-choice.ts'
import { clearPathFaults, countPaths, tellPathFaults } from './tell-paths.ts'

// Tunnel states are a matter of seconds (src/core/host/tunnel-state.ts).
const WATCH_INTERVAL_MS = 1000
// A look reads WireGuard's counters with a tool of its own; replies of 1,000 members in a second share ten looks.
const WATCH_GAP_MS = 100
const STATS_DEADLINE_MS = 5000

export interface PathWatchOptions {
  readonly host: LinuxHost | undefined
  readonly settings: Settings
  readonly metrics: Metrics
  readonly health: Health
  readonly control: Control
  readonly networks: HostNetworks
  readonly mtu: Pick<TunnelMtu, 'bytes'>
  /** A member has accepted this agent. */
  readonly isAdmitted: () => boolean
  readonly nodeAddress: () => Ip | undefined
  /** undefined: this agent probes nothing. */
  readonly probe: () => ((address: Ip) => ProbeResult | undefined) | undefined
  /** What else is due with each look, before the tunnels are judged. */
  readonly beforeLook: (signal: AbortSignal) => Promise<void>
  readonly onGateways: () => void
  readonly onWithdrawn: () => void
}

export class PathWatch {
  readonly tunnels: Tunnels
  readonly #options: PathWatchOptions
  readonly #obstacles: Obstacles
  readonly #loop: Loop
  #withdrawn: ReadonlySet<ClusterName> = new Set()
  #gatewayChoice = ''

  constructor(options: PathWatchOptions) {
    const { host, settings, health } = options
    this.#options = options
    this.tunnels = new Tunnels(settings['keepalive-seconds'])
    this.#obstacles = new Obstacles({
      host,
      health,
      device: settings.device,
      probePort: settings['probe-port']
    })
    this.#loop = new Loop({
      act: (signal) => this.#look(signal),
      intervalMs: WATCH_INTERVAL_MS,
      gapMs: WATCH_GAP_MS,
      onError: (error) =>
        health.setError('WATCH_FAILED', error, {
          severity: 'error',
          fix: 'tunnel states are not followed; restart the agent and report this'
        })
    })
  }

  /** Clusters that cannot be reached now. The set is another object once it has changed. */
  get withdrawn(): ReadonlySet<ClusterName> {
    return this.#withdrawn
  }

  start(): void {
    this.#loop.start()
  }

  /** A probe is answered again. */
  mark(): void {
    this.#loop.mark()
  }

  /** The kernel changed something of the host. */
  hint(): void {
    this.#obstacles.hint()
  }

  async stop(): Promise<void> {
    await this.#loop.stop()
    clearPathFaults(this.#options.health)
    this.#obstacles.stop()
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { host, metrics, health, control, networks, probe, beforeLook, isAdmitted } = this.#options
    const { tunnels } = this
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(STATS_DEADLINE_MS)])
    const stats = (await host?.peerStats(deadline).catch(() => undefined)) ?? []
    if (signal.aborted) return
    await beforeLook(signal)
    const view = control.view()
    tunnels.update({ view, stats, nowMs: monotonicMs(), probe: probe() })
    countPaths(metrics, { view, control, tunnels })
    networks.judge(view)
    this.#chooseGateways(view)
    health.clear('WATCH_FAILED')
    // Without a data plane nothing is known of tunnels.
    const down = host === undefined ? new Set<ClusterName>() : tunnels.down
    if (isAdmitted()) this.#tell(view, down, signal)
    if (down.symmetricDifference(this.#withdrawn).size === 0) return
    this.#withdrawn = down
    this.#options.onWithdrawn()
  }

  #chooseGateways(view: MeshView): void {
    const choice = gatewayChoice(view, {
      health: (origin) => this.tunnels.health(origin),
      pathMtu: (origin) => this.tunnels.pathMtu(origin)
    })
    if (choice === this.#gatewayChoice) return
    this.#gatewayChoice = choice
    this.#options.onGateways()
  }

  #tell(view: MeshView, down: ReadonlySet<ClusterName>, signal: AbortSignal): void {
    const { health, settings, host, control, networks, mtu, nodeAddress } = this.#options
    tellPathFaults({
      health,
      view,
      control,
      tunnels: this.tunnels,
      down,
      hasHost: host !== undefined,
      device: settings.device,
      mtu: mtu.bytes
    })
    const surroundings = networks.value
    if (surroundings === undefined) return
    void this.#obstacles.look({ view, down, surroundings, nodeAddress: nodeAddress() }, signal)
  }
}
