// The host of one session, with all its parts: what is read of the host (MTU, surroundings, other programs), what it
// should be, and the reconciler that changes it.
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

/** The options of the parts. */
interface ProgrammedHostOptions extends Omit<DesiredHostOptions, 'mtu' | 'surroundings'> {
  readonly log: Log
  readonly metrics: Metrics
  /** Returns the multiaddrs of control connections that are open or dialled: these stay outside the tunnel. */
  readonly controlAddresses: () => Iterable<string>
  /** Called when the kernel has changed something of the host. The part `routes` includes addresses of the host. */
  readonly onHint: (parts: readonly HostPart[]) => void
  /** Ends the watch of the kernel, and the reading of endpoints at the start. */
  readonly stopping: AbortSignal
}

/** Composes the parts. Without a data plane it plans only. */
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
      host && new Reconciler({ host, desired: () => this.#desired.current(), drainMs, log, metrics, health })
  }

  /**
   * Reads what the first pass needs. Must be called before the first `mark`: without the surroundings, nothing is
   * planned.
   */
  async read(): Promise<void> {
    await this.mtu.follow()
    await this.networks.refresh()
    await this.#desired.findEndpoints(this.#options.stopping)
  }

  /** Starts to follow the hints of the kernel. Called last, when all that a hint affects has started. */
  watch(): void {
    const { host, health, stopping } = this.#options
    if (host) watchHost({ host, health, onHint: (parts) => this.#changed(parts), signal: stopping })
  }

  /** Asks for a pass, because the desired state may have changed. */
  mark(): void {
    this.reconciler?.mark()
  }

  /**
   * Reads the MTU of the uplink, and asks for a pass when it has changed. Called when the addresses or routes of the
   * host change: another uplink may carry smaller packets.
   */
  async followMtu(): Promise<void> {
    if ((await this.mtu.follow()) && !this.#options.stopping.aborted) this.mark()
  }

  /** Looks for other programs that manage IPVS. Called once a second. */
  lookForRivals(signal: AbortSignal): Promise<void> {
    return this.#rivals.look(signal)
  }

  /** Returns all operations that would be applied to an empty host, for `meshctl plan` without a data plane. */
  paperPlan(): readonly HostOp[] {
    return this.#desired.paperPlan()
  }

  /** Reads what this host reaches without the mesh and returns it, for a new invite. */
  async surroundings(): Promise<Surroundings> {
    await this.networks.refresh()
    return this.networks.value ?? NO_SURROUNDINGS
  }

  /** Stops the reconciler. The kernel's state stays, so traffic flows on. */
  async stop(): Promise<void> {
    this.networks.stop()
    await this.reconciler?.stop()
  }

  /**
   * Handles a hint of the kernel. The surroundings are read before another pass is asked for, since the pass may
   * depend on them.
   */
  async #changed(parts: readonly HostPart[]): Promise<void> {
    this.reconciler?.mark({ observe: parts })
    this.#options.onHint(parts)
    if (!parts.includes('routes')) return
    void this.followMtu()
    if (await this.networks.refresh()) this.mark()
  }
}
