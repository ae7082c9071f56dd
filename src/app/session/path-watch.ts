// The watch over the paths to other clusters. Once a second, and when a gateway falls silent or answers again, it judges
// the state of each tunnel and reports what follows: metrics, faults, the choice of gateways, and the set of withdrawn
// clusters, which names, routes and backends follow.
import { setTimeout as delay } from 'node:timers/promises'
import type { ClusterName, Ip } from '../../core/model/values.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { ProbeResult } from '../../io/probe/probe.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Control } from '../control/control.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { TunnelMtu } from '../host/tunnel-mtu.ts'
import type { HostNetworks } from '../host/host-networks.ts'
import { Loop } from '../../io/timing/loop.ts'
import type { Metrics } from '../observe/metrics.ts'
import { DroppedPackets } from '../host/dropped-packets.ts'
import { Obstacles } from '../host/obstacles.ts'
import { relays, roleOf } from '../settings/role.ts'
import type { Settings } from '../settings/settings.ts'
import { agentIn } from './members.ts'
import { Tunnels } from './tunnels.ts'
import { gatewayChoice } from './gateway-choice.ts'
import { TunnelPaths } from '../paths/tunnel-paths.ts'
import { NodePaths } from './node-paths.ts'
import { pathPeers, relaysOf } from './path-peers.ts'
import { PathCounts } from './path-counts.ts'
import { clearPathFaults, tellPathFaults } from './tell-paths.ts'

// A tunnel that is probed is down after 5 s without an answer (core/host/tunnel-state.ts), so a tick each second is
// often enough.
const WATCH_INTERVAL_MS = 1000
// Least milliseconds between two ticks. A tick runs a tool that reads WireGuard's counters. With this gap, the replies
// of 1,000 members in one second cause at most ten ticks.
const WATCH_GAP_MS = 100
// An operator waits for it. The reading takes 0.3 s on an idle host.
const EXAMINE_MS_MAX = 3000
// Deadline of the tool in milliseconds. When it takes longer, the tick goes on without counters.
const STATS_DEADLINE_MS = 5000

/** The sources of the watch, and the callbacks for what follows from its results. */
interface PathWatchOptions {
  /** undefined: no data plane on this machine. */
  readonly host: LinuxHost | undefined
  readonly settings: Settings
  readonly metrics: Metrics
  readonly health: Health
  readonly control: Control
  readonly log: Log
  readonly networks: HostNetworks
  /** The MTU of the tunnel device. */
  readonly mtu: Pick<TunnelMtu, 'bytes'>
  /** Returns false until a member has accepted this agent: no faults are set before. */
  readonly isAdmitted: () => boolean
  readonly nodeAddress: () => Ip | undefined
  /** Returns the results of the probes by tunnel address; undefined: this agent probes nothing. */
  readonly probe: () => ((address: Ip) => ProbeResult | undefined) | undefined
  /** Other work that is due once a second. A tick waits for it before it judges the tunnels. */
  readonly beforeTick: (signal: AbortSignal) => Promise<void>
  /** Called when another gateway may be the better choice for a prefix, and when a tunnel gets another path. */
  readonly onGateways: () => void
  /** Called when the set `withdrawn` has changed, or the control connections that are wanted (TunnelPaths.wanted). */
  readonly onChange: () => void
}

/** The watch of one session. */
export class PathWatch {
  readonly tunnels: Tunnels
  /** Which gateway carries which cluster, where this agent is a node. */
  readonly node: NodePaths
  /** By which path each tunnel goes. */
  readonly ways: TunnelPaths
  readonly #options: PathWatchOptions
  readonly #obstacles: Obstacles
  readonly #dropped: DroppedPackets
  readonly #counts: PathCounts
  readonly #loop: Loop
  readonly #stopping = new AbortController()
  #withdrawn: ReadonlySet<ClusterName> = new Set()
  #gatewayChoice = ''

  constructor(options: PathWatchOptions) {
    const { host, settings, health } = options
    this.#options = options
    this.#dropped = new DroppedPackets(options)
    this.#counts = new PathCounts(options.metrics)
    this.tunnels = new Tunnels(settings['keepalive-seconds'])
    this.node = new NodePaths({
      origin: options.control.origin,
      role: roleOf(settings),
      state: (origin) => this.tunnels.choice(origin)
    })
    this.ways = new TunnelPaths({
      ...options,
      wireguardPort: settings['wireguard-port'],
      rate: host === undefined ? 0 : settings['tcp-path-rate'],
      relayRate: relays(settings) ? settings['relay-rate'] : 0,
      keepaliveSeconds: settings['keepalive-seconds'],
      onAddress: options.onGateways,
      onWanted: options.onChange
    })
    this.#obstacles = new Obstacles({
      host,
      health,
      device: settings.device,
      probePort: settings['probe-port'],
      outerPorts: outerPorts(settings)
    })
    this.#loop = new Loop({
      act: (signal) => this.#tick(signal),
      intervalMs: WATCH_INTERVAL_MS,
      gapMs: WATCH_GAP_MS,
      onError: (error) =>
        health.setError('WATCH_FAILED', error, {
          severity: 'error',
          fix: 'restart meshd and report this fault: until then, the states of the tunnels are not updated'
        })
    })
  }

  /**
   * Clusters that cannot be reached now, because all their tunnels are down. It is another object after each change,
   * so that it can be compared by identity.
   */
  get withdrawn(): ReadonlySet<ClusterName> {
    return this.#withdrawn
  }

  /** Packets beside the tunnel that the filter has dropped since the start, by reason. */
  get dropped(): DroppedPackets['totals'] {
    return this.#dropped.totals
  }

  start(): void {
    this.#loop.start()
  }

  /** Asks for a tick at once. Called when a gateway answers again, or falls silent while its cluster has another one. */
  mark(): void {
    this.#loop.mark()
  }

  /** Called when the kernel has changed something, perhaps a firewall rule: the obstacles are read again soon. */
  hint(): void {
    this.#obstacles.hint()
  }

  /**
   * Reads the rules of other programs now, for an examination by hand: a rule that came a moment ago is among the faults
   * afterwards. It never rejects. On a host that is too busy it resolves after EXAMINE_MS_MAX, and the reading goes on.
   */
  async examine(): Promise<void> {
    const { control, networks, nodeAddress, isAdmitted } = this.#options
    const surroundings = networks.value
    if (surroundings === undefined || !isAdmitted()) return
    const { isAnyCarried } = this.ways
    const facts = {
      view: control.view(),
      down: this.#withdrawn,
      isAnyCarried,
      surroundings,
      nodeAddress: nodeAddress()
    }
    const ended = new AbortController()
    await Promise.race([
      this.#obstacles.look(facts, this.#stopping.signal),
      delay(EXAMINE_MS_MAX, undefined, { signal: ended.signal }).catch(() => undefined)
    ])
    ended.abort()
  }

  /** Ends the watch and clears its faults. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#loop.stop()
    clearPathFaults(this.#options.health)
    this.ways.stop()
    this.#counts.stop()
    this.#obstacles.stop()
    this.#dropped.stop()
  }

  /**
   * Reads the counters of WireGuard, judges the tunnels and reports the changes. An error is the fault WATCH_FAILED
   * until the next tick succeeds.
   */
  async #tick(signal: AbortSignal): Promise<void> {
    const { host, settings, health, control, networks, probe, beforeTick, isAdmitted } = this.#options
    const { tunnels } = this
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(STATS_DEADLINE_MS)])
    const stats = (await host?.peerStats(deadline).catch(() => undefined)) ?? []
    if (signal.aborted) return
    await beforeTick(signal)
    const view = control.view()
    const nowMs = monotonicMs()
    const self = { origin: control.origin, role: roleOf(settings) }
    const carriers = this.node.carriers(view)
    const carrier = (name: ClusterName) => carriers?.get(name)?.agent.wireguardKey
    tunnels.update({ view, stats, self, carrier, nowMs, probe: probe() })
    const peers = pathPeers(view, { ...self, isCarried: (name) => carriers?.has(name) === true })
    this.ways.update({
      nowMs,
      peers,
      relays: relaysOf(view),
      stats,
      own: agentIn(view, control.origin)?.wireguardAddresses ?? [],
      answers: (origin) => tunnels.answers(origin)
    })
    this.node.tick(view, nowMs)
    this.#counts.tell({ view, control, tunnels, ways: this.ways })
    networks.judge(view)
    this.#chooseGateways(view)
    health.clear('WATCH_FAILED')
    // Without a data plane nothing is known of tunnels, so no cluster is withdrawn.
    const down = host === undefined ? new Set<ClusterName>() : tunnels.down
    if (isAdmitted()) this.#tell(view, down, signal)
    if (down.symmetricDifference(this.#withdrawn).size === 0) return
    this.#withdrawn = down
    this.#options.onChange()
  }

  /** Reports when the facts on which the choice of gateways depends have changed. */
  #chooseGateways(view: MeshView): void {
    const carriers = this.node.carriers(view)
    const choice = gatewayChoice(view, {
      health: (origin) => this.tunnels.choice(origin),
      pathMtu: (origin) => this.tunnels.pathMtu(origin),
      ...(carriers === undefined ? {} : { carriers })
    })
    if (choice === this.#gatewayChoice) return
    this.#gatewayChoice = choice
    this.#options.onGateways()
  }

  /**
   * Sets the faults of the paths. It does not wait for the readings of obstacles and of dropped packets, which start
   * several tools.
   */
  #tell(view: MeshView, down: ReadonlySet<ClusterName>, signal: AbortSignal): void {
    const { health, settings, host, control, networks, mtu, nodeAddress } = this.#options
    tellPathFaults({
      health,
      view,
      control,
      tunnels: this.tunnels,
      down,
      hasHost: host !== undefined,
      node: this.node.facts(view),
      ways: this.ways,
      device: settings.device,
      mtu: mtu.bytes
    })
    void this.#dropped.look(signal)
    const surroundings = networks.value
    if (surroundings === undefined) return
    const { isAnyCarried } = this.ways
    const facts = { view, down, isAnyCarried, surroundings, nodeAddress: nodeAddress() }
    void this.#obstacles.lookWhenDue(facts, signal)
  }
}

/** The ports at which other members reach this host: that of WireGuard, and those of control connections. */
function outerPorts(
  settings: Settings
): readonly { readonly protocol: 'tcp' | 'udp'; readonly port: number }[] {
  const control = settings.listen.flatMap(
    (multiaddr) => /\/tcp\/(\d{1,5})(?:\/|$)/.exec(multiaddr)?.[1] ?? []
  )
  return [
    { protocol: 'udp', port: settings['wireguard-port'] },
    ...new Set(control.map(Number)).values().map((port) => ({ protocol: 'tcp' as const, port }))
  ]
}
