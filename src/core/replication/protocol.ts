// Replication between agents, sans I/O: frames and times in, effects out. The same code runs in the daemon and in the
// simulator. docs/replication.md tells it in one page.
// A small mesh is direct: own batches are pushed to all neighbours, all other states are told by heads and pulled. A larger mesh
// pushes batches on along a tree for each origin (push/eager-peers.ts), tells heads in the intervals, and pulls what both have missed.
// Invariants (P1–P5 of replica.ts hold for every origin)
//   S1. A batch of our own is persisted before any frame that tells of it: the effects are carried out in their order.
//   S2. Nothing of an origin is taken before its certificate chain is admitted.
//   S3. A neighbour's word alone never changes what we hold, not even of our own past: it takes a head with the origin's
//       signature. A false claim costs one small pull.
//   S4. A lagging agent learns of newer heads within headsIntervalMs, from any neighbour that is ahead, and pulls until it holds them.
//   S5. An origin that finds a head of its own, signed, that is not in its store, starts a new epoch above it.
//   S6. receive() answers any bytes with effects; it never throws.
//   S7. A clock that jumps and a machine that was paused blame no neighbour: time without our own ticks is no silence of theirs
//       (Lifeguard: Dadgar, Phillips, Currey, 2018).
import type { Origin } from '../model/values.ts'
import { equalBytes } from '../model/bytes.ts'
import { decodeFrame, encodeFrame, type FrameMessage, type PingMessage } from '../wire/messages.ts'
import { DeltaIntake } from './delta-intake.ts'
import type { Effect, Persist, ProtocolOptions, StoredOrigin, StoredParts } from './effects.ts'
import { Equivocation } from './equivocation.ts'
import { FailureDetector, type Flood, type Liveness } from './failure/failure-detector.ts'
import { Pinger } from './failure/pinger.ts'
import { Gate } from './gate.ts'
import { comparePositions, type Head, type Position } from './head.ts'
import { PROTOCOL_LIMITS, type ProtocolLimits } from './limits.ts'
import { Neighbour } from './neighbour.ts'
import { Outbox } from './outbox.ts'
import { OwnOrigin } from './own-origin.ts'
import { Persistence } from './persistence.ts'
import { Heads } from './pull/heads.ts'
import { PullScheduler } from './pull/pull-scheduler.ts'
import { PullServer } from './pull/pull-server.ts'
import { Puller } from './pull/puller.ts'
import { Broadcast } from './push/broadcast.ts'
import type { StoredRecord, ValueChange } from './record.ts'
import { Replicas } from './replicas.ts'
import { restoreOrigin, restoreParts, type RestoreContext } from './restore.ts'
import { SteadyClock } from './steady-clock.ts'

export type * from './effects.ts'

export function createProtocol(options: ProtocolOptions): Protocol {
  return new Protocol(options)
}

export class Protocol {
  readonly #options: ProtocolOptions
  readonly #limits: ProtocolLimits
  readonly #neighbours = new Map<Origin, Neighbour>()
  readonly #outbox = new Outbox()
  readonly #clock = new SteadyClock()
  readonly #persistence: Persistence
  readonly #replicas: Replicas
  readonly #heads: Heads
  readonly #broadcast: Broadcast
  readonly #own: OwnOrigin
  readonly #pulls: PullScheduler
  readonly #puller: Puller
  readonly #pullServer: PullServer
  readonly #equivocation: Equivocation
  readonly #deltas: DeltaIntake
  readonly #failures: FailureDetector
  readonly #pinger: Pinger
  #headsMs = -Infinity
  #toldMs = -Infinity

  constructor(options: ProtocolOptions) {
    const { self, selfSeed, meshId, crypto, admission } = options
    const publicKey = admission.publicKeyOf(self)
    if (!publicKey || !equalBytes(publicKey, crypto.publicKeyOf(selfSeed))) {
      throw new Error('the seed is not that of the PeerId')
    }
    const limits = { ...PROTOCOL_LIMITS, ...options.limits }
    const { originsMax, suspectMs, headsIntervalMs } = limits
    const neighbours = this.#neighbours
    const outbox = this.#outbox
    const persistence = new Persistence({ admission, outbox })
    const keep = persistence.persistPart.bind(persistence)
    const replicas = new Replicas({ self, publicKey, meshId, crypto, admission, limits, keep })
    replicas.own.raiseEpoch(options.epochFloor ?? 1)
    // Every part is complete before the next one that uses it is made.
    const shared = { self, meshId, admission, limits, persistence, replicas, neighbours, outbox }
    const heads = new Heads({ ...shared, headsIntervalMs })
    const broadcast = new Broadcast({ ...shared, heads })
    const own = new OwnOrigin({ ...shared, selfSeed, crypto, replica: replicas.own, broadcast })
    const gate = new Gate({ admission, originsMax })
    const pulls = new PullScheduler(limits)
    const puller = new Puller({ ...shared, pulls, gate, own, broadcast })
    const equivocation = new Equivocation({ ...shared, pulls, own })
    this.#options = options
    this.#limits = limits
    this.#persistence = persistence
    this.#replicas = replicas
    this.#heads = heads
    this.#broadcast = broadcast
    this.#own = own
    this.#pulls = pulls
    this.#puller = puller
    this.#equivocation = equivocation
    this.#pullServer = new PullServer(shared)
    this.#deltas = new DeltaIntake({ ...shared, gate, own, equivocation, pulls, puller, broadcast })
    this.#pinger = new Pinger(shared)
    const memberKey = (origin: Origin) =>
      admission.isAdmitted(origin) ? admission.publicKeyOf(origin) : undefined
    const life = { memberKey, originsMax, suspectMs, incarnation: options.incarnation ?? 0, neighbours }
    this.#failures = new FailureDetector({ self, selfSeed, meshId, crypto, ...life })
  }

  // ------------------------------------------------------------------ what happens

  /** What the store holds, once, before anything else. What is unusable comes back as `damaged` or `dropParts`. */
  restore(stored: Iterable<StoredOrigin>, unfinished: Iterable<StoredParts> = []): readonly Effect[] {
    const { self, meshId, admission } = this.#options
    const context = { self, meshId, admission, replicas: this.#replicas }
    for (const state of stored) {
      const reason = this.#restoreOne(state, context)
      if (reason !== undefined) this.#outbox.add({ kind: 'damaged', origin: state.origin, reason })
    }
    for (const parts of unfinished) {
      const reason = restoreParts(parts, context)
      if (reason === undefined) continue
      this.#outbox.refuse(self, `unfinished state: ${reason}`)
      this.#outbox.add({ kind: 'dropParts', origin: parts.origin })
    }
    this.#own.restored()
    const origins = this.origins()
    if (origins.length > 0) this.#outbox.add({ kind: 'changed', origins })
    return this.#outbox.take()
  }

  /**
   * One batch of own changes; no effects at all when they change nothing. Written at once, unless too many batches came before:
   * then with a later tick, together with what comes until then, the last change of each key.
   */
  publish(changes: readonly ValueChange[], callerMs: number): readonly Effect[] {
    this.#own.publish(changes, this.#clock.at(callerMs))
    return this.#outbox.take()
  }

  /** Keys of this agent that are published, or about to be, or wait for room. */
  ownKeys(): readonly string[] {
    return this.#own.keys()
  }

  /** The handshake with this neighbour has passed. */
  peerUp(peer: Origin, callerMs: number): readonly Effect[] {
    const nowMs = this.#clock.at(callerMs)
    if (peer === this.#options.self) throw new Error('an agent is no neighbour of itself')
    this.#forgetPeer(peer)
    this.#neighbours.set(peer, new Neighbour(peer, nowMs))
    this.#heads.tellAll(peer)
    for (const frame of this.#failures.up(peer)) this.#outbox.send(peer, frame)
    this.#equivocation.tellAll([peer])
    return this.#outbox.take()
  }

  peerDown(peer: Origin): readonly Effect[] {
    this.#forgetPeer(peer)
    return this.#outbox.take()
  }

  receive(peer: Origin, frame: Uint8Array, callerMs: number): readonly Effect[] {
    this.#receive(peer, frame, this.#clock.at(callerMs))
    return this.#outbox.take()
  }

  /** The send queue of this neighbour has drained, as the effect `whenSent` asked to be told. */
  sent(peer: Origin): readonly Effect[] {
    this.#pullServer.sent(peer)
    return this.#outbox.take()
  }

  /** To be called about every 200 ms. */
  tick(callerMs: number): readonly Effect[] {
    const nowMs = this.#clock.at(callerMs)
    for (const vote of this.#failures.tick(nowMs)) this.#flood(vote) // S7
    this.#own.write(nowMs)
    this.#pulls.expire(nowMs)
    if (nowMs - this.#toldMs >= this.#limits.tellIntervalMs) {
      this.#toldMs = nowMs
      this.#heads.tellChanged()
    }
    if (nowMs - this.#headsMs >= this.#limits.headsIntervalMs) {
      this.#headsMs = nowMs
      for (const replica of this.#replicas.all()) replica.dropIdleStaged(nowMs)
      this.#equivocation.tellAll(this.peers())
      this.#pulls.wake()
    }
    this.#pinger.tick(this.#heads.digest, nowMs)
    this.#puller.start(nowMs)
    return this.#outbox.take()
  }

  // ------------------------------------------------------------------ what is known

  /** Every origin of which a state is held, self included. */
  origins(): readonly Origin[] {
    return this.heads().map(({ origin }) => origin)
  }

  heads(): readonly Head[] {
    return this.#replicas.heads()
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
    return replica && this.#persistence.whole(replica)
  }

  /** Operations known to exist at the origin but not held here; 0: none. */
  lag(origin: Origin): number {
    const held = this.#replicas.positionOf(origin)
    let highest: Position = held
    for (const { claims } of this.#neighbours.values()) {
      const claim = claims.get(origin)
      if (claim && comparePositions(claim, highest) > 0) highest = claim
    }
    return highest.epoch === held.epoch ? highest.seq - held.seq : highest.seq
  }

  /** Two heads were signed for one position: the state of this origin stays as it is until the origin starts a new epoch. */
  isFrozen(origin: Origin): boolean {
    return this.#replicas.get(origin)?.proof !== undefined
  }

  /** Bytes of unfinished deltas, and pulls under way: both are bounded. */
  load(): { readonly stagingBytes: number; readonly pulls: number } {
    return { stagingBytes: this.#replicas.unfinishedBytes, pulls: this.#pulls.active }
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

  /** As far as the mesh can tell. The records of an origin that is dead stay: they are withdrawn only when its tunnel is dead as well. */
  liveness(origin: Origin): Liveness {
    return this.#failures.liveness(origin, this.#replicas.size)
  }

  /** When a neighbour was last known to hold this agent's own records as they were then, on the caller's clock; undefined: never. */
  ownHeldMs(): number | undefined {
    const { heldMs } = this.#own
    return heldMs === undefined ? undefined : this.#clock.toCaller(heldMs)
  }

  // ------------------------------------------------------------------ inside

  #receive(peer: Origin, bytes: Uint8Array, nowMs: number): void {
    const neighbour = this.#neighbours.get(peer)
    if (!neighbour) return this.#outbox.refuse(peer, 'not connected')
    const frame = decodeFrame(bytes)
    if (!frame) return this.#outbox.refuse(peer, 'malformed frame')
    neighbour.heard(nowMs)
    this.#failures.heard(peer)
    this.#dispatch(neighbour, frame, nowMs)
    this.#puller.start(nowMs)
  }

  #dispatch(neighbour: Neighbour, frame: FrameMessage, nowMs: number): void {
    const peer = neighbour.origin
    if (frame.delta) this.#deltas.receive(neighbour, frame.delta, nowMs)
    else if (frame.heads) this.#puller.receiveHeads(neighbour, frame.heads, nowMs)
    else if (frame.pull) this.#pullServer.receivePull(peer, frame.pull)
    else if (frame.ping) this.#receivePing(neighbour, frame.ping, nowMs)
    else if (frame.pong) neighbour.pong(frame.pong.id, nowMs)
    else if (frame.equivocation) this.#equivocation.receive(peer, frame.equivocation)
    else if (frame.suspicion || frame.beacon) this.#receiveLife(peer, frame, nowMs)
    else if (frame.credit) this.#pullServer.receiveCredit(peer, frame.credit)
    else if (frame.prune) this.#broadcast.prune(neighbour, frame.prune.origins)
    else if (frame.graft) this.#broadcast.graft(neighbour, frame.graft.origins)
    else this.#outbox.refuse(peer, 'unexpected frame')
  }

  #receivePing(neighbour: Neighbour, { id, digest }: PingMessage, nowMs: number): void {
    neighbour.pingedMs = nowMs
    this.#outbox.send(neighbour.origin, encodeFrame({ pong: { id } }))
    const isSame = this.#heads.compare(neighbour, digest, nowMs)
    if (isSame) this.#own.noteHeld(this.#replicas.own.position, nowMs)
  }

  #receiveLife(from: Origin, frame: FrameMessage, nowMs: number): void {
    const said = this.#failures.take(from, frame, nowMs)
    if (said === 'known') return
    if ('refused' in said) this.#outbox.refuse(from, said.refused)
    else if ('replies' in said) for (const reply of said.replies) this.#outbox.send(from, reply)
    else this.#flood(said)
  }

  #flood({ frame, except }: Flood): void {
    for (const peer of this.#neighbours.keys()) if (peer !== except) this.#outbox.send(peer, frame)
  }

  #restoreOne(state: StoredOrigin, context: RestoreContext): string | undefined {
    const { origin, chain } = state
    const reason = restoreOrigin(state, context)
    if (reason !== undefined) return reason
    const head = this.#replicas.get(origin)?.head
    if (head) this.#heads.set(head)
    if (chain) this.#persistence.setStoredChain(origin, chain)
    return undefined
  }

  #forgetPeer(peer: Origin): void {
    const neighbour = this.#neighbours.get(peer)
    if (!neighbour) return
    this.#neighbours.delete(peer)
    this.#pullServer.peerDown(peer)
    this.#failures.down(neighbour)
    this.#pulls.peerDown(peer)
    this.#broadcast.peerDown(peer)
  }
}

const NO_RECORDS: ReadonlyMap<string, StoredRecord> = new Map()
