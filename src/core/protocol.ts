// Replication between agents, sans I/O: frames and times in, effects out. The same code runs in the daemon and in the
// simulator. The simple form: full mesh, own batches pushed at once, everything else told by heads and pulled.
// Invariants (P1–P5 of replica.ts hold for every origin)
//   S1. A batch of our own is persisted before any frame that tells of it: the effects are carried out in their order.
//   S2. Nothing of an origin is taken before its certificate chain is admitted.
//   S3. A neighbour's word alone never changes what we hold, not even of our own past: it takes a head with the origin's
//       signature. A false claim costs one small pull.
//   S4. Whoever is behind hears of it within a heads interval, from any neighbour that is ahead, and pulls until in step.
//   S5. An origin that finds a head of its own, signed, that is not in its store, starts a new epoch above it.
//   S6. receive() answers any bytes with effects; it never throws.
import { deltaFrames } from './delta-frames.ts'
import type { Effect, ProtocolOptions, StoredOrigin, ValueChange } from './effects.ts'
import {
  checkOf,
  comparePositions,
  readHead,
  sameBytes,
  toSignedHead,
  verifyHead,
  type Head,
  type Position
} from './head.ts'
import { CHAIN_BYTES_MAX, PROTOCOL_LIMITS, RECORD_BYTES_MAX, type ProtocolLimits } from './limits.ts'
import { encodeValue } from './codec.ts'
import { keyOf, type Origin } from './model.ts'
import { Neighbour, type Claim } from './neighbour.ts'
import { parseOrigin } from './origin.ts'
import { Pulls, type DuePull } from './pulls.ts'
import type { Operation, StoredRecord } from './record.ts'
import { Replica, type Budget, type Proof, type Verdict, type Written } from './replica.ts'
import {
  decodeFrame,
  decodeSignedHead,
  encodeFrame,
  encodeMessage,
  wire,
  type DeltaMessage,
  type FrameMessage,
  type HeadsMessage,
  type PullMessage
} from './wire.ts'

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
  readonly #shadows: Budget
  readonly #savedChains = new Map<Origin, Uint8Array>()
  /** Origins whose chain was refused, until when they are left alone. */
  readonly #denied = new Map<Origin, number>()
  #headsMs = -Infinity
  #effects: Effect[] = []

  constructor(options: ProtocolOptions) {
    const publicKey = options.admission.publicKeyOf(options.self)
    if (!publicKey || !sameBytes(publicKey, options.crypto.publicKeyOf(options.selfSeed))) {
      throw new Error('the seed is not that of the PeerId')
    }
    this.#options = options
    this.#limits = { ...PROTOCOL_LIMITS, ...options.limits }
    this.#pulls = new Pulls(this.#limits)
    this.#shadows = { max: this.#limits.shadowBytesMax, used: 0 }
    this.#own = this.#newReplica(options.self, publicKey)
    this.#replicas.set(options.self, this.#own)
  }

  // ------------------------------------------------------------------ what happens

  /** What the store holds, once, before anything else. Unusable parts come back as `damaged`. */
  restore(stored: Iterable<StoredOrigin>): readonly Effect[] {
    return this.#run(() => {
      for (const state of stored) {
        const reason = this.#restoreOne(state)
        if (reason !== undefined) this.#emit({ kind: 'damaged', origin: state.origin, reason })
      }
      const origins = this.origins()
      if (origins.length > 0) this.#emit({ kind: 'changed', origins })
    })
  }

  /** One batch of own changes; nothing at all when they change nothing. */
  publish(changes: readonly ValueChange[], _nowMs: number): readonly Effect[] {
    return this.#run(() => {
      const encoded = changes.flatMap(({ key, value }) => {
        if (value && keyOf(value) !== key) throw new Error(`value of key ${keyOf(value)} published as ${key}`)
        const bytes = value && encodeValue(value)
        if (!bytes || bytes.length <= RECORD_BYTES_MAX) return [{ key, value: bytes }]
        this.#refuse(this.#options.self, `record too large: ${key}`)
        return []
      })
      this.#pushOwn(this.#own.write(encoded, this.#options.selfSeed))
    })
  }

  /** The handshake with this neighbour has passed. */
  peerUp(peer: Origin, nowMs: number): readonly Effect[] {
    return this.#run(() => {
      if (peer === this.#options.self) throw new Error('an agent is no neighbour of itself')
      this.#forgetPeer(peer)
      this.#neighbours.set(peer, new Neighbour(peer, nowMs))
      this.#sendAllHeads([peer])
      this.#sendProofs([peer])
    })
  }

  peerDown(peer: Origin): readonly Effect[] {
    return this.#run(() => this.#forgetPeer(peer))
  }

  receive(peer: Origin, frame: Uint8Array, nowMs: number): readonly Effect[] {
    return this.#run(() => {
      const neighbour = this.#neighbours.get(peer)
      if (!neighbour) return this.#refuse(peer, 'not connected')
      const message = decodeFrame(frame)
      if (!message) return this.#refuse(peer, 'malformed frame')
      neighbour.heard(nowMs)
      this.#dispatch(neighbour, message, nowMs)
      this.#startPulls(nowMs)
    })
  }

  /** About every 200 ms. */
  tick(nowMs: number): readonly Effect[] {
    return this.#run(() => {
      this.#pulls.expire(nowMs)
      if (nowMs - this.#headsMs >= this.#limits.headsIntervalMs) {
        this.#headsMs = nowMs
        this.#everyInterval(nowMs)
      }
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

  /** Encoded values by key; a batch is seen whole or not at all. */
  records(origin: Origin): ReadonlyMap<string, StoredRecord> {
    return this.#replicas.get(origin)?.records ?? NO_RECORDS
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

  peers(): readonly Origin[] {
    return [...this.#neighbours.keys()]
  }

  /** Milliseconds; undefined before the first pong. */
  rtt(peer: Origin): number | undefined {
    return this.#neighbours.get(peer)?.rttMs
  }

  /** When the last frame of this neighbour came, on the caller's clock; undefined when not connected. */
  silentSince(peer: Origin): number | undefined {
    return this.#neighbours.get(peer)?.heardMs
  }

  // ------------------------------------------------------------------ frames

  #dispatch(neighbour: Neighbour, frame: FrameMessage, nowMs: number): void {
    const peer = neighbour.origin
    if (frame.delta) this.#onDelta(neighbour, frame.delta, nowMs)
    else if (frame.heads) this.#onHeads(neighbour, frame.heads, nowMs)
    else if (frame.pull) this.#onPull(peer, frame.pull)
    else if (frame.ping) this.#send(peer, encodeFrame({ pong: { id: frame.ping.id } }))
    else if (frame.pong) neighbour.pong(frame.pong.id, nowMs)
    else if (frame.equivocation) this.#onProof(peer, frame.equivocation)
    else this.#refuse(peer, 'unexpected frame')
  }

  #onHeads(neighbour: Neighbour, { heads }: HeadsMessage, nowMs: number): void {
    for (const { origin: name, epoch, seq, check } of heads) {
      const origin = parseOrigin(name)
      if (!origin) return this.#refuse(neighbour.origin, 'malformed origin')
      if (!neighbour.claim(origin, { epoch, seq, check }, this.#limits.originsMax)) {
        return this.#refuse(neighbour.origin, 'too many origins')
      }
      if (!this.#isBehind(origin, { epoch, seq, check }, nowMs)) continue
      // A connected origin pushes by itself; its own head comes after its push on the same stream.
      const pushComes = origin !== neighbour.origin && this.#neighbours.has(origin)
      this.#pulls.want(origin, nowMs + (pushComes ? this.#limits.pushGraceMs : 0)) // S4
    }
  }

  #onPull(peer: Origin, pull: PullMessage): void {
    const origin = parseOrigin(pull.origin)
    const replica = origin && this.#replicas.get(origin)
    if (!replica?.head) return this.#refuse(peer, 'pull of an unknown origin')
    const answer = replica.since({ epoch: pull.epoch, seq: pull.fromSeq })
    const chain = this.#options.admission.chainOf(replica.origin)
    for (const frame of deltaFrames({
      head: replica.head,
      ...answer,
      chain,
      partBytes: this.#limits.partBytes
    })) {
      this.#send(peer, frame)
    }
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
    const verdict = replica.apply({ from: peer, head, delta, nowMs })
    this.#onVerdict({ neighbour, replica, claim, verdict, nowMs })
  }

  #onVerdict(context: {
    neighbour: Neighbour
    replica: Replica
    claim: Claim
    verdict: Verdict
    nowMs: number
  }): void {
    const { neighbour, replica, claim, verdict, nowMs } = context
    const { origin } = replica
    const peer = neighbour.origin
    switch (verdict.kind) {
      case 'applied':
        neighbour.claimAtLeast(origin, claim, this.#limits.originsMax)
        this.#persist(replica, verdict)
        this.#emit({ kind: 'changed', origins: [origin] })
        this.#announce(replica, peer)
        return this.#reconsider(origin, peer, nowMs)
      case 'partial':
        return this.#pulls.progress(origin, peer, nowMs)
      case 'stray':
        return
      case 'stale':
        // So much it has, whatever it said before: no second pull for the same claim.
        if (this.#pulls.isAsked(origin, peer)) neighbour.claim(origin, claim, this.#limits.originsMax)
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
      order > 0 || (order === 0 && this.#own.head && !sameBytes(head.bytes, this.#own.head.bytes))
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

  #pushOwn(written: Written): void {
    const { self } = this.#options
    if (written.kind === 'refused') return this.#refuse(self, written.reason)
    const { head } = this.#own
    if (written.kind === 'unchanged' || !head) return
    this.#persist(this.#own, written) // S1
    const fromSeq = written.replaced ? 0 : head.prevSeq
    const frames = deltaFrames({
      head,
      fromSeq,
      operations: written.operations,
      partBytes: this.#limits.partBytes
    })
    for (const peer of this.#neighbours.keys()) for (const frame of frames) this.#send(peer, frame)
    this.#emit({ kind: 'changed', origins: [self] })
  }

  #restoreOne({ origin, head: encoded, chain, records }: StoredOrigin): string | undefined {
    const { admission, meshId, self } = this.#options
    const signed = decodeSignedHead(encoded)
    const head = readHead(signed ?? null, meshId)
    if (typeof head === 'string') return `${head} head`
    if (head.origin !== origin) return 'head of another origin'
    if (origin !== self && !admission.isAdmitted(origin)) {
      const verdict = chain
        ? admission.admit(origin, chain)
        : { kind: 'refused' as const, reason: 'no chain' }
      if (verdict.kind === 'refused') return `not admitted: ${verdict.reason}`
    }
    const reason = this.#replicaOf(origin)?.restore(head, records)
    if (reason === undefined && chain) this.#savedChains.set(origin, chain)
    return reason
  }

  // ------------------------------------------------------------------ pulling

  #startPulls(nowMs: number): void {
    this.#pulls.start(nowMs, (pull) => this.#ask(pull, nowMs))
  }

  #ask({ origin, fromZero, avoid }: DuePull, nowMs: number): Origin | undefined {
    let best: { readonly peer: Origin; readonly claim: Claim } | undefined
    for (const { origin: peer, claims } of this.#neighbours.values()) {
      const claim = claims.get(origin)
      if (!claim || !this.#isBehind(origin, claim, nowMs)) continue
      const better =
        !best || best.peer === avoid || (peer !== avoid && comparePositions(claim, best.claim) > 0)
      if (better) best = { peer, claim }
    }
    if (!best) return undefined
    const held = this.#positionOf(origin)
    // Of our own past, and of a state that differs at our very position, the signed head alone tells what is the matter.
    const headOnly = origin === this.#options.self || comparePositions(best.claim, held) === 0
    const { epoch, seq } = headOnly ? best.claim : fromZero ? { epoch: 0, seq: 0 } : held
    this.#send(best.peer, encodeFrame({ pull: { origin, epoch, fromSeq: seq } }))
    return best.peer
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
    if (admitted && known && sameBytes(known, delta.chain)) return true
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

  #everyInterval(nowMs: number): void {
    for (const replica of this.#replicas.values()) replica.dropShadowsBefore(nowMs - SHADOW_IDLE_MS)
    const peers = [...this.#neighbours.keys()]
    this.#sendAllHeads(peers)
    this.#sendProofs(peers)
    for (const neighbour of this.#neighbours.values()) {
      this.#send(neighbour.origin, encodeFrame({ ping: { id: neighbour.ping(nowMs) } }))
      if (neighbour.givenUp || neighbour.silentMs(nowMs) < this.#limits.silenceMs) continue
      neighbour.givenUp = true
      this.#emit({ kind: 'abort', peer: neighbour.origin, reason: `silent for ${this.#limits.silenceMs} ms` })
    }
  }

  #sendAllHeads(peers: readonly Origin[]): void {
    if (peers.length === 0) return
    const refs = this.heads().map(toHeadRef)
    for (let start = 0; start < refs.length; start += HEADS_PER_FRAME) {
      const heads = refs.slice(start, start + HEADS_PER_FRAME)
      const frame = encodeFrame({ heads: { heads, all: heads.length === refs.length } })
      for (const peer of peers) this.#send(peer, frame)
    }
  }

  /** The changed head only, to neighbours that are not known to have it. */
  #announce({ origin, head }: Replica, from: Origin): void {
    if (!head) return
    let frame: Uint8Array | undefined
    for (const { origin: peer, claims } of this.#neighbours.values()) {
      const claim = claims.get(origin)
      if (peer === from || peer === origin || (claim && comparePositions(claim, head) >= 0)) continue
      frame ??= encodeFrame({ heads: { heads: [toHeadRef(head)] } })
      this.#send(peer, frame)
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

  #persist(replica: Replica, state: { replaced: boolean; operations: readonly Operation[] }): void {
    const { origin, head } = replica
    if (!head) return
    const chain = this.#options.admission.chainOf(origin)
    const saved = this.#savedChains.get(origin)
    const isNew = chain && !(saved && sameBytes(saved, chain))
    if (isNew) this.#savedChains.set(origin, chain)
    this.#emit({
      kind: 'persist',
      origin,
      head: encodeMessage(wire.SignedHead, toSignedHead(head)),
      epoch: head.epoch,
      seq: head.seq,
      replace: state.replaced,
      operations: state.operations,
      ...(isNew ? { chain } : {})
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
    return new Replica({ origin, publicKey, meshId, crypto, limits: this.#limits, shadows: this.#shadows })
  }

  #positionOf(origin: Origin): Position {
    return this.#replicas.get(origin)?.position ?? { epoch: 0, seq: 0 }
  }

  #forgetPeer(peer: Origin): void {
    if (!this.#neighbours.delete(peer)) return
    this.#pulls.peerDown(peer)
    for (const replica of this.#replicas.values()) replica.dropShadow(peer)
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

const NO_RECORDS: ReadonlyMap<string, StoredRecord> = new Map()
// A reference has about 70 bytes: 70 KB a frame.
const HEADS_PER_FRAME = 1000
// Equivocation is rare; a mesh full of it must not fill the streams.
const PROOFS_PER_INTERVAL = 16
// Long enough for a renewed certificate not to be asked for in vain each second, short enough to see it soon.
const DENIED_MS = 30_000
// A neighbour that stops in the middle of a delta: three pull timeouts.
const SHADOW_IDLE_MS = 10_000

function positionOf({ epoch, seq }: Position): Position {
  return { epoch, seq }
}

function toHeadRef(head: Head) {
  return { origin: head.origin, epoch: head.epoch, seq: head.seq, check: checkOf(head) }
}
