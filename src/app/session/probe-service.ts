// Runs the prober (io/probe/probe.ts): it answers the probes of others, and probes the agents at the ends of the tunnels.
// A node reaches those of other clusters through a gateway. The results decide whether a tunnel is up (docs/decisions/0039).
import { hasMovedFrom } from '../../core/host/hand-over.ts'
import { fastProbed } from '../../core/host/fast-probes.ts'
import { tunnelAgents } from '../../core/host/nodes.ts'
import type { ClusterName, Ip, Origin, PeerAddress } from '../../core/model/values.ts'
import { startProber, type ProbeResult, type ProbeTarget, type Prober } from '../../io/probe/probe.ts'
import type { AgentView } from '../../core/view/view.ts'
import type { Reconciler } from '../host/reconciler.ts'
import type { TunnelMtu } from '../host/tunnel-mtu.ts'
import { roleOf } from '../settings/role.ts'
import type { Settings } from '../settings/settings.ts'
import type { LocalFacts } from './local-facts.ts'
import type { OwnFacts } from './own-facts.ts'
import { answersProbes } from './tunnels.ts'
import type { Served, Service } from './services.ts'

// Five seconds without an answer take a tunnel down, so a lost probe or two do not matter.
const PROBE_INTERVAL_MS = 1000

/** The address of the prober, and the callbacks for its results. */
interface ProbeServiceOptions {
  readonly settings: Settings
  readonly origin: Origin
  /**
   * Has the address to listen on; undefined: there is none, and the prober does not run. It takes the addresses at which
   * gateways of other clusters see this host.
   */
  readonly facts: { readonly current: Pick<LocalFacts, 'nodeAddress'> } & Pick<OwnFacts, 'told'>
  /** The MTU of the tunnel device, which is the size of the largest probe. */
  readonly mtu: Pick<TunnelMtu, 'bytes'>
  /** Has the kernel of this host; undefined: no data plane. */
  readonly reconciler: Pick<Reconciler, 'have'> | undefined
  /**
   * Called when an agent answers again or for the first time, when one falls silent whose cluster has another gateway, and
   * when the MTU of a path was measured.
   */
  readonly onChange: () => void
  /** Called after the start: the caller has to call `update`, because the prober has no targets yet. */
  readonly onStarted: () => void
  /** Where WireGuard sees an agent now, which that agent is told; undefined: not known. */
  readonly seen: (origin: Origin) => PeerAddress | undefined
}

/** The service `probe`: the prober with the agents at the ends of the tunnels as its targets. */
export class ProbeService implements Service {
  readonly name = 'probe'
  readonly isOnNodeAddress = true
  readonly #options: ProbeServiceOptions
  /** undefined: the prober does not run. */
  #prober: Prober | undefined
  /** The gateways that hand over, by their tunnel addresses. Usually there is none. */
  #handing: ReadonlyMap<Ip, AgentView> = new Map()
  /** The agents that are probed, by their tunnel addresses, with the cluster of each that is of another one. */
  #probed: ReadonlyMap<Ip, { readonly origin: Origin; readonly cluster: ClusterName | undefined }> = new Map()

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
    const { settings, facts, onChange, onStarted } = this.#options
    const address = facts.current.nodeAddress
    if (settings['probe-port'] === 0 || address === undefined) return
    this.#prober = await startProber({
      address,
      port: settings['probe-port'],
      intervalMs: PROBE_INTERVAL_MS,
      onReply: onChange,
      onSilent: onChange,
      hasMoved: (target) => this.#hasMoved(target),
      seen: (target) => this.#seen(target),
      onTold: (from, told) => {
        const { cluster } = this.#probed.get(from) ?? {}
        if (cluster !== undefined) facts.told(cluster, told)
      }
    })
    onStarted()
  }

  /** Probes the agents of this view from now on. */
  update({ view }: Served): void {
    const { origin, settings, mtu } = this.#options
    const agents = tunnelAgents(view, origin, roleOf(settings))
    this.#handing = new Map(
      agents.flatMap((each) =>
        each.agent.handOver === undefined || each.agent.tunnelAddress === undefined
          ? []
          : [[each.agent.tunnelAddress, each]]
      )
    )
    const clusters = new Map(
      [...view.clusters.values()]
        .filter(({ name }) => name !== view.self)
        .flatMap((cluster) => cluster.agents.map(({ origin }) => [origin, cluster.name] as const))
    )
    this.#probed = new Map(
      agents.flatMap(({ origin, agent }) =>
        agent.tunnelAddress === undefined
          ? []
          : [[agent.tunnelAddress, { origin, cluster: clusters.get(origin) }]]
      )
    )
    this.#prober?.setTargets(probeTargets(agents, fastProbed(view, origin)), mtu.bytes)
  }

  /** Whether the latest probe from this address, if it came after `sinceMs`, says that its host has moved. */
  saysMoved(address: Ip, sinceMs: number): boolean {
    return this.#prober?.saysMoved(address, sinceMs) === true
  }

  /** Whether this host has moved from the gateway at this address, which hands over. */
  #hasMoved(address: Ip): boolean {
    const { reconciler } = this.#options
    const gateway = this.#handing.get(address)
    return gateway !== undefined && reconciler !== undefined && hasMovedFrom(gateway, reconciler.have)
  }

  #seen(target: Ip): PeerAddress | undefined {
    const { origin, cluster } = this.#probed.get(target) ?? {}
    return origin === undefined || cluster === undefined ? undefined : this.#options.seen(origin)
  }

  async stop(): Promise<void> {
    const prober = this.#prober
    this.#prober = undefined
    await prober?.stop()
  }
}

/** Returns the agents to probe: those at the end of a tunnel that answer probes. */
function probeTargets(agents: readonly AgentView[], fast: ReadonlySet<Origin>): readonly ProbeTarget[] {
  return agents.flatMap(({ origin, agent }) =>
    agent.tunnelAddress === undefined || !answersProbes(agent)
      ? []
      : [{ address: agent.tunnelAddress, port: agent.probePort, isFast: fast.has(origin) }]
  )
}
