// One membership that is live: the control plane, and what follows from its view: the host, the names, the probes.
//
//   source → publish → control → view ─┬→ names → DNS
//                                      ├→ probe targets → tunnel states ─┐
//                                      └→ desired ←──────────────────────┘→ reconciler → host
//
// The constructor makes all parts. `start` starts each part after those that it needs. enrolment/ starts a session
// after a start of the agent, init or join, and stops it on leave or at the end.
import { setMaxListeners } from 'node:events'
import type { Change } from '../../core/catalog/catalog.ts'
import type { Names } from '../../core/dns/names.ts'
import type { HostOp } from '../../core/host/host-state.ts'
import type { ClusterName, Ip, Snapshot } from '../../core/model/values.ts'
import { outerAddresses, type OuterAddress, type Surroundings } from '../../core/host/surroundings.ts'
import { outward } from '../../core/catalog/outward.ts'
import type { LookupAnswer } from '../../io/dns/lookup.ts'
import type { Leadership } from '../../io/kube/lease.ts'
import { monotonicMs } from '../observe/clock.ts'
import { Control } from '../control/control.ts'
import { ProgrammedHost } from '../host/programmed-host.ts'
import type { Membership } from '../identity/identity.ts'
import { setLeftOut, setNotGranted } from './left-out.ts'
import type { LocalFacts } from './local-facts.ts'
import { OwnFacts, type FactsChange } from './own-facts.ts'
import { OwnMembership } from './own-membership.ts'
import type { PartFault } from '../observe/part-fault.ts'
import { Publisher, tellPublishingFault } from './publisher.ts'
import type { Reconciler } from '../host/reconciler.ts'
import type { OwnNode } from '../sources/source.ts'
import { Balancing } from './balancing.ts'
import { datagramIntakes } from '../paths/tunnel-paths.ts'
import { Dialer } from './dialer.ts'
import { DnsService } from './dns-service.ts'
import { FeedService } from './feed-service.ts'
import { agentIn, ownAgents, ownGateways } from './members.ts'
import { NamesOfView } from './names-of-view.ts'
import type { SessionOptions } from './options.ts'
import { OwnRecord } from './own-record.ts'
import { PathWatch } from './path-watch.ts'
import { PerTurn } from './per-turn.ts'
import { ProbeService } from './probe-service.ts'
import { Services, type ServiceName } from './services.ts'
import { underlayFault } from './underlay.ts'
import { standsBy } from './speaker.ts'

export type { SessionOptions } from './options.ts'

/** A live membership: one instance for each start of the agent in a mesh, init or join. */
export class Session {
  readonly control: Control
  readonly #options: SessionOptions
  readonly #stopping = new AbortController()
  readonly #ownFacts: OwnFacts
  readonly ownRecord: OwnRecord
  readonly #publisher: Publisher
  readonly #dialer: Dialer
  readonly #host: ProgrammedHost
  readonly #names = new NamesOfView()
  readonly balancing: Balancing
  readonly #dns: DnsService
  readonly #probe: ProbeService
  readonly #services: Services
  readonly #update = new PerTurn(() => this.#follow())
  readonly #paths: PathWatch
  readonly #own: OwnMembership

  constructor(options: SessionOptions) {
    const { settings, log } = options
    setMaxListeners(50, this.#stopping.signal)
    this.#options = options
    this.#own = new OwnMembership({ ...options, control: () => this.control })
    this.control = this.#newControl()
    this.#ownFacts = this.#newOwnFacts()
    this.#publisher = this.#newPublisher()
    this.ownRecord = new OwnRecord({
      ...options,
      control: this.control,
      programmed: () => this.#host,
      facts: () => this.facts,
      podPrefixes: () => this.#own.realPrefixes.podPrefixes,
      tunnel: (origin) => this.#paths.tunnels.health(origin),
      saysMoved: (address, sinceMs) => this.#probe.saysMoved(address, sinceMs),
      put: (value) => this.#publisher.put(value)
    })
    this.#dialer = this.#newDialer()
    this.balancing = new Balancing({ settings, control: this.control, paths: () => this.#paths })
    this.#host = this.#newHost()
    this.#paths = this.#newPaths()
    this.#dns = this.#newDns()
    this.#probe = this.#newProbe()
    const feed = new FeedService({ settings, log, onStarted: () => this.#update.mark() })
    this.#services = new Services([this.#dns, this.#probe, feed], log)
  }

  /** Starts all parts. A service that cannot start is a fault. Errors: TransportError when the control plane cannot listen. */
  async start(): Promise<void> {
    await this.control.start()
    await this.#ownFacts.start()
    this.#dialer.start()
    await this.ownRecord.restore(agentIn(this.control.view(), this.control.origin))
    this.#ownFacts.refresh()
    await this.#host.read()
    this.#update.start()
    await this.#services.start()
    this.#update.mark()
    this.#paths.start()
    this.#own.start()
    this.#host.watch()
  }

  /**
   * Stops all parts. The kernel's state stays, so traffic flows on; the responder outlives by dns-outlive-seconds, but
   * ends with `leaves`.
   */
  async stop({ leaves = false } = {}): Promise<void> {
    this.#stopping.abort()
    this.#update.stop()
    await this.#own.stop()
    this.#ownFacts.stop()
    await this.#paths.stop()
    await this.#publisher.idle
    await this.#host.stop()
    await this.#services.stop({ leaves })
    await this.control.stop()
  }

  /** The loop that programs the host; undefined: no data plane. */
  get reconciler(): Reconciler | undefined {
    return this.#host.reconciler
  }

  /** States of the tunnels, and packets dropped beside them. */
  get paths(): Pick<PathWatch, 'tunnels' | 'node' | 'ways' | 'dropped' | 'examine'> {
    return this.#paths
  }

  /** As it is now: a newcomer becomes a member, and an admission can be replaced, while the session runs. */
  get membership(): Membership {
    return this.#own.current
  }

  get facts(): LocalFacts {
    return this.#ownFacts.current
  }

  /** Prefixes of the mesh that overlap what this host reaches itself. */
  get overlaps() {
    return this.#host.networks.overlaps
  }

  /** Clusters that cannot be reached now: connections to them are refused at once. */
  get withdrawn(): ReadonlySet<ClusterName> {
    return this.#paths.withdrawn
  }

  get dnsAddress(): string | undefined {
    return this.#dns.address
  }

  /** The faults of the services that do not run now, for `meshctl status`. */
  get faults(): ReadonlyMap<ServiceName, PartFault> {
    return this.#services.faults
  }

  names(): Names {
    return this.#names.names(this.balancing.served(this.facts.nodeAddress))
  }

  /** Asks the responder's upstreams for a name that is not of the mesh. */
  lookup(question: { readonly name: string; readonly type: string }): Promise<LookupAnswer> {
    return this.#dns.lookup(question)
  }

  /** Returns all operations that would be applied to an empty host: the plan without a data plane. */
  paperPlan(): readonly HostOp[] {
    return this.#host.paperPlan()
  }

  /** Reads what the prefixes of a new invite must not overlap. */
  async around(): Promise<{ surroundings: Surroundings; outers: readonly OuterAddress[] }> {
    return { surroundings: await this.#host.surroundings(), outers: outerAddresses(this.control.view()) }
  }

  /** Called when a member has accepted this agent: from now on the host is programmed. */
  admit(): void {
    this.#own.admit()
    this.#update.mark()
  }

  /** Takes another admission of the cluster, perhaps with other prefixes or for another key. */
  renew(membership: Membership): void {
    this.#own.renew(membership)
    this.#ownFacts.refresh()
    void this.ownRecord.publish()
    this.#publisher.speakAnew()
    this.#update.mark()
  }

  /** Makes a certificate of the next generation (own-membership.ts). Errors: AppError GATEWAYS_BEHIND; StoreError. */
  renewCertificate(options: { readonly force: boolean }): ReturnType<OwnMembership['renewCertificate']> {
    return this.#own.renewCertificate(options)
  }

  /** Takes the pod prefixes and the zone of this node. Prefixes outside the cluster's pod CIDRs are ignored. */
  setOwnNode({ podCidrs, zone }: OwnNode): void {
    void this.ownRecord.setNodePrefixes(podCidrs, this.#own.realPrefixes.podPrefixes)
    this.#ownFacts.refresh()
    if (this.balancing.setNodeZone(zone)) this.#host.mark()
  }

  /** Takes the addresses of the Nodes of this cluster: their DNS questions are answered. */
  setNodeAddresses(addresses: readonly Ip[]): void {
    this.#dns.setNodeAddresses(addresses)
  }

  /** Takes a snapshot of the source; only the speaker publishes it. `changes`: since the snapshot before. */
  setSnapshot(
    snapshot: Snapshot,
    state: { readonly whole: boolean; readonly changes: readonly Change[] }
  ): void {
    this.#publisher.setSnapshot(snapshot, state)
  }

  setLeadership(leadership: Leadership): void {
    this.#publisher.setLeadership(leadership)
  }

  /** Withdraws all records of this agent, and waits until that has left. Afterwards nothing is published. */
  async withdraw(): Promise<void> {
    await this.#publisher.withdraw()
  }

  // ------------------------------------------------------------------ what follows from the view

  /** Called once for all changes of a turn of the event loop; builds the view. */
  #follow(): void {
    if (this.#own.followPrefixes()) {
      this.#ownFacts.refresh()
      void this.ownRecord.publish() // its address inside the tunnel may be another one, also where the real one stays
      this.#publisher.speakAnew()
      this.#options.onPrefixes()
    }
    this.#options.metrics.clusters.set(this.control.view().clusters.size)
    this.#own.follow()
    this.#services.update(this.balancing.served(this.facts.nodeAddress))
    this.#host.mark()
    this.#dialer.update()
    this.#options.onView()
  }

  /** Called once a second, before the tunnels are judged. */
  async #tick(signal: AbortSignal): Promise<void> {
    await this.#services.retry()
    await this.#host.lookForRivals(signal)
    await this.ownRecord.follow()
    this.#publisher.tick(monotonicMs(), () => standsBy(this.control.origin, ownGateways(this.control.view())))
  }

  /** Called when own addresses came, went or changed: tells the peers, and dials them from the present addresses. */
  #factsChanged({ facts, before, gone, moved }: FactsChange): void {
    const isChanged = JSON.stringify(facts) !== JSON.stringify(before)
    if (isChanged)
      this.#options.log.info({ addresses: facts.multiaddrs, gone }, 'the addresses of this host changed')
    if (moved) void this.#dialAnew(gone)
    if (!this.#update.isRunning) return
    if (isChanged) void this.ownRecord.publish()
    void this.#host.followMtu()
    if (facts.nodeAddress === before.nodeAddress) return
    void this.#services.move(this.#stopping.signal)
    this.#update.mark()
  }

  async #dialAnew(gone: readonly Ip[]): Promise<void> {
    await this.#dialer.hostMoved(gone)
    this.#ownFacts.refresh()
    this.#dialer.call()
  }

  // ------------------------------------------------------------------ the parts

  #newControl(): Control {
    const { settings, health } = this.#options
    const { roots, cluster, clusterSeed } = this.membership
    return new Control({
      ...this.#options,
      roots,
      cluster,
      clusterSeed,
      shows: this.#own.shows(),
      onAdmitted: (clusterItem) => this.#own.admitted(clusterItem),
      underlayFault: async (invite) =>
        underlayFault(invite, await this.around(), this.control.members.standing().clusters),
      listen: settings.listen,
      hostAddresses: () => this.#host.networks.addresses,
      ownSide: this.#own.side,
      ...datagramIntakes(this.#options, () => this.#paths.ways),
      onChange: () => this.#update.mark(),
      onLeftOut: (leftOut) => setLeftOut(health, leftOut)
    })
  }

  #newOwnFacts(): OwnFacts {
    return new OwnFacts({
      ...this.#options,
      prefixes: () => this.#own.realPrefixes,
      nodePrefixes: () => this.ownRecord.nodePrefixes,
      origin: this.control.origin,
      listening: () => this.control.transport.listenAddresses(),
      onChange: (change) => this.#factsChanged(change)
    })
  }

  #newPublisher(): Publisher {
    const { health, metrics } = this.#options
    return new Publisher({
      publish: (changes) => this.control.publish(outward(changes, this.membership.translation)),
      ownKeys: () => this.control.own.keys(),
      prefixes: () => this.membership,
      namespaces: () => this.control.members.settlement().get(this.membership.cluster)?.namespaces ?? [],
      onLeftOut: (namespaces) => setNotGranted(health, namespaces),
      onFault: (error) => tellPublishingFault(health, error),
      onRecorded: (ms) => metrics.propagation.recorded(ms)
    })
  }

  #newDialer(): Dialer {
    return new Dialer({
      ...this.#options,
      control: this.control,
      addresses: () => this.facts.multiaddrs,
      bootstrap: () => this.membership.bootstrap,
      isMember: () => this.membership.stage.kind === 'member',
      wanted: () => this.#paths.ways.wanted,
      onSighting: () => this.#update.mark()
    })
  }

  #newPaths(): PathWatch {
    return new PathWatch({
      ...this.#options,
      control: this.control,
      networks: this.#host.networks,
      mtu: this.#host.mtu,
      isAdmitted: () => this.#own.isAdmitted,
      nodeAddress: () => this.facts.nodeAddress,
      probe: () => this.#probe.results,
      beforeTick: (signal) => this.#tick(signal),
      onGateways: () => this.#host.mark(),
      onChange: () => this.#update.mark()
    })
  }

  #newHost(): ProgrammedHost {
    return new ProgrammedHost({
      ...this.#options,
      control: this.control,
      tunnels: () => this.paths.tunnels,
      peerAddress: (origin) => this.paths.ways.address(origin),
      turnOf: (cluster) => this.paths.node.turnOf(cluster),
      isAdmitted: () => this.#own.isAdmitted,
      facts: () => this.facts,
      translation: () => this.membership.translation,
      isWithdrawn: (cluster) => this.withdrawn.has(cluster),
      balancing: this.balancing,
      controlAddresses: () => this.#dialer.controlAddresses(),
      onHint: (parts) => {
        this.#paths.hint()
        if (parts.includes('routes')) this.#ownFacts.look()
      },
      stopping: this.#stopping.signal
    })
  }

  #newDns(): DnsService {
    return new DnsService({
      ...this.#options,
      served: () => this.balancing.served(this.facts.nodeAddress),
      isWhole: () => this.control.isWhole,
      podPrefixes: () => this.#own.realPrefixes.podPrefixes,
      ownAgents: () => ownAgents(this.control.view()),
      onGone: () => void this.#services.restart('dns')
    })
  }

  #newProbe(): ProbeService {
    return new ProbeService({
      settings: this.#options.settings,
      origin: this.control.origin,
      facts: this.#ownFacts,
      mtu: this.#host.mtu,
      reconciler: this.reconciler,
      onChange: () => this.#paths.mark(),
      onStarted: () => this.#update.mark(),
      seen: (origin) => this.#paths.tunnels.of(origin)?.stats?.peerAddress
    })
  }
}
