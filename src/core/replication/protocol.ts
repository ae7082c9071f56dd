// Replication between agents, sans I/O: frames and times in, effects out. The same code runs in the daemon and in the
// simulator. docs/replication.md tells it in one page.
// A small mesh is direct: own batches are pushed to everyone, everything else is told by heads and pulled. A larger one
// pushes on along a tree per origin (feeders.ts), tells heads in the intervals, and pulls what both have missed.
// Invariants (P1–P5 of replica.ts hold for every origin)
//   S1. A batch of our own is persisted before any frame that tells of it: the effects are carried out in their order.
//   S2. Nothing of an origin is taken before its certificate chain is admitted.
//   S3. A neighbour's word alone never changes what we hold, not even of our own past: it takes a head with the origin's
//       signature. A false claim costs one small pull.
//   S4. Whoever is behind hears of it within a heads interval, from any neighbour that is ahead, and pulls until in step.
//   S5. An origin that finds a head of its own, signed, that is not in its store, starts a new epoch above it.
//   S6. receive() answers any bytes with effects; it never throws.
//   S7. A clock that jumps and a machine that was paused blame no neighbour: time without our own ticks is no silence of theirs
//       (Lifeguard: Dadgar, Phillips, Currey, 2018).
import { deltaFrames } from './delta-frames.ts'
import type { Effect, Persist, ProtocolOptions, StoredOrigin, StoredParts } from './effects.ts'
import {
  checkOf,
  comparePositions,
  readHead,
  toSignedHead,
  verifyHead,
  type Head,
  type Position
} from './head.ts'
import { PROTOCOL_LIMITS, type ProtocolLimits } from './limits.ts'
import { CHAIN_BYTES_MAX } from '../wire/limits.ts'
import { HeadsDigest } from './digest.ts'
import { FailureDetector, type Flood, type Liveness } from './failure/failure-detector.ts'
import { Feeders, FEEDERS_MAX, type Advice } from './push/eager-peers.ts'
import { keyOf, type Origin } from '../model/values.ts'
import { Neighbour, type Claim } from './neighbour.ts'
import { parseOrigin } from '../model/identity.ts'
import { OwnRecords } from './own-records.ts'
import { Pulls, type Choice, type DuePull } from './pull/pull-scheduler.ts'
import { operationBytes, type Operation, type StoredRecord, type ValueChange } from './record.ts'
import { ShadowBudget, type ShadowStep } from './partial-state.ts'
import { SteadyClock } from './steady-clock.ts'
import { TokenBucket } from './token-bucket.ts'
import { equalBytes } from '../model/bytes.ts'
import { Replica, type Change, type Proof, type Verdict, type Written } from './replica.ts'
import {
  decodeFrame,
  decodeSignedHead,
  encodeFrame,
  encodeMessage,
  wire,
  type CreditMessage,
  type DeltaMessage,
  type FrameMessage,
  type HeadsMessage,
  type PingMessage,
  type PullMessage
} from '../wire/messages.ts'

export type * from './effects.ts'

export function createProtocol(options: ProtocolOptions): Protocol {
  return new Protocol(options)
}

export class Protocol {
  readonly #options: ProtocolOptions
  readonly #limits: ProtocolLimits
  readonly #own: Replica
  readonly #replicas = new Map<Origin, Replica>()
  readonly #neighbours = new Map<Origin, Neighbour>()
  readonly #pulls: Pulls
  readonly #shadows: ShadowBudget
  readonly #savedChains = new Map<Origin, Uint8Array>()
  /** Origins whose chain was refused, until when they are left alone. */
  readonly #denied = new Map<Origin, number>()
  readonly #digest = new HeadsDigest()
  readonly #feeders = new Feeders()
  /** Own changes that wait for a token: one per key, so bounded as the keys are. */
  readonly #unwritten = new Map<string, Change>()
  #ownRecords: OwnRecords | undefined
  readonly #batches: TokenBucket
  readonly #failures: FailureDetector
  /** An own position that a neighbour should have by now, and when one was last known to have it or a later one. */
  #ownWatched: Position | undefined
  #ownHeldMs: number | undefined
  readonly #clock = new SteadyClock()
  /** Neighbours whose send queue has as many answers as it may. */
  #awaiting = 0
  #headsMs = -Infinity
  #toldMs = -Infinity
  #effects: Effect[] = []

  constructor(options: ProtocolOptions) {
    const publicKey = options.admission.publicKeyOf(options.self)
    if (!publicKey || !equalBytes(publicKey, options.crypto.publicKeyOf(options.selfSeed))) {
      throw new Error('the seed is not that of the PeerId')
    }
    this.#options = options
    this.#limits = { ...PROTOCOL_LIMITS, ...options.limits }
    this.#pulls = new Pulls(this.#limits)
    this.#batches = new TokenBucket({
      burst: this.#limits.batchesBurst,
      perSecond: this.#limits.batchesPerSecond
    })
    this.#shadows = new ShadowBudget(this.#limits)
    const { self, selfSeed, meshId, crypto, admission } = options
    this.#failures = new FailureDetector({
      self,
      selfSeed,
      meshId,
      crypto,
      memberKey: (origin) => (admission.isAdmitted(origin) ? admission.publicKeyOf(origin) : undefined),
      originsMax: this.#limits.originsMax,
      suspectMs: this.#limits.suspectMs,
      incarnation: options.incarnation ?? 0,
      neighbours: this.#neighbours
    })
    this.#own = this.#newReplica(options.self, publicKey)
    this.#own.raiseEpoch(options.epochFloor ?? 1)
    this.#replicas.set(options.self, this.#own)
  }

  // ------------------------------------------------------------------ what happens

  /** What the store holds, once, before anything else. What is unusable comes back as `damaged` or `dropParts`. */
  restore(stored: Iterable<StoredOrigin>, unfinished: Iterable<StoredParts> = []): readonly Effect[] {
    return this.#run(() => {
      for (const state of stored) {
        const reason = this.#restoreOne(state)
        if (reason !== undefined) this.#emit({ kind: 'damaged', origin: state.origin, reason })
      }
      for (const parts of unfinished) {
        const reason = this.#restoreParts(parts)
        if (reason === undefined) continue
        this.#refuse(this.#options.self, `unfinished state: ${reason}`)
        this.#emit({ kind: 'dropParts', origin: parts.origin })
      }
      const origins = this.origins()
      if (origins.length > 0) this.#emit({ kind: 'changed', origins })
    })
  }

  /**
   * One batch of own changes; nothing at all when they change nothing. At once, unless too many came before: then they leave
   * with a later tick, together with what comes until then, the last change of each key.
   */
  publish(changes: readonly ValueChange[], callerMs: number): readonly Effect[] {
    return this.#run(() => {
      for (const { key, value } of changes)
        if (value && keyOf(value) !== key) throw new Error(`value of key ${keyOf(value)} published as ${key}`)
      this.#ownRecords ??= new OwnRecords({
        limits: this.#limits,
        read: (key) => (this.#unwritten.get(key) ?? this.#own.records.get(key))?.value,
        published: this.#own.records.values()
      })
      for (const change of this.#ownRecords.apply(changes)) this.#unwritten.set(change.key, change)
      const leftOut = this.#ownRecords.takeNews()
      if (leftOut !== undefined) this.#emit({ kind: 'leftOut', leftOut })
      this.#writeOwn(this.#clock.at(callerMs))
    })
  }

  /** Keys of this agent that are published, or about to be, or wait for room. */
  ownKeys(): readonly string[] {
    return [...new Set([...this.#own.records.keys(), ...(this.#ownRecords?.keys() ?? [])])]
  }

  /** The handshake with this neighbour has passed. */
  peerUp(peer: Origin, callerMs: number): readonly Effect[] {
    return this.#run(() => {
      const nowMs = this.#clock.at(callerMs)
      if (peer === this.#options.self) throw new Error('an agent is no neighbour of itself')
      this.#forgetPeer(peer)
      this.#neighbours.set(peer, new Neighbour(peer, nowMs))
      this.#sendAllHeads(peer)
      for (const frame of this.#failures.up(peer)) this.#send(peer, frame)
      this.#sendProofs([peer])
    })
  }

  peerDown(peer: Origin): readonly Effect[] {
    return this.#run(() => this.#forgetPeer(peer))
  }

  receive(peer: Origin, frame: Uint8Array, callerMs: number): readonly Effect[] {
    return this.#run(() => {
      const nowMs = this.#clock.at(callerMs)
      const neighbour = this.#neighbours.get(peer)
      if (!neighbour) return this.#refuse(peer, 'not connected')
      const message = decodeFrame(frame)
      if (!message) return this.#refuse(peer, 'malformed frame')
      neighbour.heard(nowMs)
      this.#failures.heard(peer)
      this.#dispatch(neighbour, message, nowMs)
      this.#startPulls(nowMs)
    })
  }

  /** As the effect `whenSent` asks for. */
  sent(peer: Origin): readonly Effect[] {
    return this.#run(() => {
      const neighbour = this.#neighbours.get(peer)
      if (!neighbour?.awaitsSent) return
      neighbour.awaitsSent = false
      neighbour.unsentBytes = 0
      this.#awaiting--
      for (const origin of neighbour.answers.ready) {
        if (neighbour.awaitsSent) return
        const replica = this.#replicas.get(origin)
        if (replica) this.#answer(neighbour, replica)
      }
    })
  }

  /** About every 200 ms. */
  tick(callerMs: number): readonly Effect[] {
    return this.#run(() => {
      const nowMs = this.#clock.at(callerMs)
      for (const vote of this.#failures.tick(nowMs)) this.#flood(vote) // S7
      this.#writeOwn(nowMs)
      this.#pulls.expire(nowMs)
      if (nowMs - this.#toldMs >= this.#limits.tellIntervalMs) {
        this.#toldMs = nowMs
        this.#tellChanged()
      }
      if (nowMs - this.#headsMs >= this.#limits.headsIntervalMs) {
        this.#headsMs = nowMs
        this.#everyInterval(nowMs)
      }
      this.#pingDue(nowMs)
      this.#startPulls(nowMs)
    })
  }

  // ------------------------------------------------------------------ what is known

  /** Everyone of whom a state is held, self included. */
  origins(): readonly Origin[] {
    return [...this.#replicas.values()].filter(({ head }) => head).map(({ origin }) => origin)
  }

  heads(): readonly Head[] {
    return [...this.#replicas.values()].flatMap(({ head }) => (head ? [head] : []))
  }

  head(origin: Origin): Head | undefined {
    return this.#replicas.get(origin)?.head
  }

  /** Encoded values by key; a batch is seen whole or not at all. */
  records(origin: Origin): ReadonlyMap<string, StoredRecord> {
    return this.#replicas.get(origin)?.records ?? NO_RECORDS
  }

  /** Keys of an origin whose records are not what they were at `since`, a head that was held; undefined: any may be. */
  keysSince(origin: Origin, since: Position): ReadonlySet<string> | undefined {
    return this.#replicas.get(origin)?.keysSince(since)
  }

  /** The whole state of an origin in one step, for a store that could not take the steps. */
  whole(origin: Origin): Persist | undefined {
    const replica = this.#replicas.get(origin)
    if (!replica?.head) return undefined
    const { head, records } = replica
    const chain = this.#options.admission.chainOf(origin)
    return {
      kind: 'persist',
      origin,
      head: encodeMessage(wire.SignedHead, toSignedHead(head)),
      epoch: head.epoch,
      seq: head.seq,
      replace: true,
      operations: [...records.values()],
      ...(chain ? { chain } : {})
    }
  }

  /** Operations known to exist at the origin but not held here; 0 = in step. */
  lag(origin: Origin): number {
    const held = this.#positionOf(origin)
    let highest: Position = held
    for (const { claims } of this.#neighbours.values()) {
      const claim = claims.get(origin)
      if (claim && comparePositions(claim, highest) > 0) highest = claim
    }
    return highest.epoch === held.epoch ? highest.seq - held.seq : highest.seq
  }

  /** Two heads were signed for one position: this origin stands still until it starts a new epoch. */
  isFrozen(origin: Origin): boolean {
    return this.#replicas.get(origin)?.proof !== undefined
  }

  /** What the bounds are about: bytes of unfinished deltas, and pulls under way. */
  load(): { readonly shadowBytes: number; readonly pulls: number } {
    return { shadowBytes: this.#shadows.used, pulls: this.#pulls.active }
  }

  peers(): readonly Origin[] {
    return [...this.#neighbours.keys()]
  }

  /** Milliseconds; undefined before the first pong. */
  rtt(peer: Origin): number | undefined {
    return this.#neighbours.get(peer)?.rttMs
  }

  /** When the last frame of this neighbour came, on the caller's clock; undefined when not connected. */
  silentSince(peer: Origin): number | undefined {
    const heardMs = this.#neighbours.get(peer)?.heardMs
    return heardMs === undefined ? undefined : this.#clock.toCaller(heardMs)
  }

  /** As far as the mesh can tell. Nothing is withdrawn for it: data stays until the tunnel is dead, too. */
  liveness(origin: Origin): Liveness {
    return this.#failures.liveness(origin, this.#replicas.size)
  }

  /** When a neighbour was last known to hold this agent's own records as they were then, on the caller's clock; undefined: never. */
  ownHeldMs(): number | undefined {
    return this.#ownHeldMs === undefined ? undefined : this.#clock.toCaller(this.#ownHeldMs)
  }

  #noteOwnHeld(position: Position, nowMs: number): void {
    if (comparePositions(position, this.#ownWatched ?? this.#own.position) < 0) return
    this.#ownWatched = this.#own.position
    this.#ownHeldMs = nowMs
  }

  // ------------------------------------------------------------------ frames

  #dispatch(neighbour: Neighbour, frame: FrameMessage, nowMs: number): void {
    const peer = neighbour.origin
    if (frame.delta) this.#onDelta(neighbour, frame.delta, nowMs)
    else if (frame.heads) this.#onHeads(neighbour, frame.heads, nowMs)
    else if (frame.pull) this.#onPull(neighbour, frame.pull)
    else if (frame.ping) this.#onPing(neighbour, frame.ping, nowMs)
    else if (frame.pong) neighbour.pong(frame.pong.id, nowMs)
    else if (frame.equivocation) this.#onProof(peer, frame.equivocation)
    else if (frame.suspicion || frame.beacon) this.#onLife(peer, frame, nowMs)
    else if (frame.credit) this.#onCredit(neighbour, frame.credit)
    else if (frame.prune) this.#onPrune(neighbour, frame.prune.origins)
    else if (frame.graft) for (const origin of frame.graft.origins) neighbour.muted.delete(origin as Origin)
    else this.#refuse(peer, 'unexpected frame')
  }

  #onHeads(neighbour: Neighbour, { heads }: HeadsMessage, nowMs: number): void {
    for (const { origin: name, epoch, seq, check } of heads) {
      const origin = this.#known(name) ?? parseOrigin(name)
      if (!origin) return this.#refuse(neighbour.origin, 'malformed origin')
      if (origin === this.#options.self) this.#noteOwnHeld({ epoch, seq }, nowMs)
      if (this.#isHeld(origin, { epoch, seq, check })) {
        neighbour.setInStep(origin)
        continue
      }
      if (!neighbour.claim(origin, { epoch, seq, check }, this.#limits.originsMax)) {
        return this.#refuse(neighbour.origin, 'too many origins')
      }
      if (!this.#isBehind(origin, { epoch, seq, check }, nowMs)) continue
      this.#pulls.want(origin, nowMs + this.#graceMs(neighbour, origin)) // S4
    }
  }

  /** How long the push of this origin's batch may still be under way when a neighbour tells of its head. */
  #graceMs(neighbour: Neighbour, origin: Origin): number {
    // Its own head comes after its push on the same stream.
    if (origin === neighbour.origin) return 0
    if (this.#neighbours.has(origin)) return this.#limits.pushGraceMs
    return this.#feeders.of(origin).length > 0 ? EAGER_GRACE_MS : 0
  }

  #onPing(neighbour: Neighbour, { id, digest }: PingMessage, nowMs: number): void {
    neighbour.pingedMs = nowMs
    this.#send(neighbour.origin, encodeFrame({ pong: { id } }))
    neighbour.mismatches = digest === this.#digest.value ? 0 : neighbour.mismatches + 1
    if (neighbour.mismatches === 0) this.#noteOwnHeld(this.#own.position, nowMs)
    // Once is a change under way. An older version sends no digest.
    if (digest !== 0 && neighbour.mismatches < MISMATCHES_MIN) return
    if (nowMs - neighbour.sliceMs < this.#limits.headsIntervalMs / 2) return
    neighbour.sliceMs = nowMs
    this.#sendSlice(neighbour)
  }

  #onPrune(neighbour: Neighbour, origins: readonly string[]): void {
    for (const name of origins) {
      const origin = this.#known(name)
      if (origin) neighbour.muted.add(origin)
    }
  }

  #onPull(neighbour: Neighbour, pull: PullMessage): void {
    const replica = this.#replicas.get(pull.origin as Origin)
    if (!replica?.head) return this.#refuse(neighbour.origin, 'pull of an unknown origin')
    neighbour.answers.open(replica, pull, this.#options.admission.chainOf(replica.origin))
    this.#answer(neighbour, replica)
  }

  #onCredit(neighbour: Neighbour, { origin, bytes }: CreditMessage): void {
    const replica = this.#replicas.get(origin as Origin)
    if (!replica) return this.#refuse(neighbour.origin, 'credit for an unknown origin')
    neighbour.answers.credit(replica.origin, bytes)
    this.#answer(neighbour, replica)
  }

  #answer(neighbour: Neighbour, replica: Replica): void {
    const roomBytes = this.#roomBytes()
    if (neighbour.unsentBytes < roomBytes) {
      for (const frame of neighbour.answers.frames(replica, this.#limits.partBytes)) {
        this.#send(neighbour.origin, frame)
        neighbour.unsentBytes += frame.length
        if (neighbour.unsentBytes >= roomBytes) break // A3
      }
    }
    if (neighbour.unsentBytes < roomBytes || neighbour.awaitsSent) return
    neighbour.awaitsSent = true
    this.#awaiting++
    this.#emit({ kind: 'whenSent', to: neighbour.origin })
  }

  /** For the answers to one neighbour; a part always. */
  #roomBytes(): number {
    const { partBytes, unsentBytesMax, allUnsentBytesMax } = this.#limits
    return Math.max(partBytes, Math.min(unsentBytesMax, allUnsentBytesMax / Math.max(1, this.#awaiting)))
  }

  #onDelta(neighbour: Neighbour, delta: DeltaMessage, nowMs: number): void {
    const peer = neighbour.origin
    const head = readHead(delta.head, this.#options.meshId)
    if (typeof head === 'string') return this.#refuse(peer, `${head} head`)
    const claim = { ...positionOf(head), check: checkOf(head) }
    if (head.origin === this.#options.self) return this.#onOwnHead(neighbour, head, claim)
    if (!this.#admits({ neighbour, origin: head.origin, claim, delta, nowMs })) return
    const replica = this.#replicaOf(head.origin)
    if (!replica) return this.#refuse(peer, 'too many origins')
    const asked = this.#pulls.isAsked(head.origin, peer)
    const heldSeq = replica.position.seq
    const verdict = replica.apply({ from: peer, head, delta, nowMs })
    if (verdict.kind === 'partial')
      return this.#onPart(neighbour, delta, { origin: head.origin, ...verdict, nowMs })
    if (this.#isEager && !asked) this.#regrow(head.origin, peer, verdict)
    else if (this.#isEager && verdict.kind === 'applied')
      this.#heed(head.origin, this.#feeders.pulled(head.origin, peer))
    this.#onVerdict({ neighbour, replica, claim, verdict, heldSeq, asked, nowMs })
  }

  #onPart(
    { origin: peer }: Neighbour,
    delta: DeltaMessage,
    { origin, bytes, nowMs }: { origin: Origin; bytes: number; nowMs: number }
  ): void {
    // An older version answers without a window, says not what a part goes on after, and knows no credit.
    const creditBytes = this.#pulls.progress(origin, { peer, bytes, nowMs, isOld: delta.afterSeq === 0 })
    if (creditBytes > 0) this.#send(peer, encodeFrame({ credit: { origin, bytes: creditBytes } }))
  }

  /** What a push, not asked for, says about the tree of its origin. */
  #regrow(origin: Origin, peer: Origin, verdict: Verdict): void {
    if (verdict.kind === 'applied') this.#heed(origin, this.#feeders.first(origin, peer))
    else if (verdict.kind === 'stale') this.#heed(origin, this.#feeders.again(origin, peer))
  }

  #heed(origin: Origin, { prune, graft }: Advice): void {
    if (prune !== undefined) this.#send(prune, encodeFrame({ prune: { origins: [origin] } }))
    if (graft !== undefined) this.#send(graft, encodeFrame({ graft: { origins: [origin] } }))
  }

  #onVerdict(context: {
    neighbour: Neighbour
    replica: Replica
    claim: Claim
    verdict: Verdict
    heldSeq: number
    asked: boolean
    nowMs: number
  }): void {
    const { neighbour, replica, claim, verdict, heldSeq, asked, nowMs } = context
    const { origin } = replica
    const peer = neighbour.origin
    switch (verdict.kind) {
      case 'applied':
        neighbour.claimAtLeast(origin, claim, this.#limits.originsMax)
        this.#persist(replica, verdict)
        this.#emit({ kind: 'changed', origins: [origin] })
        this.#spread(replica, {
          from: peer,
          // What was pulled is pulled by the others, too, each piece once, unless it is too small to matter.
          pushBytesMax: asked ? PULLED_PUSH_BYTES_MAX : this.#limits.partBytes,
          ...(verdict.replaced ? {} : { fromSeq: heldSeq, operations: verdict.operations })
        })
        return this.#reconsider(origin, peer, nowMs)
      case 'partial':
      case 'stray':
        return
      case 'stale':
        // So much it has, whatever it said before: no second pull for the same claim.
        if (this.#pulls.isAsked(origin, peer)) neighbour.claim(origin, claim, this.#limits.originsMax)
        else neighbour.claimAtLeast(origin, claim, this.#limits.originsMax)
        return this.#reconsider(origin, peer, nowMs)
      case 'gap':
        neighbour.claimAtLeast(origin, claim, this.#limits.originsMax)
        return this.#pulls.want(origin, nowMs)
      case 'equivocation':
        neighbour.claim(origin, claim, this.#limits.originsMax)
        this.#refuse(peer, 'equivocation')
        this.#sendProof(verdict.proof, [...this.#neighbours.keys()])
        return this.#pulls.settle(origin)
      case 'refused': {
        this.#refuse(peer, verdict.reason)
        const mismatch = verdict.reason === 'state hash mismatch'
        // A whole state of its own that is wrong says that the neighbour is at fault, until it says something new.
        if (!mismatch || this.#pulls.isFromZero(origin)) neighbour.unclaim(origin)
        else neighbour.claimAtLeast(origin, claim, this.#limits.originsMax)
        return this.#pulls.fail(origin, { peer, nowMs, fromZero: mismatch })
      }
      default:
        return verdict satisfies never
    }
  }

  /** A head that says it is ours. Signed by us and not in our store, it proves that the store was lost or set back. */
  #onOwnHead(neighbour: Neighbour, head: Head, claim: Claim): void {
    const { crypto, self } = this.#options
    const peer = neighbour.origin
    this.#pulls.settle(self)
    if (!verifyHead(crypto, crypto.publicKeyOf(this.#options.selfSeed), head)) {
      neighbour.unclaim(self)
      return this.#refuse(peer, 'bad signature') // S3
    }
    neighbour.claim(self, claim, this.#limits.originsMax)
    const order = comparePositions(head, this.#own.position)
    const unknown =
      order > 0 || (order === 0 && this.#own.head && !equalBytes(head.bytes, this.#own.head.bytes))
    if (unknown && head.epoch >= this.#own.epochFloor) this.#startEpoch(head.epoch + 1)
  }

  #onProof(peer: Origin, message: NonNullable<FrameMessage['equivocation']>): void {
    const { meshId, self, crypto, selfSeed, admission } = this.#options
    const first = readHead(message.first, meshId)
    const second = readHead(message.second, meshId)
    if (typeof first === 'string' || typeof second === 'string')
      return this.#refuse(peer, 'malformed equivocation')
    const { origin } = first
    if (origin === self) {
      const key = crypto.publicKeyOf(selfSeed)
      const holds = second.origin === self && [first, second].every((head) => verifyHead(crypto, key, head))
      if (holds && first.epoch >= this.#own.epochFloor) this.#startEpoch(first.epoch + 1)
      return
    }
    if (!admission.isAdmitted(origin)) return // S2
    if (!this.#replicaOf(origin)?.freeze({ first, second })) return
    this.#refuse(peer, 'equivocation')
    this.#pulls.settle(origin)
    this.#sendProof(
      { first, second },
      [...this.#neighbours.keys()].filter((other) => other !== peer)
    )
  }

  // ------------------------------------------------------------------ own state

  #startEpoch(epoch: number): void {
    this.#emit({ kind: 'ownRollback', epoch })
    this.#pushOwn(this.#own.rewrite(epoch, this.#options.selfSeed)) // S5
  }

  /** Pacing bounds how old a change can get, and how many batches others must take; nothing queues up. */
  #writeOwn(nowMs: number): void {
    if (this.#unwritten.size === 0 || !this.#batches.take(nowMs)) return
    const changes = [...this.#unwritten.values()]
    this.#unwritten.clear()
    this.#pushOwn(this.#own.write(changes, this.#options.selfSeed))
  }

  #pushOwn(written: Written): void {
    const { self } = this.#options
    if (written.kind === 'refused') return this.#refuse(self, written.reason)
    const { head } = this.#own
    if (written.kind === 'unchanged' || !head) return
    this.#persist(this.#own, written) // S1
    const fromSeq = written.replaced ? 0 : head.prevSeq
    const { operations } = written
    this.#spread(this.#own, { from: self, pushBytesMax: this.#limits.partBytes, fromSeq, operations })
    this.#emit({ kind: 'changed', origins: [self] })
  }

  #restoreOne(state: StoredOrigin): string | undefined {
    const { origin, chain, records } = state
    const head = this.#readStored(state)
    if (typeof head === 'string') return head
    const replica = this.#replicaOf(origin)
    const reason = replica?.restore(head, records)
    if (replica?.head && reason === undefined) this.#digest.set(replica.head)
    if (reason === undefined && chain) this.#savedChains.set(origin, chain)
    return reason
  }

  #restoreParts(parts: StoredParts): string | undefined {
    const head = this.#readStored(parts)
    if (typeof head === 'string') return head
    const { atSeq, lastSeq, records } = parts
    return parts.origin === this.#options.self
      ? 'of our own'
      : this.#replicaOf(parts.origin)?.restoreParts({ head, atSeq, lastSeq, records })
  }

  /** The head of something stored; its origin is admitted (S2). */
  #readStored({ origin, head: encoded, chain }: StoredOrigin): Head | string {
    const { admission, meshId, self } = this.#options
    const head = readHead(decodeSignedHead(encoded) ?? null, meshId)
    if (typeof head === 'string') return `${head} head`
    if (head.origin !== origin) return 'head of another origin'
    if (origin === self || admission.isAdmitted(origin)) return head
    const verdict = chain ? admission.admit(origin, chain) : { kind: 'refused' as const, reason: 'no chain' }
    return verdict.kind === 'refused' ? `not admitted: ${verdict.reason}` : head
  }

  // ------------------------------------------------------------------ pulling

  #startPulls(nowMs: number): void {
    this.#pulls.start(
      nowMs,
      (pull) => this.#choose(pull, nowMs),
      (pull, peer, windowBytes) => this.#ask(pull, peer, windowBytes)
    )
  }

  #choose({ origin, avoid }: DuePull, nowMs: number): Choice {
    let best: { readonly peer: Origin; readonly claim: Claim } | undefined
    let busy = false
    for (const { origin: peer, claims } of this.#neighbours.values()) {
      const claim = claims.get(origin)
      if (!claim || !this.#isBehind(origin, claim, nowMs)) continue
      if (this.#pulls.isBusy(peer, this.#neighbours.size)) {
        busy = true
        continue
      }
      const order = best ? comparePositions(claim, best.claim) : 1
      const free = best ? this.#pulls.activeWith(best.peer) - this.#pulls.activeWith(peer) : 0
      const better =
        !best || best.peer === avoid || (peer !== avoid && (order > 0 || (order === 0 && free > 0)))
      if (better) best = { peer, claim }
    }
    return best ?? (busy ? 'busy' : 'nobody')
  }

  #ask({ origin, fromZero }: DuePull, peer: Origin, windowBytes: number): void {
    const claim = this.#neighbours.get(peer)?.claims.get(origin)
    if (!claim) return
    const held = this.#positionOf(origin)
    // Of our own past, and of a state that differs at our very position, the signed head alone tells what is the matter.
    const headOnly = origin === this.#options.self || comparePositions(claim, held) === 0
    const { epoch, seq } = headOnly ? claim : fromZero ? { epoch: 0, seq: 0 } : held
    const begun = headOnly || fromZero ? undefined : this.#replicas.get(origin)?.resume(peer, claim)
    const place = begun ?? { epoch, fromSeq: seq }
    this.#send(peer, encodeFrame({ pull: { origin, ...place, window: windowBytes } }))
  }

  #isHeld(origin: Origin, claim: Claim): boolean {
    const head = this.#replicas.get(origin)?.head
    return !!head && comparePositions(claim, head) === 0 && claim.check === checkOf(head)
  }

  #isBehind(origin: Origin, claim: Claim, nowMs: number): boolean {
    if ((this.#denied.get(origin) ?? -Infinity) > nowMs) return false
    const replica = this.#replicas.get(origin)
    if (replica?.frozenAt(claim.epoch)) return false
    if (origin === this.#options.self && claim.epoch < this.#own.epochFloor) return false
    const order = comparePositions(claim, this.#positionOf(origin))
    return (
      order > 0 ||
      (order === 0 && claim.check !== 0 && !!replica?.head && claim.check !== checkOf(replica.head))
    )
  }

  /** After an answer of `peer`: in step with everyone, or pull on. */
  #reconsider(origin: Origin, peer: Origin, nowMs: number): void {
    for (const { claims } of this.#neighbours.values()) {
      const claim = claims.get(origin)
      if (claim && this.#isBehind(origin, claim, nowMs)) return this.#pulls.again(origin, peer)
    }
    this.#pulls.settle(origin)
  }

  #admits(context: {
    neighbour: Neighbour
    origin: Origin
    claim: Claim
    delta: DeltaMessage
    nowMs: number
  }): boolean {
    const { neighbour, origin, claim, delta, nowMs } = context
    const { admission } = this.#options
    const admitted = admission.isAdmitted(origin)
    if (delta.chain.length === 0) {
      if (!admitted && delta.part === 0) {
        // S2: the answer to a pull brings the chain.
        neighbour.claimAtLeast(origin, claim, this.#limits.originsMax)
        this.#pulls.want(origin, nowMs)
      }
      return admitted
    }
    if (delta.chain.length > CHAIN_BYTES_MAX) {
      this.#refuse(neighbour.origin, 'chain too long')
      return admitted
    }
    const known = admission.chainOf(origin)
    if (admitted && known && equalBytes(known, delta.chain)) return true
    const verdict = admission.admit(origin, new Uint8Array(delta.chain))
    if (verdict.kind === 'admitted') {
      this.#denied.delete(origin)
      return true
    }
    this.#refuse(neighbour.origin, verdict.reason)
    if (!admitted) this.#deny(origin, nowMs)
    return admitted
  }

  #deny(origin: Origin, nowMs: number): void {
    if (this.#denied.size >= this.#limits.originsMax) this.#denied.clear()
    this.#denied.set(origin, nowMs + DENIED_MS)
    this.#pulls.settle(origin)
  }

  // ------------------------------------------------------------------ telling

  #onLife(from: Origin, frame: FrameMessage, nowMs: number): void {
    const said = this.#failures.take(from, frame, nowMs)
    if (said === 'known') return
    if ('refused' in said) this.#refuse(from, said.refused)
    else if ('replies' in said) for (const frame of said.replies) this.#send(from, frame)
    else this.#flood(said)
  }

  #flood({ frame, except }: Flood): void {
    for (const peer of this.#neighbours.keys()) if (peer !== except) this.#send(peer, frame)
  }

  #everyInterval(nowMs: number): void {
    for (const replica of this.#replicas.values()) replica.dropIdleShadows(nowMs)
    this.#sendProofs([...this.#neighbours.keys()])
    this.#pulls.wake()
  }

  /** Each at its own time within the interval, so that many neighbours are no burst. */
  #pingDue(nowMs: number): void {
    const { headsIntervalMs, silenceMs } = this.#limits
    for (const neighbour of this.#neighbours.values()) {
      if (neighbour.pingDueMs > nowMs) continue
      neighbour.pingDueMs = Math.max(neighbour.pingDueMs + headsIntervalMs, nowMs)
      if (!this.#isSpared(neighbour, nowMs)) {
        const ping = { id: neighbour.ping(nowMs), digest: this.#digest.value }
        this.#send(neighbour.origin, encodeFrame({ ping }))
      }
      if (neighbour.givenUp || neighbour.silentMs(nowMs) < silenceMs) continue
      neighbour.givenUp = true
      this.#emit({ kind: 'abort', peer: neighbour.origin, reason: `silent for ${silenceMs} ms` })
    }
  }

  /** Among very many, one that pings us is heard of, and hears us, anyway: ours would only bring our digest sooner. */
  #isSpared(neighbour: Neighbour, nowMs: number): boolean {
    const { headsIntervalMs } = this.#limits
    return (
      this.#neighbours.size > PINGED_ALWAYS_MAX &&
      nowMs - neighbour.pingedMs < 1.5 * headsIntervalMs &&
      nowMs - neighbour.pingSentMs < SPARED_INTERVALS * headsIntervalMs
    )
  }

  get #isEager(): boolean {
    return this.#replicas.size > this.#limits.directMax
  }

  /** News: a batch is pushed to those who want it pushed and are not known to have it, the others are told. */
  #spread({ origin, head }: Replica, news: News): void {
    if (!head) return
    this.#digest.set(head)
    const own = origin === this.#options.self
    const push = own || this.#isEager ? this.#pushFrame(head, news) : undefined
    let tell: Uint8Array | undefined
    for (const neighbour of this.#neighbours.values()) {
      const { origin: peer, claims, muted, untold } = neighbour
      const claim = claims.get(origin)
      if (peer === news.from || peer === origin || (claim && comparePositions(claim, head) >= 0)) continue
      if (push && !muted.has(origin)) {
        untold.delete(origin)
        this.#send(peer, push)
      } else if (push || (this.#isEager && !own)) untold.add(origin)
      else {
        // Direct, or too large to be pushed: told at once, pulled piece by piece.
        tell ??= encodeFrame({ heads: { heads: [toHeadRef(head)] } })
        this.#send(peer, tell)
      }
    }
  }

  /** Undefined for what is too large: each neighbour pulls it at its own pace. */
  #pushFrame(head: Head, { fromSeq, operations, pushBytesMax }: News): Uint8Array | undefined {
    if (fromSeq === undefined || operations === undefined) return undefined
    const { partBytes } = this.#limits
    const bytes = operations.reduce((sum, operation) => sum + operationBytes(operation), 0)
    return bytes > pushBytesMax ? undefined : deltaFrames({ head, fromSeq, operations, partBytes })[0]
  }

  #tellChanged(): void {
    for (const { origin: peer, untold, claims } of this.#neighbours.values()) {
      if (untold.size === 0) continue
      const heads: Head[] = []
      for (const origin of untold) {
        const head = this.#replicas.get(origin)?.head
        const claim = claims.get(origin)
        if (head && !(claim && comparePositions(claim, head) >= 0)) heads.push(head)
      }
      untold.clear()
      this.#sendHeads(peer, heads)
    }
  }

  /** The next few of all heads: what is missing on either side is found within a round of slices. */
  #sendSlice(neighbour: Neighbour): void {
    const heads = this.heads()
    if (heads.length === 0) return
    const start = neighbour.cursor % heads.length
    const slice = [...heads, ...heads].slice(start, start + Math.min(HEADS_PER_SLICE, heads.length))
    neighbour.cursor = start + slice.length
    this.#sendHeads(neighbour.origin, slice)
  }

  #sendAllHeads(peer: Origin): void {
    this.#sendHeads(peer, this.heads(), true)
  }

  #sendHeads(peer: Origin, heads: readonly Head[], all = false): void {
    for (let start = 0; start < heads.length; start += HEADS_PER_FRAME) {
      const part = heads.slice(start, start + HEADS_PER_FRAME)
      const message = { heads: part.map(toHeadRef), all: all && part.length === heads.length }
      this.#send(peer, encodeFrame({ heads: message }))
    }
  }

  #sendProofs(peers: readonly Origin[]): void {
    let sent = 0
    for (const { proof } of this.#replicas.values()) {
      if (proof && sent++ < PROOFS_PER_INTERVAL) this.#sendProof(proof, peers)
    }
  }

  #sendProof({ first, second }: Proof, peers: readonly Origin[]): void {
    const frame = encodeFrame({ equivocation: { first: toSignedHead(first), second: toSignedHead(second) } })
    for (const peer of peers) this.#send(peer, frame)
  }

  // ------------------------------------------------------------------ small things

  #persist(
    replica: Replica,
    state: {
      readonly replaced: boolean
      readonly operations: readonly Operation[]
      readonly adopts?: number
    }
  ): void {
    const { origin, head } = replica
    if (!head) return
    const chain = this.#options.admission.chainOf(origin)
    const saved = this.#savedChains.get(origin)
    const isNew = chain && !(saved && equalBytes(saved, chain))
    if (isNew) this.#savedChains.set(origin, chain)
    this.#emit({
      kind: 'persist',
      origin,
      head: encodeMessage(wire.SignedHead, toSignedHead(head)),
      epoch: head.epoch,
      seq: head.seq,
      replace: state.replaced,
      operations: state.operations,
      ...(state.adopts === undefined ? {} : { adopts: state.adopts }),
      ...(isNew ? { chain } : {})
    })
  }

  #keepPart(origin: Origin, step: ShadowStep): void {
    if (step.kind === 'dropped') return this.#emit({ kind: 'dropParts', origin })
    const { head, atSeq, afterSeq, lastSeq, operations } = step
    const chain = afterSeq === 0 ? this.#options.admission.chainOf(origin) : undefined
    this.#emit({
      kind: 'persistPart',
      origin,
      head: encodeMessage(wire.SignedHead, toSignedHead(head)),
      atSeq,
      afterSeq,
      lastSeq,
      operations,
      ...(chain ? { chain } : {})
    })
  }

  #replicaOf(origin: Origin): Replica | undefined {
    const known = this.#replicas.get(origin)
    if (known) return known
    const publicKey = this.#options.admission.publicKeyOf(origin)
    if (!publicKey || this.#replicas.size >= this.#limits.originsMax) return undefined
    const replica = this.#newReplica(origin, publicKey)
    this.#replicas.set(origin, replica)
    return replica
  }

  #newReplica(origin: Origin, publicKey: Uint8Array): Replica {
    const { crypto, meshId } = this.#options
    return new Replica({
      origin,
      publicKey,
      meshId,
      crypto,
      limits: this.#limits,
      shadows: this.#shadows,
      keep: (step) => this.#keepPart(origin, step)
    })
  }

  #positionOf(origin: Origin): Position {
    return this.#replicas.get(origin)?.position ?? { epoch: 0, seq: 0 }
  }

  #forgetPeer(peer: Origin): void {
    const neighbour = this.#neighbours.get(peer)
    if (!neighbour) return
    this.#neighbours.delete(peer)
    if (neighbour.awaitsSent) this.#awaiting--
    this.#failures.down(neighbour)
    this.#pulls.peerDown(peer)
    this.#findFeeders(peer)
  }

  /** Another neighbour each for the origins that this one fed. */
  #findFeeders(gone: Origin): void {
    const wanted = new Map<Origin, Origin[]>()
    const orphans = this.#feeders.peerDown(gone)
    if (!this.#isEager) return
    for (const [index, { origin, left }] of orphans.entries()) {
      if (left.length >= FEEDERS_MAX) continue
      const others = [...this.#neighbours.keys()].filter((peer) => !left.includes(peer))
      const peer = others[index % Math.max(1, others.length)] // spread, so that none bears all
      if (peer === undefined) continue
      this.#feeders.adopt(origin, peer)
      wanted.set(peer, [...(wanted.get(peer) ?? []), origin])
    }
    for (const [peer, origins] of wanted) this.#send(peer, encodeFrame({ graft: { origins } }))
  }

  /** Parsing a name costs more than finding it. */
  #known(name: string): Origin | undefined {
    return this.#replicas.get(name as Origin)?.origin
  }

  #send(to: Origin, frame: Uint8Array): void {
    this.#emit({ kind: 'send', to, frame })
  }

  #refuse(from: Origin, reason: string): void {
    this.#emit({ kind: 'refused', from, reason })
  }

  #emit(effect: Effect): void {
    this.#effects.push(effect)
  }

  #run(action: () => void): readonly Effect[] {
    action()
    const effects = this.#effects
    this.#effects = []
    return effects
  }
}

/** A new state of an origin, as it came. Without operations: a whole one, which is never pushed on. */
interface News {
  readonly from: Origin
  readonly pushBytesMax: number
  readonly fromSeq?: number
  readonly operations?: readonly Operation[]
}

// So small a batch may come twice.
const PULLED_PUSH_BYTES_MAX = 2048
const NO_RECORDS: ReadonlyMap<string, StoredRecord> = new Map()
// A reference has about 70 bytes: 70 KB a frame.
const HEADS_PER_FRAME = 1000
// 4.5 KB, about once a second and only while neighbours differ.
const HEADS_PER_SLICE = 64
// Beyond what the overlay chooses: only one that many dial has more.
const PINGED_ALWAYS_MAX = 32
// Its digest is missed for so long, at most.
const SPARED_INTERVALS = 4
// One mismatch is a change under way, as a rule.
const MISMATCHES_MIN = 2
// Heads are told up to tellIntervalMs after the push left; so late is a push that is slower than them.
const EAGER_GRACE_MS = 60
// Equivocation is rare; a mesh full of it must not fill the streams.
const PROOFS_PER_INTERVAL = 16
// Long enough for a renewed certificate not to be asked for in vain each second, short enough to see it soon.
const DENIED_MS = 30_000

function positionOf({ epoch, seq }: Position): Position {
  return { epoch, seq }
}

function toHeadRef(head: Head) {
  return { origin: head.origin, epoch: head.epoch, seq: head.seq, check: checkOf(head) }
}
