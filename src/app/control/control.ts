// The control plane of one agent in one mesh: connections, handshakes, replication, and the view that comes of them.
// Invariants:
//  1. Before both sides have proved their certificates, only handshake messages are exchanged with a neighbour; before
//     the trust sets are equal (at most 5 s), only those of the exchange. Only an agent that stands is told records.
//  2. An own batch is on disk before any neighbour sees it, so a crash never takes back what was published. Only while
//     the disk accepts no writes (full, read-only) does the agent publish from memory: `meshctl status` then says so,
//     and the whole state is written when the disk accepts writes again. A crash in that time costs only a new epoch.
//  3. Effects are carried out in the order in which the protocol gave them.
//  4. While a part of a large state is being written to disk, nothing is read from its sender. So a kill -9 loses one
//     part at most, and the window of the stream bounds the data that waits for a slow disk.
import type { Liveness } from '../../core/replication/failure/failure-detector.ts'
import type { Origin, Value } from '../../core/model/values.ts'
import type { Protocol } from '../../core/replication/protocol.ts'
import type { Members } from '../../core/trust/members/members.ts'
import { originOf } from '../../core/model/identity.ts'
import type { MeshView } from '../../core/view/view.ts'
import { createTransport, type Transport } from '../../io/p2p/transport.ts'
import type { LoadedReplica, StoredOrigin } from '../../io/store/store.ts'
import { Loop } from '../../io/timing/loop.ts'
import { monotonicMs } from '../observe/clock.ts'
import { Checks } from './checks.ts'
import { CloneWatch } from './clone-watch.ts'
import type { ControlOptions } from './control-options.ts'
import { CurrentView } from './current-view.ts'
import { EffectRunner, type PromptEffect } from './effect-runner.ts'
import { Events } from './events.ts'
import { Gaps } from './gaps.ts'
import type { HandshakeRefusal } from './handshakes.ts'
import { Holds } from './holds.ts'
import { Links } from './links.ts'
import { MeshTrust } from './mesh-trust.ts'
import type { Neighbour } from './neighbourhood.ts'
import { newProtocol } from './new-protocol.ts'
import { Offenders } from './offenders.ts'
import { Refusals } from './refusals.ts'

// Milliseconds. The protocol sends heads at every fifth tick, and checks the timeouts of pulls and pings at each tick.
const TICK_MS = 200
// Number of warnings that `meshctl status` shows: as many as fit a page. The log has all.
const WARNINGS_MAX = 20

export type { HandshakeOutcome, HandshakeRefusal } from './handshakes.ts'
export type { Neighbour } from './neighbourhood.ts'

export class Control {
  readonly origin: Origin
  readonly transport: Transport
  readonly #options: ControlOptions
  readonly #trust: MeshTrust
  readonly #links: Links
  readonly #protocol: Protocol
  /** The replica from disk. It is dropped when it is restored, to free its memory. */
  #stored: LoadedReplica | undefined
  readonly #view: CurrentView
  readonly #runner: EffectRunner
  /** An error of a tick ends the process, because the state of the protocol could not be trusted any more. */
  readonly #ticks = new Loop({ act: async () => this.#tick(), intervalMs: TICK_MS, firstMs: TICK_MS })
  readonly #warnings = new Set<string>()
  /** Open while records may be missing because the disk has lost them. */
  readonly #gaps: Gaps
  readonly #clones = new CloneWatch()
  readonly #holds = new Holds(() => this.transport)
  readonly #offenders: Offenders
  readonly #checks: Checks
  /** Numbers of refusals since the start, by reason. */
  readonly refusals = new Refusals()
  /** What was refused from which peer, and what was done about it. */
  readonly events: Events

  constructor(options: ControlOptions) {
    const { crypto, roots, nodeSeed } = options
    this.#options = options
    this.origin = originOf(crypto.publicKeyOf(nodeSeed))
    this.#checks = new Checks(crypto, this.#holds)
    const counted = { ...options, crypto: this.#checks.crypto }
    this.#trust = new MeshTrust({
      ...counted,
      send: (peer, frame) => this.#send(peer, frame),
      onInStep: (peer) => this.#links.inStep(peer),
      onOffence: (from, reason) =>
        this.#offenders.refused({ kind: 'refused', from, reason, isOffence: true }),
      onRefused: (_, reason) => this.#count(reason)
    })
    this.#links = new Links({
      ...options,
      origin: this.origin,
      trust: this.#trust,
      transport: () => this.transport,
      send: (peer, frame) => this.#send(peer, frame),
      onUp: (peer, frames) => this.#peerUp(peer, frames),
      onRefused: (peer, what) => {
        this.#count(what.reason)
        this.#offenders.tell('refused', peer, what)
      }
    })
    const stored = options.store.loadReplica()
    this.#stored = stored
    this.#gaps = new Gaps(stored.lost || stored.dropped.length > 0)
    this.#protocol = newProtocol({ ...counted, origin: this.origin, trust: this.#trust }, stored)
    this.#view = new CurrentView({
      ...options,
      self: options.cluster,
      selfOrigin: this.origin,
      meshId: roots.meshId,
      members: this.#trust.members,
      protocol: this.#protocol
    })
    this.events = new Events({ ...options, now: Date.now })
    this.#offenders = new Offenders({
      ...options,
      events: this.events,
      holds: this.#holds,
      transport: () => this.transport,
      neighbours: () => this.neighbours(),
      clusterOf: (peer) => this.#trust.members.agentOf(peer)?.cluster
    })
    this.transport = this.#newTransport()
    this.#runner = new EffectRunner({
      self: this.origin,
      store: options.store,
      transport: this.#holds.for('disk'),
      log: options.log,
      whole: (origin) => this.#protocol.whole(origin),
      act: (effect) => this.#act(effect)
    })
  }

  /** Restores the replica from disk, then listens for connections. Errors: TransportError. */
  async start(): Promise<void> {
    await this.#restore()
    await this.transport.start()
    this.#ticks.start()
  }

  async stop(): Promise<void> {
    await this.#ticks.stop()
    await this.#runner.idle
    await this.#trust.idle
    await this.transport.stop()
  }

  /** Publishes one batch without equal values. Resolves when the batch is on disk and handed to the neighbours. */
  async publish(changes: readonly { key: string; value: Value | undefined }[]): Promise<void> {
    this.#runner.run(this.#protocol.publish(changes, monotonicMs()))
    await this.#runner.idle
  }

  /** See Protocol.own. */
  get own(): Protocol['own'] {
    return this.#protocol.own
  }

  /**
   * Takes a renewed credential of this agent, which the cluster key of the seed has signed, for all later handshakes, and
   * tells the neighbours of it. Throws an Error if it does not verify.
   */
  renewed(credential: Uint8Array, clusterSeed: Uint8Array): void {
    this.#links.show(credential, clusterSeed)
    this.#runner.run(this.#protocol.showCredential(monotonicMs()))
  }

  /** See Sponsor.succeed. The caller then gives the credential of the new key to `renewed`. */
  succeed(...asked: Parameters<Links['succeed']>): ReturnType<Links['succeed']> {
    return this.#links.succeed(...asked)
  }

  /** The members of the mesh, and the trust set that they follow from. */
  get members(): Members {
    return this.#trust.members
  }

  /**
   * Adds statements that this agent has signed, as encoded items: they are on disk and handed on when the promise
   * resolves. Errors: StoreError.
   */
  async sign(items: readonly Uint8Array[]): Promise<void> {
    await this.#trust.add(items)
    this.#judge(true)
  }

  /** Returns the view. It is built again when records, or the addresses of this host, have changed since the last call. */
  view(): MeshView {
    return this.events.ofView(this.#view.get())
  }

  neighbour(origin: Origin): Neighbour | undefined {
    const link = this.#links.neighbours.get(origin)
    return link && { ...link, rttMs: this.#protocol.rtt(origin), heardMs: this.#protocol.heardMs(origin) }
  }

  neighbours(): readonly Origin[] {
    return this.#links.neighbours.origins()
  }

  /** Returns the number of operations of this origin that neighbours have told of and that this agent does not have. */
  lag(origin: Origin): number {
    return this.#protocol.lag(origin)
  }

  /** Returns whether a member lives, as far as all members can tell. Only for people: no record is withdrawn for it. */
  liveness(origin: Origin): Liveness {
    return this.#protocol.liveness(origin)
  }

  /** Returns why the latest handshake with this member was refused; undefined: it was accepted, or none was lately. */
  refusal(origin: Origin): HandshakeRefusal | undefined {
    return this.#links.refusal(origin)
  }

  /** Returns whether two states were signed for one position of this origin: two agents use its key. */
  isFrozen(origin: Origin): boolean {
    return this.#protocol.isFrozen(origin)
  }

  /** Whether connections with this agent are refused for now, because of its offences. */
  isBanned(origin: Origin): boolean {
    return this.#offenders.isBanned(origin)
  }

  /** True when another agent signs states with this agent's key. */
  get isCloned(): boolean {
    return this.#clones.isCloned
  }

  /** See Neighbourhood.unheldMs. */
  ownUnheldMs(): number {
    return this.#links.neighbours.unheldMs(this.#protocol.ownHeldMs())
  }

  /** Returns the milliseconds without any control connection; 0 while there is one. */
  aloneMs(): number {
    return this.#links.neighbours.aloneMs()
  }

  /** Called when the store has lost the replica: writes all states from memory again, before all later writes. */
  rewrite(): void {
    this.#runner.rewrite(this.#protocol.origins())
    this.#trust.rewrite()
  }

  /** False while records may be missing only on this disk. A missing record is then no reason to delete anything. */
  get isWhole(): boolean {
    return !this.#gaps.isOpen
  }

  /** Present and past problems of the store since the start, as lines for `meshctl status`. */
  get warnings(): readonly string[] {
    const diskFault = this.#runner.diskFault ?? this.#trust.diskFault
    return [...this.#warnings, ...(diskFault === undefined ? [] : [`store: ${diskFault}`])]
  }

  async #restore(): Promise<void> {
    const { log } = this.#options
    if (this.#stored === undefined) throw new Error('restored twice')
    const { origins, parts } = this.#stored
    this.#stored = undefined
    const isAdmitted = ({ origin, credential }: StoredOrigin) => {
      if (origin === this.origin || credential === undefined) return true
      const verdict = this.#trust.admit(origin, credential)
      if (verdict.kind === 'refused')
        log.warn({ origin, reason: verdict.reason }, 'a stored origin is not admitted any more')
      return verdict.kind === 'admitted'
    }
    this.#runner.run(this.#protocol.restore(origins.filter(isAdmitted), parts))
    await this.#runner.idle
  }

  #tick(): void {
    const nowMs = monotonicMs()
    this.#runner.run(this.#protocol.tick(nowMs))
    if (this.#gaps.tick(nowMs, this.#links.neighbours.size > 0)) this.#options.onChange()
    this.#runner.retry(nowMs)
    this.#holds.tick(nowMs)
    this.#trust.tick(nowMs)
    this.#links.tick(nowMs)
    this.#judge()
    this.#checks.tick(nowMs)
    this.#offenders.tick(nowMs)
    this.events.tick(nowMs)
  }

  #receive(peer: Origin, frame: Uint8Array): void {
    const { metrics } = this.#options
    metrics.frames.inc({ direction: 'in' })
    metrics.frameBytes.inc({ direction: 'in' }, frame.length)
    if (!this.#links.receive(peer, frame)) this.#replicate(peer, frame)
  }

  /** Takes a frame of replication, and charges the signature checks that it causes. */
  #replicate(peer: Origin, frame: Uint8Array): void {
    const nowMs = monotonicMs()
    const act = () => this.#runner.runOf(peer, this.#protocol.receive(peer, frame, nowMs))
    this.#checks.charge(peer, nowMs, act)
  }

  #peerUp(peer: Origin, frames: readonly Uint8Array[]): void {
    this.#options.metrics.neighbours.set(this.#links.neighbours.size)
    this.#runner.run(this.#protocol.peerUp(peer, monotonicMs()))
    for (const frame of frames) this.#replicate(peer, frame)
    this.#options.onChange()
  }

  /**
   * Draws the consequences of a changed trust set: neighbours that do not stand any more are turned away, their records
   * are removed, and the view is built again.
   */
  #judge(isOwn = false): void {
    if (!this.#links.judge(isOwn)) return
    this.#runner.run(this.#protocol.collect())
    this.#view.changed()
    this.#options.onChange()
  }

  #part(peer: Origin, reason: string): void {
    this.#holds.forget(peer)
    if (!this.#links.end(peer)) return
    this.#offenders.tell('disconnected', peer, { reason })
    this.#options.metrics.neighbours.set(this.#links.neighbours.size)
    this.#options.log.info({ peer, reason }, 'neighbour down')
    this.#runner.run(this.#protocol.peerDown(peer))
    this.#options.onChange()
  }

  #send(peer: Origin, frame: Uint8Array): void {
    const { metrics } = this.#options
    metrics.frames.inc({ direction: 'out' })
    metrics.frameBytes.inc({ direction: 'out' }, frame.length)
    this.transport.send(peer, frame) // false: the neighbour is being reset, and pulls what it missed
  }

  #act(effect: PromptEffect): void {
    const { log } = this.#options
    switch (effect.kind) {
      case 'send':
        return this.#send(effect.to, effect.frame)
      case 'whenSent':
        return this.transport.whenSent(effect.to, () => this.#runner.run(this.#protocol.sent(effect.to)))
      case 'changed':
        this.#view.changed()
        return this.#options.onChange()
      case 'refused':
        this.#count(effect.reason)
        if (effect.from !== this.origin) this.#offenders.refused(effect)
        return
      case 'leftOut':
        return this.#options.onLeftOut(effect.leftOut)
      case 'abort':
        return this.transport.disconnect(effect.peer, effect.reason)
      case 'ownRollback':
        this.#clones.rolledBack()
        return this.#warn(`the store had lost what was published: epoch ${effect.epoch} starts`)
      case 'removed':
        this.#count(`state ${effect.reason}`)
        log.warn({ origin: effect.origin, cause: effect.reason }, 'the records of an agent are removed')
        return this.#removeStored(effect.origin)
      case 'damaged':
        this.#gaps.open()
        this.#warn(`stored records of ${effect.origin} are damaged (${effect.reason}); they are pulled again`)
        return this.#removeStored(effect.origin)
      default:
        return effect satisfies never
    }
  }

  #removeStored(origin: Origin): void {
    const { log, store } = this.#options
    store.removeOrigin(origin).catch((error: unknown) => log.error({ err: error }, 'cannot remove them'))
  }

  #warn(warning: string): void {
    this.#options.log.warn(warning)
    if (this.#warnings.size < WARNINGS_MAX) this.#warnings.add(warning)
  }

  #count(reason: string): void {
    this.#options.metrics.refused.inc({ reason: this.refusals.count(reason) })
  }

  #newTransport(): Transport {
    const { nodeSeed, log } = this.#options
    return createTransport({
      ...this.#options,
      seed: nodeSeed,
      isBanned: (peer) => this.#offenders.isBanned(peer),
      isMember: (peer) => this.#trust.members.isAdmitted(peer),
      log: (event, fields) => log.debug(fields, event),
      handlers: {
        neighbourUp: (peer, info) => this.#links.begin(peer, info),
        frame: (peer, frame) => this.#receive(peer, frame),
        neighbourDown: (peer, reason) => this.#part(peer, reason)
      }
    })
  }
}
