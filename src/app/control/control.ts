// The control plane of one agent in one mesh: connections, handshakes, replication, and the view that comes of them.
// Invariants:
//  1. Nothing but the handshake is exchanged with a neighbour before both sides have proved their certificates.
//  2. An own batch is on disk before any neighbour sees it; so a crash never takes back what was said. Only while the disk takes
//     nothing (full, read-only) the mesh goes on from memory, status says so, and the whole state is written once it can be; a
//     crash in that time costs a new epoch and nothing else.
//  3. Effects are carried out in the order in which the protocol gave them.
//  4. Who sends a large state is not read from while a part of it is on its way to the disk: what a kill -9 loses of it is a part,
//     and what waits for a slow disk is bounded by the stream's window.
import type { Crypto } from '../../core/model/crypto.ts'
import type { Liveness } from '../../core/replication/failure/failure-detector.ts'
import { isPosition } from '../../core/replication/head.ts'
import type { ClusterName, Origin, Value } from '../../core/model/values.ts'
import type { LeftOut } from '../../core/replication/own-records.ts'
import {
  createProtocol,
  type Effect,
  type Persist,
  type PersistPart,
  type Protocol
} from '../../core/replication/protocol.ts'
import { createBook, type Book } from '../../core/trust/book.ts'
import {
  createHandshake,
  type Handshake,
  type HandshakeOutcome as DoorOutcome
} from '../../core/trust/handshake.ts'
import { createViewBuilder, type ViewBuilder } from '../../core/view/build-view.ts'
import { originOf, publicKeyOf } from '../../core/model/identity.ts'
import type { MeshView } from '../../core/view/view.ts'
import { createTransport, type Transport } from '../../io/p2p/transport.ts'
import type { LoadedReplica, Store, StoredOrigin } from '../../io/store/store.ts'
import { monotonicMs } from '../observe/clock.ts'
import { sentence } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { Refusals } from './refusals.ts'

// Heads go out every fifth tick; timeouts of pulls and pings are checked on each.
const TICK_MS = 200
// A disk that is full is tried again this often (invariant 2).
const PERSIST_RETRY_MS = 1000
// Any neighbour tells of every origin at once and again each second; pulling what it told of takes a few round trips.
const GAPS_CLOSED_MS = 5000
// Effects that are carried out and not forgotten yet: few beside what a burst holds.
const CARRIED_MAX = 1024
// Handshakes are tried again within minutes; a member that is not dialled any more leaves no reason behind.
const REFUSAL_MS = 600_000
const REFUSED_MAX = 256
// A lost disk costs one new epoch, a second agent with this key one for nearly each state that either of them signs.
const CLONE_ROLLBACKS = 3
const CLONE_MS = 60_000
// A page of `meshctl status`; the log has them all.
const WARNINGS_MAX = 20

export interface ControlOptions {
  readonly crypto: Crypto
  readonly store: Store
  readonly log: Log
  readonly metrics: Metrics
  readonly nodeSeed: Uint8Array
  readonly meshId: Uint8Array
  readonly cluster: ClusterName
  /** Encoded Chain down to this agent's certificate; asked again after `renewed`. */
  readonly chain: Uint8Array
  readonly listen: readonly string[]
  readonly software: string
  /** The view may have changed. */
  readonly onChange: () => void
  /** What cannot be published of what was given to `publish`, when it changes. */
  readonly onLeftOut: (leftOut: LeftOut) => void
  /** A handshake ended; how `join` learns whether a member took it. */
  readonly onHandshake: (outcome: HandshakeOutcome) => void
}

export type HandshakeOutcome =
  | { readonly kind: 'accepted'; readonly peer: Origin; readonly cluster: ClusterName }
  | {
      readonly kind: 'refused'
      readonly peer: Origin
      readonly code: string
      readonly detail: string
      readonly byPeer: boolean
    }

export interface HandshakeRefusal {
  readonly code: string
  readonly detail: string
  readonly byPeer: boolean
  /** Monotonic. */
  readonly atMs: number
}

export interface Neighbour {
  readonly origin: Origin
  readonly address: string
  readonly inbound: boolean
  readonly rttMs: number | undefined
}

export class Control {
  readonly origin: Origin
  readonly transport: Transport
  readonly #options: ControlOptions
  readonly #book: Book
  readonly #protocol: Protocol
  /** Until it is restored: it is as large as the replica. */
  #stored: LoadedReplica | undefined
  readonly #views: ViewBuilder
  readonly #handshakes = new Map<Origin, Met>()
  readonly #neighbours = new Map<Origin, Omit<Neighbour, 'rttMs'>>()
  readonly #effects: Effect[] = []
  /** So many of them are carried out: taking each off the front would cost as much as all that wait. */
  #carried = 0
  #draining: Promise<void> | undefined
  #busy = false
  #timer: NodeJS.Timeout | undefined
  #view: MeshView | undefined
  #chain: Uint8Array
  #diskFault: string | undefined
  readonly #warnings = new Set<string>()
  /** Neighbours that are not read from (invariant 4). */
  readonly #held = new Set<Origin>()
  /** Origins whose latest steps the disk did not take. */
  readonly #unsaved = new Set<Origin>()
  #savedMs = 0
  /** The disk had lost what others had said; set until a neighbour has had time to say it again. */
  #hasGaps: boolean
  #toldSinceMs: number | undefined
  readonly #refused = new Map<Origin, HandshakeRefusal>()
  /** When others' signatures in our name were last seen; the latest few. */
  readonly #rollbackMs: number[] = []
  /** Since when there is any neighbour, or none. */
  #connectedMs: number | undefined
  #aloneMs = monotonicMs()
  /** Counts since start, by reason. */
  readonly refusals = new Refusals()

  constructor(options: ControlOptions) {
    const { crypto, meshId, nodeSeed } = options
    this.#options = options
    this.#chain = options.chain
    this.origin = originOf(crypto.publicKeyOf(nodeSeed))
    this.#book = createBook({ crypto, meshId })
    const admitted = this.#book.admit(this.origin, options.chain)
    if (admitted.kind === 'refused')
      throw new Error(`our own certificate does not verify: ${admitted.reason}`)
    const book = this.#book
    const stored = options.store.loadReplica()
    this.#stored = stored
    this.#hasGaps = stored.lost || stored.dropped.length > 0
    this.#protocol = createProtocol({
      self: this.origin,
      selfSeed: nodeSeed,
      meshId,
      crypto,
      admission: {
        isAdmitted: (origin) => book.isAdmitted(origin),
        admit: (origin, chain) => book.admit(origin, chain),
        chainOf: (origin) => book.chainOf(origin),
        publicKeyOf
      },
      incarnation: Math.max(0, Date.now()),
      epochFloor: epochFloor(this.origin, stored, options.store.counters()?.epoch)
    })
    this.#views = createViewBuilder()
    this.transport = createTransport({
      seed: nodeSeed,
      listen: options.listen,
      log: (event, fields) => options.log.debug(fields, event),
      handlers: {
        neighbourUp: (peer, info) => this.#meet(peer, info),
        frame: (peer, frame) => this.#receive(peer, frame),
        neighbourDown: (peer, reason) => this.#part(peer, reason)
      }
    })
  }

  /** Restores the replica from disk, then opens the doors. Errors: TransportError. */
  async start(): Promise<void> {
    await this.#restore()
    await this.transport.start()
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#draining
    await this.transport.stop()
  }

  /** One batch; changes that change nothing are dropped. Resolves when it is on disk and on its way. */
  async publish(changes: readonly { key: string; value: Value | undefined }[]): Promise<void> {
    this.#run(this.#protocol.publish(changes, monotonicMs()))
    await this.#draining
  }

  /** Keys that this agent has published and not withdrawn, or that wait for room. */
  ownKeys(): readonly string[] {
    return this.#protocol.ownKeys()
  }

  renewed(chain: Uint8Array): void {
    const admitted = this.#book.admit(this.origin, chain)
    if (admitted.kind === 'refused')
      throw new Error(`the renewed certificate does not verify: ${admitted.reason}`)
    this.#chain = chain
  }

  view(): MeshView {
    this.#view ??= this.#views.build({
      self: this.#options.cluster,
      selfOrigin: this.origin,
      book: this.#book,
      origins: this.#protocol.origins(),
      records: (origin) => this.#protocol.records(origin).values(),
      version: (origin) => this.#protocol.head(origin),
      record: (origin, key) => this.#protocol.records(origin).get(key),
      keysSince: (origin, version) =>
        isPosition(version) ? this.#protocol.keysSince(origin, version) : undefined
    })
    return this.#view
  }

  neighbour(origin: Origin): Neighbour | undefined {
    const neighbour = this.#neighbours.get(origin)
    return neighbour && { ...neighbour, rttMs: this.#protocol.rtt(origin) }
  }

  neighbours(): readonly Origin[] {
    return [...this.#neighbours.keys()]
  }

  /** Operations known of and not held. */
  lag(origin: Origin): number {
    return this.#protocol.lag(origin)
  }

  /** As far as the whole mesh can tell, also of members that are no neighbours. For people: nothing is withdrawn for it. */
  liveness(origin: Origin): Liveness {
    return this.#protocol.liveness(origin)
  }

  /** Why the latest handshake with this member ended; undefined: it was accepted, or there was none lately. */
  refusal(origin: Origin): HandshakeRefusal | undefined {
    const found = this.#refused.get(origin)
    return found === undefined || monotonicMs() - found.atMs > REFUSAL_MS ? undefined : found
  }

  /** Two states were signed for one position of this origin: two agents use its key. */
  isFrozen(origin: Origin): boolean {
    return this.#protocol.isFrozen(origin)
  }

  /** Another agent signs states in this agent's name. */
  get isCloned(): boolean {
    const sinceMs = monotonicMs() - CLONE_MS
    return this.#rollbackMs.filter((atMs) => atMs > sinceMs).length >= CLONE_ROLLBACKS
  }

  /** Milliseconds since a neighbour was last known to hold this agent's records, or since there are neighbours; 0: there are none. */
  ownUnheldMs(): number {
    if (this.#connectedMs === undefined) return 0
    return monotonicMs() - Math.max(this.#connectedMs, this.#protocol.ownHeldMs() ?? -Infinity)
  }

  /** Milliseconds without any control connection. */
  aloneMs(): number {
    return this.#neighbours.size > 0 ? 0 : monotonicMs() - this.#aloneMs
  }

  /** The store has lost the replica: all that is in memory is written whole again, before anything that comes after. */
  rewrite(): void {
    const origins = this.#protocol.origins()
    for (const origin of origins) this.#unsaved.add(origin)
    this.#run(origins.flatMap((origin) => this.#protocol.whole(origin) ?? []))
  }

  /** False: what is missing in the view may only be missing on this disk, and is no reason to delete anything. */
  get isWhole(): boolean {
    return !this.#hasGaps
  }

  /** What is wrong with the store, or was found wrong since the start. */
  get warnings(): readonly string[] {
    return [...this.#warnings, ...(this.#diskFault === undefined ? [] : [`store: ${this.#diskFault}`])]
  }

  async #restore(): Promise<void> {
    const { log } = this.#options
    if (this.#stored === undefined) throw new Error('restored twice')
    const { origins, parts } = this.#stored
    this.#stored = undefined
    const isAdmitted = ({ origin, chain }: StoredOrigin) => {
      if (origin === this.origin || chain === undefined) return true
      const verdict = this.#book.admit(origin, chain)
      if (verdict.kind === 'refused')
        log.warn({ origin, reason: verdict.reason }, 'a stored origin is not admitted any more')
      return verdict.kind === 'admitted'
    }
    this.#run(this.#protocol.restore(origins.filter(isAdmitted), parts))
    await this.#draining
  }

  #tick(): void {
    const nowMs = monotonicMs()
    this.#run(this.#protocol.tick(nowMs))
    if (this.#hasGaps) this.#closeGaps(nowMs)
    if (this.#unsaved.size === 0 || nowMs - this.#savedMs < PERSIST_RETRY_MS) return
    this.#savedMs = nowMs
    this.#run([...this.#unsaved].flatMap((origin) => this.#protocol.whole(origin) ?? []))
  }

  #closeGaps(nowMs: number): void {
    if (this.#neighbours.size === 0) this.#toldSinceMs = undefined
    else this.#toldSinceMs ??= nowMs
    if (this.#toldSinceMs === undefined || nowMs - this.#toldSinceMs < GAPS_CLOSED_MS) return
    this.#hasGaps = false
    this.#options.onChange()
  }

  // ------------------------------------------------------------------ connections

  #meet(peer: Origin, info: { inbound: boolean; address: string }): void {
    const { crypto, nodeSeed, meshId, software } = this.#options
    const handshake = createHandshake({
      crypto,
      self: { origin: this.origin, seed: nodeSeed, meshId, chain: this.#chain, software },
      remote: peer,
      book: this.#book,
      initiator: !info.inbound,
      nowMs: Date.now()
    })
    this.#handshakes.set(peer, { handshake, info })
    for (const frame of handshake.start()) this.#send(peer, frame)
  }

  #receive(peer: Origin, frame: Uint8Array): void {
    const { metrics } = this.#options
    metrics.frames.inc({ direction: 'in' })
    metrics.frameBytes.inc({ direction: 'in' }, frame.length)
    const met = this.#handshakes.get(peer)
    if (met === undefined) {
      const effects = this.#protocol.receive(peer, frame, monotonicMs())
      if (effects.some(({ kind }) => kind === 'persistPart')) this.#hold(peer)
      return this.#run(effects)
    }
    const { send, outcome } = met.handshake.receive(frame, Date.now())
    for (const reply of send) this.#send(peer, reply)
    if (outcome !== undefined) this.#decide(peer, met.info, outcome)
  }

  #decide(peer: Origin, info: Met['info'], outcome: DoorOutcome): void {
    const { log, metrics, onHandshake, onChange } = this.#options
    this.#handshakes.delete(peer)
    if (outcome.kind === 'refused') {
      const { code, detail, byPeer } = outcome
      log.warn({ peer, address: info.address, code, detail, byPeer }, 'handshake refused')
      this.#count(`handshake ${code}`)
      this.#keepRefusal(peer, { code, detail, byPeer })
      onHandshake({ kind: 'refused', peer, code, detail, byPeer })
      return this.transport.disconnect(peer, detail)
    }
    const kept = this.#book.add(outcome.chain)
    if (kept.kind === 'refused') {
      this.#count('handshake certificate')
      this.#keepRefusal(peer, { code: 'certificate', detail: kept.reason, byPeer: false })
      onHandshake({ kind: 'refused', peer, code: 'certificate', detail: kept.reason, byPeer: false })
      return this.transport.disconnect(peer, kept.reason)
    }
    log.info(
      { peer, cluster: outcome.chain.cluster, address: info.address, software: outcome.software },
      'neighbour up'
    )
    this.#refused.delete(peer)
    this.#connectedMs ??= monotonicMs()
    this.#neighbours.set(peer, { origin: peer, ...info })
    metrics.neighbours.set(this.#neighbours.size)
    this.transport.setAuthenticated(peer)
    this.#run(this.#protocol.peerUp(peer, monotonicMs()))
    onHandshake({ kind: 'accepted', peer, cluster: outcome.chain.cluster })
    onChange()
  }

  #keepRefusal(peer: Origin, refusal: Omit<HandshakeRefusal, 'atMs'>): void {
    this.#refused.delete(peer) // so that the oldest stands first
    this.#refused.set(peer, { ...refusal, atMs: monotonicMs() })
    for (const oldest of this.#refused.keys()) {
      if (this.#refused.size <= REFUSED_MAX) break
      this.#refused.delete(oldest)
    }
  }

  #part(peer: Origin, reason: string): void {
    this.#handshakes.delete(peer)
    if (!this.#neighbours.delete(peer)) return
    if (this.#neighbours.size === 0) {
      this.#connectedMs = undefined
      this.#aloneMs = monotonicMs()
    }
    this.#options.metrics.neighbours.set(this.#neighbours.size)
    this.#options.log.info({ peer, reason }, 'neighbour down')
    this.#run(this.#protocol.peerDown(peer))
    this.#options.onChange()
  }

  #send(peer: Origin, frame: Uint8Array): void {
    const { metrics } = this.#options
    metrics.frames.inc({ direction: 'out' })
    metrics.frameBytes.inc({ direction: 'out' }, frame.length)
    this.transport.send(peer, frame) // false: the neighbour is being reset, and pulls what it missed
  }

  // ------------------------------------------------------------------ effects

  /** Carries the effects out: at once where nothing waits for the disk, else behind it (invariant 3). */
  #run(effects: readonly Effect[]): void {
    for (const effect of effects) this.#effects.push(effect) // not spread: they may be more than a call takes
    if (!this.#busy) this.#draining = this.#drain()
  }

  async #drain(): Promise<void> {
    this.#busy = true
    try {
      for (;;) {
        const effect = this.#effects[this.#carried++]
        if (effect === undefined) break
        if (effect.kind === 'persist') await this.#persist(effect)
        else if (effect.kind === 'persistPart' || effect.kind === 'dropParts') await this.#keep(effect)
        else this.#act(effect)
        if (this.#carried >= CARRIED_MAX) this.#forgetCarried()
      }
    } finally {
      this.#forgetCarried()
      this.#busy = false
    }
  }

  #forgetCarried(): void {
    this.#effects.splice(0, this.#carried)
    this.#carried = 0
  }

  #act(effect: Exclude<Effect, Persist | Keeping>): void {
    const { log, store } = this.#options
    switch (effect.kind) {
      case 'send':
        return this.#send(effect.to, effect.frame)
      case 'whenSent':
        return this.transport.whenSent(effect.to, () => this.#run(this.#protocol.sent(effect.to)))
      case 'changed':
        for (const origin of effect.origins) {
          if (origin !== this.origin)
            this.#book.setDeparted(origin, this.#protocol.records(origin).size === 0)
        }
        this.#view = undefined
        return this.#options.onChange()
      case 'refused':
        return this.#count(effect.reason)
      case 'leftOut':
        return this.#options.onLeftOut(effect.leftOut)
      case 'abort':
        return this.transport.disconnect(effect.peer, effect.reason)
      case 'ownRollback':
        this.#rollbackMs.push(monotonicMs())
        if (this.#rollbackMs.length > CLONE_ROLLBACKS) this.#rollbackMs.shift()
        return this.#warn(`the store had lost what was published: epoch ${effect.epoch} starts`)
      case 'damaged':
        this.#hasGaps = true
        this.#warn(`stored records of ${effect.origin} are damaged (${effect.reason}); they are pulled again`)
        return void store
          .removeOrigin(effect.origin)
          .catch((error: unknown) => log.error({ err: error }, 'cannot remove them'))
      default:
        return effect satisfies never
    }
  }

  /** Own batches are synced; others' can be pulled again. What the disk did not take is written whole, later (`#tick`). */
  async #persist(batch: Persist): Promise<void> {
    const { store, log } = this.#options
    const own = batch.origin === this.origin
    if (this.#unsaved.has(batch.origin) && !batch.replace) return
    try {
      if (own) await this.#keepEpoch(batch.epoch)
      if (!(await store.persist(batch, { sync: own }))) {
        const whole = this.#protocol.whole(batch.origin) // a part was not taken: the disk was full, or fails
        if (whole) await store.persist(whole, { sync: own })
      }
      this.#unsaved.delete(batch.origin)
      if (this.#unsaved.size > 0 || this.#diskFault === undefined) return
      this.#diskFault = undefined
      log.info('the store can be written again; nothing is missing in it')
    } catch (error) {
      this.#unsaved.add(batch.origin)
      if (this.#diskFault === undefined) log.error({ err: error, own }, 'cannot write to the store')
      this.#diskFault = sentence(error)
    }
  }

  /** What is lost of it is pulled again: nothing depends on it. */
  async #keep(effect: Keeping): Promise<void> {
    const { store, log } = this.#options
    try {
      if (effect.kind === 'persistPart') await store.persistPart(effect)
      else await store.dropParts(effect.origin)
    } catch (error) {
      log.debug({ err: error, origin: effect.origin }, 'an unfinished state is not kept')
    }
    if (effect.kind === 'persistPart') this.#release()
  }

  #hold(peer: Origin): void {
    this.#held.add(peer)
    this.transport.pause(peer)
  }

  #release(): void {
    const isPart = ({ kind }: Effect, at: number) => at >= this.#carried && kind === 'persistPart'
    if (this.#effects.some(isPart)) return // of another neighbour
    const held = [...this.#held]
    this.#held.clear()
    for (const peer of held) this.transport.resume(peer) // its next part may be here, and hold it again
  }

  /** The epoch is kept beside the replica, too: whoever loses the replica must write above it. */
  async #keepEpoch(epoch: number): Promise<void> {
    const { store } = this.#options
    if ((store.counters()?.epoch ?? 0) < epoch) await store.saveCounters({ epoch, seqReserved: 0 })
  }

  #warn(warning: string): void {
    this.#options.log.warn(warning)
    if (this.#warnings.size < WARNINGS_MAX) this.#warnings.add(warning)
  }

  #count(reason: string): void {
    this.#options.metrics.refused.inc({ reason: this.refusals.count(reason) })
  }
}

type Keeping = PersistPart | Extract<Effect, { kind: 'dropParts' }>

interface Met {
  readonly handshake: Handshake
  readonly info: { readonly inbound: boolean; readonly address: string }
}

/**
 * The lowest epoch to write in. With the own replica lost, above all that this disk remembers of it; what it does not remember,
 * the neighbours tell (protocol, S5).
 */
function epochFloor(self: Origin, stored: LoadedReplica, keptEpoch: number | undefined): number {
  const isLost = stored.lost || stored.dropped.some(({ origin }) => origin === self)
  const known = Math.max(keptEpoch ?? 0, stored.seen.get(self)?.epoch ?? 0)
  return isLost ? known + 1 : Math.max(1, known)
}
