// Replication between agents, sans I/O: frames and times in, effects out. app/control runs it in the daemon and
// test/sim in the simulator. docs/replication.md describes it in one page.
// In a small mesh, own batches are pushed to all neighbours, and all other states are announced by heads and pulled. In
// a larger mesh, batches are relayed along a tree for each origin (push/eager-peers.ts), heads are told in intervals,
// and missed states are pulled.
// Invariants (P1–P5 of replica.ts hold for every origin)
//   S1. A batch of this agent is persisted before any frame that tells of it, because the effects are carried out in
//       their order.
//   S2. No state of an origin is taken before its credential is admitted.
//   S3. A claim of a neighbour alone never changes a state that is held here, not even the own one: a head with the
//       origin's signature is needed. A false claim costs one small pull.
//   S4. A lagging agent learns of newer heads within headsIntervalMs from any neighbour that is ahead, and pulls them.
//   S5. An origin that receives a head of its own, signed, that is not in its store, starts a new epoch above it.
//   S6. receive() answers any bytes with effects; it never throws.
//   S7. A jump of the clock or a pause of the machine causes no suspicion: time without ticks of this agent is no silence
//       of its neighbours (Lifeguard: Dadgar, Phillips, Currey, 2018).
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
import { NO_RECORDS, type StoredRecord, type ValueChange } from './record.ts'
import { Removal } from './removal.ts'
import { Replicas } from './replicas.ts'
import { restoreOrigin, restoreParts, type RestoreContext } from './restore.ts'
import { SteadyClock } from '../model/steady-clock.ts'

export type * from './effects.ts'

/** Creates the protocol of one agent. Throws when `selfSeed` is not the seed of `self`. */
export function createProtocol(options: ProtocolOptions): Protocol {
  return new Protocol(options)
}

/**
 * The protocol of one agent. Methods that return effects must be called one after the other, and the caller carries out
 * all effects of a call before those of the next one. `callerMs` is the caller's clock in milliseconds; it may jump.
 */
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
  readonly #removal: Removal
  readonly #pulls: PullScheduler
  readonly #puller: Puller
  readonly #pullServer: PullServer
  readonly #equivocation: Equivocation
  readonly #deltas: DeltaIntake
  readonly #failures: FailureDetector
  readonly #pinger: Pinger
  /** When the work of each heads interval was last done, and when changed heads were last told. */
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
    const evicted = (origin: Origin) => this.#removal.evicted(origin)
    const replicas = new Replicas({ self, publicKey, meshId, crypto, admission, limits, keep, evicted })
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
    this.#removal = new Removal({ ...shared, clock: this.#clock, gate, heads, pulls })
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

  /**
   * Takes the states that the store holds. Call it once, before all other methods. Unusable states come back as the
   * effects `damaged` and `dropParts`.
   */
  restore(stored: Iterable<StoredOrigin>, unfinished: Iterable<StoredParts> = []): readonly Effect[] {
    const { self, meshId, admission } = this.#options
    const context = { self, meshId, admission, replicas: this.#replicas }
    for (const state of stored) {
      const reason = this.#restoreOne(state, context)
      if (reason === undefined) continue
      if (reason === 'no room' || reason === 'no room for this cluster') this.#removal.noRoom(state.origin)
      else this.#outbox.add({ kind: 'damaged', origin: state.origin, reason })
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
   * Publishes own changes as one batch; there are no effects when they change nothing. When too many batches came
   * before, the changes leave with a later tick, together with those that are given until then; of each key the last
   * change counts.
   */
  publish(changes: readonly ValueChange[], callerMs: number): readonly Effect[] {
    this.#own.publish(changes, this.#clock.at(callerMs))
    return this.#outbox.take()
  }

  /** Tells the neighbours of the credential that this agent has now. */
  showCredential(callerMs: number): readonly Effect[] {
    this.#broadcast.credentials.tellOwn(this.#clock.at(callerMs))
    return this.#outbox.take()
  }

  /** The keys of this agent that are published or wait for a tick or room, and which part of the limits they use. */
  get own(): Pick<OwnOrigin, 'keys' | 'used'> {
    return this.#own
  }

  /**
   * Adds a neighbour whose handshake has passed. Sends it all heads, and what is known about suspicions and
   * equivocations.
   */
  peerUp(peer: Origin, callerMs: number): readonly Effect[] {
    const nowMs = this.#clock.at(callerMs)
    if (peer === this.#options.self) throw new Error('an agent is no neighbour of itself')
    this.#forgetPeer(peer)
    this.#neighbours.set(peer, new Neighbour(peer, nowMs))
    this.#heads.tellAll(peer)
    for (const frame of this.#failures.up(peer)) this.#outbox.send(peer, frame)
    this.#equivocation.tellAll([peer])
    this.#persistence.persistCredential(this.#replicas.get(peer))
    return this.#outbox.take()
  }

  /** Removes a neighbour whose connection has ended. Its pulls are asked of other neighbours. */
  peerDown(peer: Origin): readonly Effect[] {
    this.#forgetPeer(peer)
    return this.#outbox.take()
  }

  /** Takes one frame of a neighbour, without its length prefix. Never throws (S6). */
  receive(peer: Origin, frame: Uint8Array, callerMs: number): readonly Effect[] {
    this.#receive(peer, frame, this.#clock.at(callerMs))
    return this.#outbox.take()
  }

  /** Removes the states of origins that are no members any more. Call it when the members have changed. */
  collect(): readonly Effect[] {
    this.#removal.collect()
    return this.#outbox.take()
  }

  /** Call it when the send queue of this neighbour has drained, after the effect `whenSent` asked for it. */
  sent(peer: Origin): readonly Effect[] {
    this.#pullServer.sent(peer)
    return this.#outbox.take()
  }

  /** Does all work that is due by time. Call it about every 200 ms; S7 assumes this interval. */
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

  /** All origins of which a state is held, also this agent once it has published. */
  origins(): readonly Origin[] {
    return this.heads().map(({ origin }) => origin)
  }

  heads(): readonly Head[] {
    return this.#replicas.heads()
  }

  head(origin: Origin): Head | undefined {
    return this.#replicas.get(origin)?.head
  }

  /** The live records of an origin by key, with encoded values. A batch is visible as a whole or not at all (P3). */
  records(origin: Origin): ReadonlyMap<string, StoredRecord> {
    return this.#replicas.get(origin)?.records ?? NO_RECORDS
  }

  /**
   * Keys of an origin whose records have changed since `since`, a position that was held here; undefined when all may
   * have changed.
   */
  keysSince(origin: Origin, since: Position): ReadonlySet<string> | undefined {
    return this.#replicas.get(origin)?.keysSince(since)
  }

  /**
   * The whole state of an origin as one step, for a store that failed to write an earlier step; undefined without a
   * state.
   */
  whole(origin: Origin): Persist | undefined {
    const replica = this.#replicas.get(origin)
    return replica && this.#persistence.whole(replica)
  }

  /**
   * The number of operations that neighbours claim to hold of an origin beyond those that are held here; 0 when none.
   */
  lag(origin: Origin): number {
    const held = this.#replicas.positionOf(origin)
    let highest: Position = held
    for (const { claims } of this.#neighbours.values()) {
      const claim = claims.get(origin)
      if (claim && comparePositions(claim, highest) > 0) highest = claim
    }
    return highest.epoch === held.epoch ? highest.seq - held.seq : highest.seq
  }

  /**
   * True when two heads were signed for one position (P4): the state stays as it is until the origin starts a new
   * epoch.
   */
  isFrozen(origin: Origin): boolean {
    return this.#replicas.get(origin)?.proof !== undefined
  }

  /** The bytes of unfinished deltas and the number of pulls under way. Tests check them against the limits. */
  load(): { readonly stagingBytes: number; readonly pulls: number } {
    return { stagingBytes: this.#replicas.unfinishedBytes, pulls: this.#pulls.active }
  }

  peers(): readonly Origin[] {
    return [...this.#neighbours.keys()]
  }

  /** The smoothed round-trip time of a neighbour in milliseconds; undefined before the first pong. */
  rtt(peer: Origin): number | undefined {
    return this.#neighbours.get(peer)?.rttMs
  }

  /** When the last frame of a neighbour arrived, on the caller's clock; undefined when it is not connected. */
  heardMs(peer: Origin): number | undefined {
    const heardMs = this.#neighbours.get(peer)?.heardMs
    return heardMs === undefined ? undefined : this.#clock.toCaller(heardMs)
  }

  /**
   * The state of an agent as far as the mesh can tell. Records of a dead agent stay; only a dead tunnel withdraws its
   * routes.
   */
  liveness(origin: Origin): Liveness {
    return this.#failures.liveness(origin, this.#replicas.size)
  }

  /**
   * When a neighbour last confirmed that it holds this agent's records, on the caller's clock; undefined when none ever
   * did.
   */
  ownHeldMs(): number | undefined {
    const { heldMs } = this.#own
    return heldMs === undefined ? undefined : this.#clock.toCaller(heldMs)
  }

  // ------------------------------------------------------------------ inside

  /** Any well-formed frame is a sign of life, also one that is refused afterwards. */
  #receive(peer: Origin, bytes: Uint8Array, nowMs: number): void {
    const neighbour = this.#neighbours.get(peer)
    if (!neighbour) return this.#outbox.refuse(peer, 'not connected')
    const frame = decodeFrame(bytes)
    if (!frame) return this.#outbox.offend(peer, 'malformed frame')
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
    // A member asks for nothing at the door. A frame without any known message may be one of a later version.
    else if (frame.knock ?? frame.admitted ?? frame.gatewayKnock ?? frame.gatewayAdmitted)
      this.#outbox.offend(peer, 'request at the door by a member')
    else this.#outbox.refuse(peer, 'unexpected frame')
  }

  /** Answers a ping. An equal digest confirms that the neighbour holds the records of this agent, too. */
  #receivePing(neighbour: Neighbour, { id, digest }: PingMessage, nowMs: number): void {
    neighbour.pingedMs = nowMs
    this.#outbox.send(neighbour.origin, encodeFrame({ pong: { id } }))
    const isSame = this.#heads.compare(neighbour, digest, nowMs)
    if (isSame) this.#own.noteHeld(this.#replicas.own.position, nowMs)
  }

  /** Takes a suspicion or a beacon; a new one is forwarded to all other neighbours. */
  #receiveLife(from: Origin, frame: FrameMessage, nowMs: number): void {
    const said = this.#failures.take(from, frame, nowMs)
    if (said === 'known') return
    if ('refused' in said) this.#outbox.offend(from, said.refused)
    else if ('replies' in said) for (const reply of said.replies) this.#outbox.send(from, reply)
    else this.#flood(said)
  }

  #flood({ frame, except }: Flood): void {
    for (const peer of this.#neighbours.keys()) if (peer !== except) this.#outbox.send(peer, frame)
  }

  #restoreOne(state: StoredOrigin, context: RestoreContext): string | undefined {
    const { origin, credential } = state
    const reason = restoreOrigin(state, context)
    if (reason !== undefined) return reason
    const replica = this.#replicas.get(origin)
    if (replica?.head) {
      this.#heads.set(replica.head)
      this.#replicas.note(replica)
    }
    if (credential) this.#persistence.setStoredCredential(origin, credential)
    return undefined
  }

  #forgetPeer(peer: Origin): void {
    const neighbour = this.#neighbours.get(peer)
    if (!neighbour) return
    this.#neighbours.delete(peer)
    this.#pullServer.peerDown(peer)
    this.#failures.down(neighbour)
    this.#pulls.peerDown(peer, this.#clock.now)
    this.#broadcast.peerDown(peer)
  }
}
