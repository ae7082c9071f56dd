// The prober: it answers the probes of other clusters, and probes their agents through the tunnels.
import type { Ip } from '../../core/model/values.ts'
import { startProber, type ProbeResult, type ProbeTarget, type Prober } from '../../io/probe/probe.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { TunnelMtu } from '../host/tunnel-mtu.ts'
import type { Settings } from '../settings/settings.ts'
import { answersProbes } from './tunnels.ts'
import type { Served, Service } from './services.ts'

const PROBE_INTERVAL_MS = 1000

export interface ProbeServiceOptions {
  readonly settings: Settings
  readonly nodeAddress: () => Ip | undefined
  readonly mtu: Pick<TunnelMtu, 'bytes'>
  /** A probe is answered again. */
  readonly onReply: () => void
  /** The next update is due: it does not know yet whom to probe. */
  readonly onStarted: () => void
}

export class ProbeService implements Service {
  readonly name = 'probe'
  readonly isOnNodeAddress = true
  readonly #options: ProbeServiceOptions
  /** undefined: it does not run. */
  #prober: Prober | undefined

  constructor(options: ProbeServiceOptions) {
    this.#options = options
  }

  /** undefined: this agent probes nothing. */
  get results(): ((address: Ip) => ProbeResult | undefined) | undefined {
    const prober = this.#prober
    return prober && ((address) => prober.result(address))
  }

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

  update({ view }: Served): void {
    this.#prober?.setTargets(probeTargets(view), this.#options.mtu.bytes)
  }

  async stop(): Promise<void> {
    const prober = this.#prober
    this.#prober = undefined
    await prober?.stop()
  }
}

/** The agents behind tunnels, which are those of other clusters, that answer probes. */
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
