// Runs the prober (io/probe/probe.ts): it answers the probes of other clusters, and probes their agents through the
// tunnels. The results decide whether a tunnel is up (docs/decisions/0039).
import type { Ip } from '../../core/model/values.ts'
import { startProber, type ProbeResult, type ProbeTarget, type Prober } from '../../io/probe/probe.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { TunnelMtu } from '../host/tunnel-mtu.ts'
import type { Settings } from '../settings/settings.ts'
import { answersProbes } from './tunnels.ts'
import type { Served, Service } from './services.ts'

// Five seconds without an answer take a tunnel down, so a lost probe or two do not matter.
const PROBE_INTERVAL_MS = 1000

/** The address of the prober, and the callbacks for its results. */
interface ProbeServiceOptions {
  readonly settings: Settings
  /** Returns the address to listen on; undefined: there is none, and the prober does not run. */
  readonly nodeAddress: () => Ip | undefined
  /** The MTU of the tunnel device, which is the size of the largest probe. */
  readonly mtu: Pick<TunnelMtu, 'bytes'>
  /** Called when an agent answers again or for the first time, and when the MTU of its path was measured. */
  readonly onReply: () => void
  /** Called after the start: the caller has to call `update`, because the prober has no targets yet. */
  readonly onStarted: () => void
}

/** The service `probe`: the prober with the agents of other clusters as its targets. */
export class ProbeService implements Service {
  readonly name = 'probe'
  readonly isOnNodeAddress = true
  readonly #options: ProbeServiceOptions
  /** undefined: the prober does not run. */
  #prober: Prober | undefined

  constructor(options: ProbeServiceOptions) {
    this.#options = options
  }

  /** Returns the latest result by tunnel address; undefined: this agent probes nothing. */
  get results(): ((address: Ip) => ProbeResult | undefined) | undefined {
    const prober = this.#prober
    return prober && ((address) => prober.result(address))
  }

  /** Starts the prober, unless probe-port is 0. Errors: ProbeError PROBE_LISTEN. */
  async start(): Promise<void> {
    const { settings, nodeAddress, onReply, onStarted } = this.#options
    const address = nodeAddress()
    if (settings['probe-port'] === 0 || address === undefined) return
    this.#prober = await startProber({
      address,
      port: settings['probe-port'],
      intervalMs: PROBE_INTERVAL_MS,
      onReply
    })
    onStarted()
  }

  /** Probes the agents of this view from now on. */
  update({ view }: Served): void {
    this.#prober?.setTargets(probeTargets(view), this.#options.mtu.bytes)
  }

  async stop(): Promise<void> {
    const prober = this.#prober
    this.#prober = undefined
    await prober?.stop()
  }
}

/**
 * Returns the agents to probe: those of other clusters that answer probes. Between gateways of one cluster there is
 * no tunnel.
 */
function probeTargets(view: MeshView): readonly ProbeTarget[] {
  return [...view.clusters.values()]
    .filter(({ name }) => name !== view.self)
    .flatMap(({ agents }) =>
      agents.flatMap(({ agent }) =>
        agent.tunnelAddress === undefined || !answersProbes(agent)
          ? []
          : [{ address: agent.tunnelAddress, port: agent.probePort }]
      )
    )
}
