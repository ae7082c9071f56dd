// The host as this agent programs it: what is read of it, what it should be, and the reconciler that brings it there.
import type { HostOp, HostPart } from '../../core/host/host-state.ts'
import { NO_SURROUNDINGS, type Surroundings } from '../../core/host/surroundings.ts'
import { BalancerRivals } from './balancer-rivals.ts'
import { HostNetworks } from './host-networks.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { Reconciler } from './reconciler.ts'
import { DesiredHost, type DesiredHostOptions } from './desired-host.ts'
import { watchHost } from './host-watch.ts'
import { TunnelMtu } from './tunnel-mtu.ts'

export interface ProgrammedHostOptions extends Omit<DesiredHostOptions, 'mtu' | 'surroundings'> {
  readonly log: Log
  readonly metrics: Metrics
  /** Multiaddrs of control connections that are open or dialled: these stay outside the tunnel. */
  readonly controlAddresses: () => Iterable<string>
  /** The kernel changed something of the host: `routes` may be new addresses, too. */
  readonly onHint: (parts: readonly HostPart[]) => void
  /** Ends the watch of the kernel. */
  readonly stopping: AbortSignal
}

export class ProgrammedHost {
  readonly networks: HostNetworks
  readonly mtu: TunnelMtu
  /** undefined: no data plane on this machine. */
  readonly reconciler: Reconciler | undefined
  readonly #options: ProgrammedHostOptions
  readonly #desired: DesiredHost
  readonly #rivals: BalancerRivals

  constructor(options: ProgrammedHostOptions) {
    const { host, settings, log, metrics, health } = options
    this.#options = options
    this.mtu = new TunnelMtu(host, settings.mtu)
    this.networks = new HostNetworks({ host, settings, health, controls: options.controlAddresses })
    this.#rivals = new BalancerRivals({ host, health })
    const surroundings = () => this.networks.value
    this.#desired = new DesiredHost({ ...options, mtu: this.mtu, surroundings })
    const drainMs = settings['drain-seconds'] * 1000
    this.reconciler =
      host && new Reconciler({ host, wish: () => this.#desired.current(), drainMs, log, metrics, health })
  }

  /** Reads what the first pass needs. To be called before the first `mark`. */
  async read(): Promise<void> {
    await this.mtu.follow()
    await this.networks.refresh()
    await this.#desired.findEndpoints(this.#options.stopping)
  }

  /** Follows the kernel. */
  watch(): void {
    const { host, health, stopping } = this.#options
    if (host) watchHost({ host, health, onHint: (parts) => this.#changed(parts), signal: stopping })
  }

  /** What the host should be may have changed. */
  mark(): void {
    this.reconciler?.mark()
  }

  /** The path of another uplink may be narrower. */
  async followMtu(): Promise<void> {
    if ((await this.mtu.follow()) && !this.#options.stopping.aborted) this.mark()
  }

  /** Once a second: whether another load balancer has come to this host. */
  lookForRivals(signal: AbortSignal): Promise<void> {
    return this.#rivals.look(signal)
  }

  /** Without a data plane: all operations that would be applied to an empty host. */
  paperPlan(): readonly HostOp[] {
    return this.#desired.paperPlan()
  }

  /** What this host reaches without the mesh, read now. */
  async surroundings(): Promise<Surroundings> {
    await this.networks.refresh()
    return this.networks.value ?? NO_SURROUNDINGS
  }

  /** The kernel's state stays. */
  async stop(): Promise<void> {
    this.networks.stop()
    await this.reconciler?.stop()
  }

  /** A hint of the kernel. What the host reaches by itself is read before the pass that may need it. */
  async #changed(parts: readonly HostPart[]): Promise<void> {
    this.reconciler?.mark({ observe: parts })
    this.#options.onHint(parts)
    if (!parts.includes('routes')) return
    void this.followMtu()
    if (await this.networks.refresh()) this.mark()
  }
}
