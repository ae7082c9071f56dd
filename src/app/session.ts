// One membership, live: the control plane, and what is made of its view: the host, the names, the probes.
//
//   source → publish → control → view ─┬→ names → DNS
//                                      ├→ probe targets → tunnel states ─┐
//                                      └→ desired ←──────────────────────┘→ reconciler → host
import { setMaxListeners } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { Balancer } from '../core/balance.ts'
import { HANDSHAKE_AGE_MS_MAX } from '../core/liveness.ts'
import { desiredWithin, type ClusterHealth, type DesiredInput, type HostSettings } from '../core/desired.ts'
import type { Change } from '../core/catalog.ts'
import { cidrContains } from '../core/cidr.ts'
import type { Crypto } from '../core/crypto.ts'
import type { HostOp, HostPart } from '../core/host.ts'
import { refusalText, type LimitRefusal } from '../core/host-limits.ts'
import { EMPTY_HOST } from '../core/host-order.ts'
import { clustersOfOps } from '../core/op-clusters.ts'
import { plan } from '../core/plan.ts'
import { createNames, type Names } from '../core/dns/names.ts'
import type {
  Cidr,
  ClusterName,
  Ip,
  Origin,
  PeerAddress,
  Snapshot,
  Value,
  WireguardKey
} from '../core/model.ts'
import { originOf } from '../core/origin.ts'
import { issueAgentCertificate } from '../core/trust/issue.ts'
import { chooseNeighbours } from '../core/overlay.ts'
import type { AgentView, MeshView } from '../core/view.ts'
import {
  hostOfMultiaddr,
  NO_SURROUNDINGS,
  outerAddresses,
  type OuterAddress,
  type Surroundings
} from '../core/surroundings.ts'
import { lookup, type LookupAnswer } from '../io/dns/lookup.ts'
import { createDnsProcess, endDnsProcess, type DnsProcess } from '../io/dns/process/client.ts'
import type { ServerSettings } from '../io/dns/process/protocol.ts'
import { createFeedServer, type FeedServer } from '../io/feed/server.ts'
import type { LinuxHost } from '../io/host/host.ts'
import type { Leadership } from '../io/kube/lease.ts'
import { startBeacon, type Beacon } from '../io/p2p/beacon.ts'
import { startProber, type Prober } from '../io/probe/probe.ts'
import type { Store } from '../io/store/store.ts'
import { monotonicMs } from './clock.ts'
import { Control, type HandshakeOutcome } from './control.ts'
import { countDnsQueries, dnsClients, dnsControlPath, replaceDnsProblems } from './dns-clients.ts'
import { agentValueOf, dnsAddresses, dnsUpstreams, feedAddress, type LocalFacts } from './local-facts.ts'
import type { Health } from './health.ts'
import { setLeftOut } from './left-out.ts'
import { BalancerRivals } from './balancer-rivals.ts'
import { HostNetworks } from './host-networks.ts'
import type { Log } from './log.ts'
import { Loop } from './loop.ts'
import type { Metrics } from './metrics.ts'
import { Obstacles } from './obstacles.ts'
import { OwnFacts, type FactsChange } from './own-facts.ts'
import { partFault, samePartFault, type PartFault } from './part-fault.ts'
import { STEP_FAILED, TUNNEL_DEVICE } from './host-faults.ts'
import { PATH_FAULT_CODES, pathFaults } from './path-faults.ts'
import { Publisher } from './publisher.ts'
import { Reconciler, type Wish } from './reconciler.ts'
import type { Settings } from './settings.ts'
import { sourceKind } from './source.ts'
import { standsBy, termFloor } from './speaker.ts'
import { answersProbes, Tunnels } from './tunnels.ts'

// Tunnel states are a matter of seconds (src/core/liveness.ts).
const WATCH_INTERVAL_MS = 1000
// A look reads WireGuard's counters with a tool of its own; replies of 1,000 members in a second share ten looks.
const WATCH_GAP_MS = 100
// One choice of the overlay is another member each time.
const OVERLAY_ROUND_MS = 300_000
const WITHDRAW_DEADLINE_MS = 3000
const PROBE_INTERVAL_MS = 1000
// At a seventh of a certificate's life.
const RENEW_INTERVAL_MS = 86_400_000

type PartName = 'dns' | 'probe' | 'feed'

export interface Membership {
  readonly meshId: Uint8Array
  readonly cluster: ClusterName
  readonly clusterSeed: Uint8Array
  /** Encoded Chain down to the CLUSTER certificate. */
  readonly clusterChain: Uint8Array
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
  readonly bootstrap: readonly string[]
}

export interface SessionOptions {
  readonly membership: Membership
  /** False for a newcomer: the host is left alone until `admit()`. */
  readonly admitted: boolean
  readonly nodeSeed: Uint8Array
  readonly wireguardKey: WireguardKey
  readonly crypto: Crypto
  readonly store: Store
  /** undefined: no data plane on this machine; the plan is still made. */
  readonly host: LinuxHost | undefined
  readonly settings: Settings
  readonly software: string
  readonly log: Log
  readonly metrics: Metrics
  readonly health: Health
  readonly onHandshake: (outcome: HandshakeOutcome) => void
}

export class Session {
  readonly control: Control
  readonly tunnels: Tunnels
  readonly #publisher: Publisher
  readonly reconciler: Reconciler | undefined
  readonly #options: SessionOptions
  #membership: Membership
  readonly #stopping = new AbortController()
  /** Of the addresses an agent offers, the host through which it was last reached. Bounded by the members. */
  readonly #reached = new Map<Origin, string>()
  /** What the tunnel that was found at the start talks to: an agent that comes back must not move it. */
  #foundEndpoints: ReadonlyMap<string, PeerAddress> = new Map()
  /** "/ip4/203.0.113.7" from which each member's connection last came. Bounded by the members. */
  readonly #observed = new Map<Origin, string>()
  /** The address on a link of this host from which each member called last. Bounded by the members. */
  readonly #called = new Map<Origin, string>()
  #beacon: Beacon | undefined
  /** The last round trip of each member that was a neighbour once. Bounded by the members. */
  readonly #rtts = new Map<Origin, number>()
  #admitted: boolean
  readonly #faults = new Map<PartName, PartFault>()
  readonly #ownFacts: OwnFacts
  readonly #networks: HostNetworks
  readonly #rivals: BalancerRivals
  readonly #obstacles: Obstacles
  #nodePrefixes: readonly Cidr[] | undefined
  #mtu = 0
  /** Facts and MTU are known: nothing is done to the host on a guess. */
  #running = false
  readonly #balancer = new Balancer()
  #refused: readonly LimitRefusal[] = []
  #names: Names | undefined
  #serial = 1
  #namesView: MeshView | undefined
  #withdrawn: ReadonlySet<ClusterName> = new Set()
  /** What the choice among the gateways of a cluster was made of. */
  #gateways = ''
  #dns: DnsProcess | undefined
  #nodeAddresses: readonly Ip[] = []
  #feed: FeedServer | undefined
  readonly #starters: Readonly<Record<PartName, () => Promise<void>>> = {
    dns: () => this.#startDns(),
    probe: () => this.#startProbe(),
    feed: () => this.#startFeed()
  }
  #prober: Prober | undefined
  readonly #watch: Loop
  #renewal: NodeJS.Timeout | undefined
  #refreshing = false

  constructor(options: SessionOptions) {
    const { membership, settings, host, log, metrics } = options
    setMaxListeners(50, this.#stopping.signal)
    this.#options = options
    this.#membership = membership
    const origin = originOf(options.crypto.publicKeyOf(options.nodeSeed))
    this.#ownFacts = new OwnFacts({
      settings,
      prefixes: () => this.#membership,
      origin,
      listening: () => this.control.transport.listenAddresses(),
      health: options.health,
      onChange: (change) => this.#factsChanged(change)
    })
    this.#admitted = options.admitted
    this.control = new Control({
      crypto: options.crypto,
      store: options.store,
      log,
      metrics,
      nodeSeed: options.nodeSeed,
      meshId: membership.meshId,
      cluster: membership.cluster,
      chain: this.#certificate(),
      listen: settings.listen,
      software: options.software,
      onChange: () => this.#refresh(),
      onHandshake: options.onHandshake,
      onLeftOut: (leftOut) => setLeftOut(options.health, leftOut)
    })
    this.#obstacles = new Obstacles({
      host,
      health: options.health,
      device: settings.device,
      probePort: settings['probe-port']
    })
    this.#networks = new HostNetworks({
      host,
      settings,
      health: options.health,
      controls: () => this.#controlAddresses()
    })
    this.#rivals = new BalancerRivals({ host, health: options.health })
    this.#publisher = new Publisher({
      publish: (changes) => this.control.publish(changes),
      ownKeys: () => this.control.ownKeys(),
      prefixes: () => {
        const { podPrefixes, servicePrefixes } = this.#membership
        return { podPrefixes, servicePrefixes }
      },
      onFault: (error) => this.#setPublishingFault(error)
    })
    this.#watch = new Loop({
      act: (signal) => this.#look(signal),
      intervalMs: WATCH_INTERVAL_MS,
      gapMs: WATCH_GAP_MS,
      onError: (error) =>
        options.health.setError('WATCH_FAILED', error, {
          severity: 'error',
          fix: 'tunnel states are not followed; restart the agent and report this'
        })
    })
    this.tunnels = new Tunnels(settings['keepalive-seconds'])
    this.reconciler =
      host &&
      new Reconciler({
        host,
        wish: () => this.wish(),
        drainMs: settings['drain-seconds'] * 1000,
        log,
        metrics,
        health: options.health
      })
  }

  get facts(): LocalFacts {
    return this.#ownFacts.current
  }

  /** What a prefix that is to be given away must not take. */
  async around(): Promise<{ surroundings: Surroundings; outers: readonly OuterAddress[] }> {
    await this.#networks.refresh()
    const surroundings = this.#networks.value ?? NO_SURROUNDINGS
    return { surroundings, outers: outerAddresses(this.control.view()) }
  }

  /** Prefixes of the mesh that overlap what this host reaches by itself, and what that is. */
  get overlaps(): ReadonlyMap<string, string> {
    return this.#networks.overlaps
  }

  get withdrawn(): ReadonlySet<ClusterName> {
    return this.#withdrawn
  }

  get dnsAddress(): string | undefined {
    const [first] = this.#dns?.listening ?? []
    return first && hostPort(first)
  }

  /** What does not work now, by part: for `meshctl status`. */
  get faults(): ReadonlyMap<PartName, PartFault> {
    return this.#faults
  }

  /** Errors: of the transport only. DNS and probe that cannot start are faults of a running agent. */
  async start(): Promise<void> {
    const { settings, host, health } = this.#options
    await this.control.start()
    await this.#ownFacts.start()
    this.#judgeListening()
    this.#beacon = this.#startBeacon()
    this.#mtu = settings.mtu === 0 ? ((await host?.detectMtu().catch(() => undefined)) ?? 1420) : settings.mtu
    // Until Kubernetes has told, what was known before: peers would route around this node meanwhile.
    this.#nodePrefixes = this.#ownAgents().find(({ origin }) => origin === this.control.origin)?.agent
      .nodePrefixes
    await this.#publisher.put(this.#agentValue())
    await this.#networks.refresh()
    this.#foundEndpoints = await this.#liveEndpoints()
    this.#running = true
    await this.#part('dns')
    await this.#part('probe')
    await this.#part('feed')
    this.#refresh()
    this.#watch.start()
    this.#renewal = setInterval(() => this.#renewCertificate(), RENEW_INTERVAL_MS)
    void host?.watch(
      {
        onHint: (parts) => void this.#hostChanged(parts),
        onFault: (watch, error) => {
          if (error === undefined) health.clear('HOST_WATCH_FAILED', watch)
          else
            health.setError('HOST_WATCH_FAILED', error, {
              subject: watch,
              severity: 'warning',
              fix: 'nothing stops: the kernel is still read every 10 s; see why the tool fails'
            })
        }
      },
      this.#stopping.signal
    )
  }

  /** By public key: those whose handshake is young enough to prove both directions. */
  async #liveEndpoints(): Promise<ReadonlyMap<string, PeerAddress>> {
    const { host } = this.#options
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(WATCH_INTERVAL_MS * 5)])
    const stats = (await host?.peerStats(signal).catch(() => undefined)) ?? []
    const youngMs = Date.now() - HANDSHAKE_AGE_MS_MAX
    return new Map(
      stats.flatMap(({ publicKey, peerAddress, lastHandshakeMs = 0 }) =>
        peerAddress === undefined || lastHandshakeMs < youngMs ? [] : [[publicKey, peerAddress] as const]
      )
    )
  }

  /** A member has accepted us. */
  admit(): void {
    this.#admitted = true
    this.#refresh()
  }

  /** The kernel's state stays: traffic flows on, and names are answered for a while; but not when the agent `leaves` the mesh. */
  async stop({ leaves = false } = {}): Promise<void> {
    this.#stopping.abort()
    clearInterval(this.#renewal)
    this.#ownFacts.stop()
    await this.#watch.stop()
    for (const code of PATH_FAULT_CODES) this.#options.health.replace(code, [])
    this.#networks.stop()
    this.#obstacles.stop()
    await this.#publisher.idle
    await this.reconciler?.stop()
    if (leaves) await this.#dns?.end()
    else this.#dns?.detach()
    await Promise.all([this.#prober?.stop(), this.#feed?.stop()])
    await this.control.stop()
  }

  /** The cluster has a later certificate for the same key. */
  renew(membership: Membership): void {
    this.#membership = membership
    this.control.renewed(this.#certificate())
    this.#ownFacts.refresh()
    this.#publisher.speakAnew()
    this.#refresh()
  }

  #renewCertificate(): void {
    const { health } = this.#options
    try {
      this.control.renewed(this.#certificate())
      health.clear('CERTIFICATE_NOT_RENEWED')
    } catch (error) {
      health.setError('CERTIFICATE_NOT_RENEWED', error, {
        severity: 'error',
        fix: 'restart meshd within a week: the present certificate of this agent lives that long at most'
      })
    }
  }

  /** Own addresses came, went or changed: peers are told, and reached again from where this host is now. */
  #factsChanged({ facts, before, gone, moved }: FactsChange): void {
    const changed = !isSame(facts, before)
    if (changed)
      this.#options.log.info({ addresses: facts.multiaddrs, gone }, 'the addresses of this host changed')
    if (moved)
      void this.control.transport.networkChanged(gone).then(() => {
        this.#judgeListening()
        this.#ownFacts.refresh()
        this.#beacon?.call()
        return undefined
      })
    if (!this.#running) return
    if (changed) void this.#publisher.put(this.#agentValue())
    void this.#followMtu()
    if (facts.nodeAddress === before.nodeAddress) return
    void this.#moveParts()
    this.#namesView = undefined
    this.#refresh()
  }

  /** For members on the same link that moved while this host moved, or while this agent was down. */
  #startBeacon(): Beacon | undefined {
    const { settings, log } = this.#options
    const port = settings.listen.map((address) => Number(/\d+$/.exec(address)?.[0])).find((each) => each > 0)
    if (port === undefined) return undefined
    const beacon = startBeacon({
      origin: this.control.origin,
      port,
      addresses: () => this.facts.multiaddrs,
      isNeeded: () => this.#others().some(({ origin }) => this.control.neighbour(origin) === undefined),
      onCall: (origin, address) => {
        if (!this.#others().some((agent) => agent.origin === origin)) return
        if (this.control.neighbour(origin) !== undefined || this.#called.get(origin) === address) return
        this.#called.set(origin, address)
        this.#refresh()
      },
      log: (event, fields) => log.debug(fields, event)
    })
    beacon.call()
    return beacon
  }

  #others(): readonly AgentView[] {
    return [...this.control.view().clusters.values()]
      .flatMap((cluster) => cluster.agents)
      .filter((agent) => agent.origin !== this.control.origin)
  }

  /** DNS and the probe listen on the node address. */
  async #moveParts(): Promise<void> {
    const [dns, prober] = [this.#dns, this.#prober]
    this.#dns = undefined
    this.#prober = undefined
    dns?.detach()
    await Promise.allSettled([prober?.stop()])
    if (this.#stopping.signal.aborted) return
    await this.#part('dns')
    await this.#part('probe')
  }

  /** Of another uplink, the path may be narrower. */
  async #followMtu(): Promise<void> {
    const { settings, host } = this.#options
    if (settings.mtu !== 0 || host === undefined) return
    const mtu = await host.detectMtu().catch(() => undefined)
    if (mtu === undefined || mtu === this.#mtu || this.#stopping.signal.aborted) return
    this.#mtu = mtu
    this.reconciler?.mark()
  }

  #judgeListening(): void {
    const { health } = this.#options
    health.replace(
      'LISTEN_ADDRESS_MISSING',
      this.control.transport.missingAddresses().map((address) => ({
        subject: address,
        severity: 'error' as const,
        message: `this host does not have the address of the setting listen = ${address}, so nobody can dial it there`,
        fix: 'it is listened on as soon as the host has it; otherwise set `listen` to /ip4/0.0.0.0/tcp/<port>'
      }))
    )
  }

  /** Of this host's pods; those of the cluster's that the mesh does not know are nobody's business. */
  setNodePrefixes(prefixes: readonly Cidr[]): void {
    const inside = prefixes.filter((prefix) =>
      this.#membership.podPrefixes.some((cidr) => cidrContains(cidr, prefix))
    )
    this.#nodePrefixes = inside.length === 0 ? undefined : inside
    void this.#publisher.put(this.#agentValue())
  }

  /** Of the Nodes of this cluster, where Kubernetes tells: their DNS questions are answered. */
  setNodeAddresses(addresses: readonly Ip[]): void {
    this.#nodeAddresses = addresses
    this.#dns?.set(this.#dnsSettings())
  }

  /** What the responder's upstreams say to a name that is not of the mesh. */
  lookup(question: { readonly name: string; readonly type: string }): Promise<LookupAnswer> {
    return lookup({
      ...question,
      upstreams: dnsUpstreams(this.#options.settings),
      listening: this.#dns?.listening ?? []
    })
  }

  /** The source said something; only the speaker of the cluster publishes it. `changes`: since the snapshot before. */
  setSnapshot(
    snapshot: Snapshot,
    state: { readonly whole: boolean; readonly changes: readonly Change[] }
  ): void {
    this.#publisher.setSnapshot(snapshot, state)
  }

  setLeadership(leadership: Leadership): void {
    this.#publisher.setLeadership(leadership)
  }

  termFloor(): number {
    return termFloor(this.control.origin, this.#ownAgents())
  }

  #ownAgents(): readonly AgentView[] {
    const view = this.control.view()
    return view.clusters.get(view.self)?.agents ?? []
  }

  #setPublishingFault(error: unknown): void {
    const { health } = this.#options
    if (error === undefined) return health.clear('PUBLISH_FAILED')
    health.setError('PUBLISH_FAILED', error, {
      severity: 'error',
      fix: 'the whole catalogue is published again with the next change; report this if it stays'
    })
  }

  /** Withdraws everything that was published, and waits for it to have left. Nothing is published after it. */
  async withdraw(): Promise<void> {
    await this.#publisher.withdraw()
    const deadlineMs = monotonicMs() + WITHDRAW_DEADLINE_MS // after many changes at once, the last of them is paced
    while (this.control.ownKeys().length > 0 && monotonicMs() < deadlineMs) await pause(20)
  }

  wish(): Wish | undefined {
    const view = this.control.view()
    const surroundings = this.#networks.value
    if (!this.#admitted || !view.clusters.has(view.self) || surroundings === undefined) return undefined
    const input = {
      view: this.#preferReached(view),
      self: { origin: this.control.origin, cluster: view.self },
      local: {
        publicKey: this.#options.wireguardKey,
        nodeAddress: this.facts.nodeAddress,
        probePort: this.facts.nodeAddress === undefined ? 0 : this.#options.settings['probe-port']
      },
      health: (cluster) => this.#health(cluster),
      gatewayHealth: (origin) => this.tunnels.health(origin),
      pathMtu: (origin) => this.tunnels.pathMtu(origin),
      surroundings,
      settings: this.#hostSettings()
    } satisfies DesiredInput
    const { host: want, refused } = desiredWithin(input, this.#balancer)
    if (refused !== this.#refused)
      this.#options.health.replace('LOAD_BALANCER_LIMIT', refused.map(faultOfRefusal))
    this.#refused = refused
    const deletes = this.control.isWhole && [...view.clusters.values()].every((cluster) => cluster.complete)
    return { want, deletes, clusterOf: clustersOfOps(view) }
  }

  /** Without a data plane: all that would be done to an empty host. */
  paperPlan(): readonly HostOp[] {
    const wish = this.wish()
    return wish === undefined ? [] : plan(wish.want, EMPTY_HOST)
  }

  names(): Names {
    const view = this.control.view()
    if (this.#names === undefined || this.#namesView !== view) {
      const { nodeAddress } = this.facts
      this.#names = createNames({
        view,
        withdrawn: (cluster) => this.#withdrawn.has(cluster),
        serverAddresses: nodeAddress === undefined ? [] : [nodeAddress],
        serial: this.#serial++,
        previous: this.#names
      })
      this.#namesView = view
    }
    return this.#names
  }

  // ------------------------------------------------------------------ what follows from the view

  /** A hint of the kernel. What the host reaches by itself is read before the pass that may need it. */
  async #hostChanged(parts: readonly HostPart[]): Promise<void> {
    this.reconciler?.mark({ observe: parts })
    this.#obstacles.hint()
    if (!parts.includes('routes')) return
    this.#ownFacts.look()
    void this.#followMtu()
    if (await this.#networks.refresh()) this.reconciler?.mark()
  }

  /** Of open control connections and of the members that the token named; what comes through the tunnel itself stays there. */
  *#controlAddresses(): Iterable<string> {
    const inside = new Set(
      [...this.control.view().clusters.values()].flatMap(({ agents }) =>
        agents.flatMap(({ agent }) => agent.tunnelAddress ?? [])
      )
    )
    for (const origin of this.control.neighbours()) {
      const address = this.control.neighbour(origin)?.address ?? ''
      if (!inside.has(hostOfMultiaddr(address) as Ip)) yield address
    }
    yield* this.#membership.bootstrap
  }

  /** Many events, one look: the view is built once per turn of the event loop. */
  #refresh(): void {
    if (!this.#running || this.#refreshing || this.#stopping.signal.aborted) return
    this.#refreshing = true
    setImmediate(() => {
      this.#refreshing = false
      if (this.#stopping.signal.aborted) return
      const view = this.control.view()
      const { metrics, settings } = this.#options
      metrics.clusters.set(view.clusters.size)
      this.#dns?.set(this.#dnsSettings())
      this.#dns?.update()
      this.reconciler?.mark()
      this.#feed?.update({ view, withdrawn: (cluster) => this.#withdrawn.has(cluster) })
      const others = [...view.clusters.values()]
        .flatMap((cluster) => cluster.agents)
        .filter((agent) => agent.origin !== this.control.origin)
      // The members' addresses are on disk with their records; the token's are for the time before there are any.
      const chosen = this.#chosen(others)
      this.control.transport.setTargets([
        ...(chosen.length < others.length ? [] : this.#strangers()).map((address) => ({
          addresses: [address]
        })),
        ...chosen.map(({ origin, agent }) => ({
          origin,
          addresses: this.#dialable(origin, agent.multiaddrs)
        }))
      ])
      if (settings['probe-port'] !== 0) {
        const fellows = new Set(this.#ownAgents().map(({ origin }) => origin))
        const behindTunnels = others.filter(({ origin }) => !fellows.has(origin))
        this.#prober?.setTargets(
          behindTunnels.flatMap(({ agent }) =>
            agent.tunnelAddress === undefined || !answersProbes(agent)
              ? []
              : [{ address: agent.tunnelAddress, port: agent.probePort }]
          ),
          this.#mtu
        )
      }
    })
  }

  /** What the member tells of itself, where its connection was last seen to come from, and where on a link of ours it last called from. */
  #dialable(origin: Origin, told: readonly string[]): readonly string[] {
    const seen = this.control.neighbour(origin)?.address
    const host = /^\/ip[46]\/[^/]+/.exec(seen ?? '')?.[0]
    if (host !== undefined) this.#observed.set(origin, host)
    const known = this.#observed.get(origin)
    const port = /\/tcp\/\d+/.exec(told[0] ?? '')?.[0]
    const observed = known === undefined || port === undefined ? [] : [known + port]
    const called = [this.#called.get(origin)].filter((address) => address !== undefined)
    return [...new Set([...told, ...observed, ...called])]
  }

  /** Whom the token or the other gateways named; this agent's own address may be among them. */
  #strangers(): readonly string[] {
    return this.#membership.bootstrap.filter((address) => !address.endsWith(`/p2p/${this.control.origin}`))
  }

  /** Everyone in a small mesh; else a few near ones and a few at random (src/core/overlay.ts). */
  #chosen(others: readonly AgentView[]): readonly AgentView[] {
    for (const { origin } of others) {
      const rttMs = this.control.neighbour(origin)?.rttMs
      if (rttMs !== undefined) this.#rtts.set(origin, rttMs)
    }
    const origins = new Set(
      chooseNeighbours({
        self: this.control.origin,
        dialable: this.facts.multiaddrs.length > 0,
        members: others.map(({ origin, agent }) => ({
          origin,
          dialable: agent.multiaddrs.length > 0,
          rttMs: this.#rtts.get(origin)
        })),
        round: Math.floor(monotonicMs() / OVERLAY_ROUND_MS)
      })
    )
    return others.filter(({ origin }) => origins.has(origin))
  }

  /** Once a second, and when a probe is answered again. */
  async #look(signal: AbortSignal): Promise<void> {
    const { host, metrics } = this.#options
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(WATCH_INTERVAL_MS * 5)])
    const stats = (await host?.peerStats(deadline).catch(() => undefined)) ?? []
    if (signal.aborted) return
    for (const name of this.#faults.keys()) await this.#part(name)
    await this.#rivals.look(signal)
    this.#publisher.tick(monotonicMs(), () => standsBy(this.control.origin, this.#ownAgents()))
    const view = this.control.view()
    const prober = this.#prober
    this.tunnels.update({
      view,
      stats,
      nowMs: monotonicMs(),
      probe: prober && ((address) => prober.result(address))
    })
    for (const cluster of view.clusters.values()) {
      if (cluster.name === view.self) continue
      const states = cluster.agents.map(({ origin }) => this.tunnels.of(origin))
      metrics.tunnelUp.set({ cluster: cluster.name }, states.some((state) => state?.state === 'up') ? 1 : 0)
      const rtt = states.find((state) => state?.rttMs !== undefined)?.rttMs
      if (rtt !== undefined) metrics.tunnelRtt.set({ cluster: cluster.name }, rtt / 1000)
      metrics.lag.set(
        { cluster: cluster.name },
        Math.max(0, ...cluster.agents.map(({ origin }) => this.control.lag(origin)))
      )
    }
    this.#networks.judge(view)
    this.#chooseGateways(view)
    this.#options.health.clear('WATCH_FAILED')
    // Without a data plane nothing is known of tunnels.
    const down = host === undefined ? new Set<ClusterName>() : this.tunnels.down
    this.#judgePaths(view, down)
    const surroundings = this.#networks.value
    if (this.#admitted && surroundings !== undefined)
      void this.#obstacles.look({ view, down, surroundings, nodeAddress: this.facts.nodeAddress }, signal)
    if (down.symmetricDifference(this.#withdrawn).size === 0) return
    this.#withdrawn = down
    this.#namesView = undefined // names, routes and backends follow one signal
    this.#refresh()
  }

  #judgePaths(view: MeshView, down: ReadonlySet<ClusterName>): void {
    const { health, settings, host } = this.#options
    const { control, tunnels } = this
    if (!this.#admitted) return
    const faults = pathFaults({
      view,
      down,
      tunnel: (origin) => (host === undefined ? undefined : tunnels.of(origin)),
      control: {
        isConnected: (origin) => control.neighbour(origin) !== undefined,
        liveness: (origin) => control.liveness(origin),
        refusal: (origin) => control.refusal(origin),
        isFrozen: (origin) => control.isFrozen(origin),
        aloneMs: control.aloneMs(),
        ownUnheldMs: control.ownUnheldMs(),
        isCloned: control.isCloned
      },
      hasDevice: !health.has(STEP_FAILED, TUNNEL_DEVICE),
      device: settings.device,
      mtu: this.#mtu
    })
    for (const code of PATH_FAULT_CODES) health.replace(code, faults[code])
  }

  /** A prefix moves as soon as its gateway is dead, or one that should have it lives again (src/core/desired.ts). */
  #chooseGateways(view: MeshView): void {
    const choice = [...view.clusters.values()]
      .filter(({ name }) => name !== view.self)
      .flatMap(({ agents }) =>
        agents.map(({ origin }) => {
          const choice = agents.length > 1 ? this.tunnels.health(origin) : ''
          return `${origin} ${choice} ${this.tunnels.pathMtu(origin) ?? ''}`
        })
      )
      .join()
    if (choice === this.#gateways) return
    this.#gateways = choice
    this.reconciler?.mark()
  }

  #health(cluster: ClusterName): ClusterHealth {
    return this.#withdrawn.has(cluster) ? 'withdrawn' : 'up'
  }

  /** Of the addresses an agent offers, the one through which it was reached comes first. */
  #preferReached(view: MeshView): MeshView {
    const clusters = [...view.clusters].map(([name, cluster]) => {
      const agents = cluster.agents.map((entry) => {
        const host = hostOf(this.control.neighbour(entry.origin)?.address) ?? this.#reached.get(entry.origin)
        if (host !== undefined) this.#reached.set(entry.origin, host)
        const found = this.#foundEndpoints.get(entry.agent.wireguardKey)
        const reached = entry.agent.wireguardAddresses.filter((address) =>
          host === undefined ? address === found : address.startsWith(`${host}:`)
        )
        if (reached.length === 0) return entry
        const rest = entry.agent.wireguardAddresses.filter((address) => !reached.includes(address))
        return {
          ...entry,
          agent: { ...entry.agent, wireguardAddresses: [...reached, ...rest] as PeerAddress[] }
        }
      })
      return [name, { ...cluster, agents }] as const
    })
    return { ...view, clusters: new Map(clusters) }
  }

  #hostSettings(): HostSettings {
    const { settings, host } = this.#options
    return {
      device: settings.device,
      listenPort: settings['wireguard-port'],
      mtu: this.#mtu,
      balanceLocal:
        settings['balance-local'] === 'auto'
          ? sourceKind(settings) === 'folder'
          : settings['balance-local'] === 'on',
      keepaliveSeconds: settings['keepalive-seconds'],
      scheduler: settings.scheduler,
      ...(host === undefined ? {} : { loadBalancer: host.loadBalancer })
    }
  }

  // ------------------------------------------------------------------ parts

  #dnsSettings(): ServerSettings {
    const own = this.control.view().clusters.get(this.#membership.cluster)
    const { settings } = this.#options
    return {
      upstreams: dnsUpstreams(settings),
      allow: dnsClients({
        settings,
        podPrefixes: this.#membership.podPrefixes,
        agents: own?.agents ?? [],
        nodeAddresses: this.#nodeAddresses
      }),
      outliveSeconds: settings['dns-outlive-seconds']
    }
  }

  async #startDns(): Promise<void> {
    const { settings, log, metrics, health, software } = this.#options
    const listen = dnsAddresses(settings, this.facts.nodeAddress)
    const control = dnsControlPath(settings)
    if (listen.length === 0) return endDnsProcess(control)
    this.#dns ??= createDnsProcess({
      control,
      version: software,
      listen,
      settings: this.#dnsSettings(),
      state: () => ({
        view: this.control.view(),
        withdrawn: this.#withdrawn,
        serverAddresses: this.facts.nodeAddress === undefined ? [] : [this.facts.nodeAddress],
        isWhole: this.control.isWhole
      }),
      onCounts: (counts) => countDnsQueries(metrics, counts),
      onWarning: (message) => log.warn(message),
      onProblems: (problems) => replaceDnsProblems(health, problems),
      onGone: () => {
        log.error('the DNS responder ended by itself: another one is started')
        void this.#part('dns')
      }
    })
    await this.#dns.start()
    log.info({ addresses: this.#dns.listening, pid: this.#dns.pid }, 'DNS answers')
  }

  async #startFeed(): Promise<void> {
    const { settings, log } = this.#options
    const listen = feedAddress(settings)
    if (listen === undefined) return
    const server = createFeedServer({ listen })
    await server.start()
    this.#feed = server
    log.info({ url: server.url }, 'feed for CoreDNS')
    this.#refresh()
  }

  async #startProbe(): Promise<void> {
    const { settings } = this.#options
    const { nodeAddress } = this.facts
    if (settings['probe-port'] === 0 || nodeAddress === undefined) return
    this.#prober = await startProber({
      address: nodeAddress,
      port: settings['probe-port'],
      intervalMs: PROBE_INTERVAL_MS,
      onReply: () => this.#watch.mark()
    })
    this.#refresh() // whom to probe
  }

  /** A part that cannot start is a fault of a running agent: it is shown, and tried again with every look. */
  async #part(name: PartName): Promise<void> {
    try {
      await this.#starters[name]()
      if (this.#faults.delete(name)) this.#options.log.info(`${name} runs now`)
    } catch (error) {
      const fault = partFault(name, error)
      if (!samePartFault(this.#faults.get(name), fault))
        this.#options.log.error({ err: error }, `${name} does not run`)
      this.#faults.set(name, fault)
    }
  }

  // ------------------------------------------------------------------ own records

  #agentValue(): Value {
    return agentValueOf(this.#options.settings, this.facts, {
      ...this.#options,
      nodePrefixes: this.#nodePrefixes
    })
  }

  #certificate(): Uint8Array {
    const { crypto, nodeSeed, settings } = this.#options
    return issueAgentCertificate({
      crypto,
      clusterSeed: this.#membership.clusterSeed,
      chain: this.#membership.clusterChain,
      agentSeed: nodeSeed,
      node: settings['node-name'],
      roles: ['gateway'],
      nowSeconds: Math.floor(Date.now() / 1000)
    }).bytes
  }
}

function isSame(a: LocalFacts, b: LocalFacts): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

function faultOfRefusal(refusal: LimitRefusal) {
  return { ...refusalText(refusal), severity: refusal.scope === 'service' ? 'warning' : 'error' } as const
}

function hostPort({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

/** "203.0.113.7" of "/ip4/203.0.113.7/tcp/7946…"; IPv6 in brackets, as in a peer address. */
function hostOf(multiaddr: string | undefined): string | undefined {
  const match = /^\/(ip4|ip6)\/([^/]+)/.exec(multiaddr ?? '')
  if (match === null) return undefined
  return match[1] === 'ip6' ? `[${match[2] as Ip}]` : match[2]
}
