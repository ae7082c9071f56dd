// The control plane of one agent in one mesh: connections, handshakes, replication, and the view that comes of them.
// Invariants:
//  1. Before both sides have proved their certificates, only handshake messages are exchanged with a neighbour.
//  2. An own batch is on disk before any neighbour sees it, so a crash never takes back what was published. Only while
//     the disk accepts no writes (full, read-only) does the agent publish from memory: `meshctl status` then says so,
//     and the whole state is written when the disk accepts writes again. A crash in that time costs only a new epoch.
//  3. Effects are carried out in the order in which the protocol gave them.
//  4. While a part of a large state is being written to disk, nothing is read from its sender. So a kill -9 loses one
//     part at most, and the window of the stream bounds the data that waits for a slow disk.
import type { Liveness } from '../../core/replication/failure/failure-detector.ts'
import type { Origin, Value } from '../../core/model/values.ts'
import type { Protocol } from '../../core/replication/protocol.ts'
import { createTrustStore, type TrustStore } from '../../core/trust/trust-store.ts'
import type { HandshakeOutcome as Verdict } from '../../core/trust/handshake.ts'
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
import { Handshakes, type ConnectionInfo, type HandshakeRefusal } from './handshakes.ts'
import { Holds } from './holds.ts'
import { Neighbourhood, type Neighbour } from './neighbourhood.ts'
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
  readonly #trustStore: TrustStore
  readonly #protocol: Protocol
  /** The replica from disk. It is dropped when it is restored, to free its memory. */
  #stored: LoadedReplica | undefined
  readonly #view: CurrentView
  readonly #handshakes: Handshakes
  readonly #runner: EffectRunner
  readonly #neighbours = new Neighbourhood()
  /** An error of a tick ends the process, because the state of the protocol could not be trusted any more. */
  readonly #ticks = new Loop({ act: async () => this.#tick(), intervalMs: TICK_MS, firstMs: TICK_MS })
  #chain: Uint8Array
  readonly #warnings = new Set<string>()
  /** Whether records may be missing because the disk has lost them. */
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
    const { crypto, meshId, nodeSeed } = options
    this.#options = options
    this.#chain = options.chain
    this.origin = originOf(crypto.publicKeyOf(nodeSeed))
    this.#checks = new Checks(crypto, this.#holds)
    this.#trustStore = createTrustStore({ crypto: this.#checks.crypto, meshId })
    const admitted = this.#trustStore.admit(this.origin, options.chain)
    if (admitted.kind === 'refused')
      throw new Error(`our own certificate does not verify: ${admitted.reason}`)
    const stored = options.store.loadReplica()
    this.#stored = stored
    this.#gaps = new Gaps(stored.lost || stored.dropped.length > 0)
    const own = { crypto: this.#checks.crypto, origin: this.origin, trustStore: this.#trustStore }
    this.#protocol = newProtocol({ ...options, ...own }, stored)
    this.#view = new CurrentView({
      ...options,
      self: options.cluster,
      selfOrigin: this.origin,
      trustStore: this.#trustStore,
      protocol: this.#protocol
    })
    this.#handshakes = new Handshakes({
      ...options,
      origin: this.origin,
      trustStore: this.#trustStore,
      send: (peer, frame) => this.#send(peer, frame),
      onVerdict: (peer, info, verdict) => this.#decide(peer, info, verdict)
    })
    this.events = new Events({ ...options, now: Date.now })
    this.#offenders = new Offenders({
      ...options,
      events: this.events,
      holds: this.#holds,
      transport: () => this.transport,
      neighbours: () => this.neighbours(),
      clusterOf: (peer) => this.#trustStore.verifiedChainOf(peer)?.cluster
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
    await this.transport.stop()
  }

  /** Publishes one batch without equal values. Resolves when the batch is on disk and handed to the neighbours. */
  async publish(changes: readonly { key: string; value: Value | undefined }[]): Promise<void> {
    this.#runner.run(this.#protocol.publish(changes, monotonicMs()))
    await this.#runner.idle
  }

  /** Returns the keys that this agent has published and not withdrawn, and those that wait for room. */
  ownKeys(): readonly string[] {
    return this.#protocol.ownKeys()
  }

  /** Takes a renewed certificate of this agent, for all later handshakes. Throws an Error if it does not verify. */
  renewed(chain: Uint8Array): void {
    const admitted = this.#trustStore.admit(this.origin, chain)
    if (admitted.kind === 'refused')
      throw new Error(`the renewed certificate does not verify: ${admitted.reason}`)
    this.#chain = chain
  }

  /** Returns the view. It is built again when records, or the addresses of this host, have changed since the last call. */
  view(): MeshView {
    return this.#view.get()
  }

  neighbour(origin: Origin): Neighbour | undefined {
    const neighbour = this.#neighbours.get(origin)
    return neighbour && { ...neighbour, rttMs: this.#protocol.rtt(origin) }
  }

  neighbours(): readonly Origin[] {
    return this.#neighbours.origins()
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
    return this.#handshakes.refusal(origin)
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

  /**
   * Returns the milliseconds since a neighbour was last known to have the latest records of this agent, counted from
   * the first neighbour at the earliest; 0 without neighbours.
   */
  ownUnheldMs(): number {
    const { connectedMs } = this.#neighbours
    if (connectedMs === undefined) return 0
    return monotonicMs() - Math.max(connectedMs, this.#protocol.ownHeldMs() ?? -Infinity)
  }

  /** Returns the milliseconds without any control connection; 0 while there is one. */
  aloneMs(): number {
    return this.#neighbours.aloneMs()
  }

  /** Called when the store has lost the replica: writes all states from memory again, before all later writes. */
  rewrite(): void {
    this.#runner.rewrite(this.#protocol.origins())
  }

  /** False while records may be missing only on this disk. A missing record is then no reason to delete anything. */
  get isWhole(): boolean {
    return !this.#gaps.isOpen
  }

  /** Present and past problems of the store since the start, as lines for `meshctl status`. */
  get warnings(): readonly string[] {
    const { diskFault } = this.#runner
    return [...this.#warnings, ...(diskFault === undefined ? [] : [`store: ${diskFault}`])]
  }

  async #restore(): Promise<void> {
    const { log } = this.#options
    if (this.#stored === undefined) throw new Error('restored twice')
    const { origins, parts } = this.#stored
    this.#stored = undefined
    const isAdmitted = ({ origin, chain }: StoredOrigin) => {
      if (origin === this.origin || chain === undefined) return true
      const verdict = this.#trustStore.admit(origin, chain)
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
    if (this.#gaps.tick(nowMs, this.#neighbours.size > 0)) this.#options.onChange()
    this.#runner.retry(nowMs)
    this.#holds.tick(nowMs)
    this.#checks.tick(nowMs)
    this.#offenders.tick(nowMs)
    this.events.tick(nowMs)
  }

  #receive(peer: Origin, frame: Uint8Array): void {
    const { metrics } = this.#options
    metrics.frames.inc({ direction: 'in' })
    metrics.frameBytes.inc({ direction: 'in' }, frame.length)
    if (this.#handshakes.receive(peer, frame)) return
    const nowMs = monotonicMs()
    this.#checks.charge(peer, nowMs, () =>
      this.#runner.runOf(peer, this.#protocol.receive(peer, frame, nowMs))
    )
  }

  #decide(peer: Origin, info: ConnectionInfo, outcome: Verdict): void {
    const { log, metrics, onHandshake, onChange } = this.#options
    if (outcome.kind === 'refused') {
      const { code, detail, byPeer } = outcome
      this.#count(`handshake ${code}`)
      const fields = { address: info.address, code, detail, byPeer }
      const line = { text: 'handshake refused', fields }
      this.#offenders.tell('refused', peer, { reason: `handshake ${code}: ${detail}`, line })
      this.#handshakes.refused(peer, { code, detail, byPeer })
      onHandshake({ kind: 'refused', peer, code, detail, byPeer })
      return this.transport.disconnect(peer, detail)
    }
    const kept = this.#trustStore.add(outcome.chain)
    if (kept.kind === 'refused') {
      this.#count('handshake certificate')
      this.#handshakes.refused(peer, { code: 'certificate', detail: kept.reason, byPeer: false })
      onHandshake({ kind: 'refused', peer, code: 'certificate', detail: kept.reason, byPeer: false })
      return this.transport.disconnect(peer, kept.reason)
    }
    log.info(
      { peer, cluster: outcome.chain.cluster, address: info.address, software: outcome.software },
      'neighbour up'
    )
    this.#handshakes.accepted(peer)
    this.#neighbours.add(peer, info)
    metrics.neighbours.set(this.#neighbours.size)
    this.transport.setAuthenticated(peer)
    this.#runner.run(this.#protocol.peerUp(peer, monotonicMs()))
    onHandshake({ kind: 'accepted', peer, cluster: outcome.chain.cluster })
    onChange()
  }

  #part(peer: Origin, reason: string): void {
    this.#handshakes.end(peer)
    this.#holds.forget(peer)
    if (!this.#neighbours.remove(peer)) return
    this.#offenders.tell('disconnected', peer, { reason })
    this.#options.metrics.neighbours.set(this.#neighbours.size)
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
        for (const origin of effect.origins) {
          if (origin !== this.origin)
            this.#trustStore.setDeparted(origin, this.#protocol.records(origin).size === 0)
        }
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
    const { nodeSeed, listen, log } = this.#options
    return createTransport({
      seed: nodeSeed,
      listen,
      isBanned: (peer) => this.#offenders.isBanned(peer),
      isMember: (peer) => this.#trustStore.isAdmitted(peer),
      log: (event, fields) => log.debug(fields, event),
      handlers: {
        neighbourUp: (peer, info) => this.#handshakes.begin(peer, info, this.#chain),
        frame: (peer, frame) => this.#receive(peer, frame),
        neighbourDown: (peer, reason) => this.#part(peer, reason)
      }
    })
  }
}
