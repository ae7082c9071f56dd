// Receives the deltas that neighbours send: admits the origin (gate.ts), gives the delta to the replica (replica.ts),
// and acts on its verdict, as by persisting, pushing on or pulling. protocol.ts calls it for each Delta frame.
import type { Origin } from '../model/values.ts'
import { encodeFrame, type DeltaMessage } from '../wire/messages.ts'
import type { Equivocation } from './equivocation.ts'
import type { Entry, Gate } from './gate.ts'
import { comparePositions, readHead, type Head } from './head.ts'
import type { ProtocolLimits } from './limits.ts'
import type { Neighbour } from './neighbour.ts'
import type { Outbox } from './outbox.ts'
import type { OwnOrigin } from './own-origin.ts'
import type { Persistence } from './persistence.ts'
import { claimOf, type Claim } from './pull/claim.ts'
import type { PullScheduler } from './pull/pull-scheduler.ts'
import type { Puller } from './pull/puller.ts'
import type { Broadcast } from './push/broadcast.ts'
import type { DeltaRefusal, Verdict } from './delta-verdict.ts'
import type { Replica } from './replica.ts'
import type { Replicas } from './replicas.ts'

/** The parts of the protocol that a delta passes through. */
interface DeltaIntakeOptions {
  readonly self: Origin
  readonly meshId: Uint8Array
  readonly limits: ProtocolLimits
  readonly gate: Gate
  readonly own: OwnOrigin
  readonly persistence: Persistence
  readonly equivocation: Equivocation
  readonly pulls: PullScheduler
  readonly puller: Puller
  readonly broadcast: Broadcast
  readonly replicas: Replicas
  readonly outbox: Outbox
}

/** One delta whose verdict is known. */
interface Arrival {
  readonly neighbour: Neighbour
  readonly replica: Replica
  /** The position and check of the delta's head: what the neighbour holds at least. */
  readonly claim: Claim
  /** True when the delta answers a pull of this agent; false for a push. */
  readonly asked: boolean
  /** The seq that was held before the delta arrived. */
  readonly heldSeq: number
  readonly nowMs: number
}

/** The entrance for all deltas of one protocol instance. */
export class DeltaIntake {
  readonly #options: DeltaIntakeOptions

  constructor(options: DeltaIntakeOptions) {
    this.#options = options
  }

  /** Takes one Delta frame, which may be one part of several. Never throws; a refusal becomes the effect `refused`. */
  receive(neighbour: Neighbour, delta: DeltaMessage, nowMs: number): void {
    const { self, meshId, outbox, pulls, replicas, broadcast, persistence } = this.#options
    const peer = neighbour.origin
    const head = readHead(delta.head, meshId)
    if (typeof head === 'string') return outbox.offend(peer, `${head} head`)
    const { origin } = head
    const claim = claimOf(head)
    if (origin === self) return this.#receiveOwnHead(neighbour, head, claim)
    const entered = this.#enter(neighbour, { origin, claim, delta, nowMs })
    if (!entered) return
    const replica = replicas.obtain(origin)
    if (!replica) return outbox.refuse(peer, 'too many origins')
    const asked = pulls.isAsked(origin, peer)
    const heldSeq = replica.position.seq
    const verdict = replica.apply({ from: peer, head, delta, nowMs })
    if (verdict.kind === 'partial') {
      // Without `afterSeq` this is the first part, or an older version answers, which ignores the window and waits for
      // no credit.
      const part = { peer, bytes: verdict.bytes, nowMs, isOld: delta.afterSeq === 0 }
      return this.#grantCredit(origin, part)
    }
    if (asked && (verdict.kind === 'applied' || verdict.kind === 'stale')) {
      const told = neighbour.claims.get(origin)
      pulls.answered(origin, { peer, isShort: !!told && comparePositions(told, head) > 0, nowMs })
    }
    // What brings a credential only is no batch by which a neighbour could become an eager peer.
    if (broadcast.isEager && !asked && delta.operations.length > 0) broadcast.pushed(origin, peer, verdict)
    else if (broadcast.isEager && verdict.kind === 'applied') broadcast.pulled(origin, peer)
    this.#follow({ neighbour, replica, claim, asked, heldSeq, nowMs }, verdict)
    if (entered.isNew) {
      persistence.persistCredential(replica)
      broadcast.credentials.tell(replica, new Uint8Array(delta.credential), { from: peer, nowMs })
    }
  }

  /** Admits the origin of a delta (S2 of protocol.ts). Returns undefined when the delta must not be taken. */
  #enter(
    neighbour: Neighbour,
    arrival: {
      readonly origin: Origin
      readonly claim: Claim
      readonly delta: DeltaMessage
      readonly nowMs: number
    }
  ): Entry | undefined {
    const { origin, claim, delta, nowMs } = arrival
    const { gate, limits, outbox, pulls } = this.#options
    const entry = gate.enter(origin, delta, nowMs)
    if (entry.refusal !== undefined) {
      if (entry.isForged) outbox.offend(neighbour.origin, entry.refusal)
      else outbox.refuse(neighbour.origin, entry.refusal)
    }
    switch (entry.kind) {
      case 'admitted':
        return entry
      case 'credential missing':
        neighbour.claimAtLeast(origin, claim, limits.originsMax)
        pulls.want(origin, nowMs)
        return undefined
      case 'denied':
        pulls.settle(origin)
        return undefined
      case 'ignored':
        return undefined
      default:
        return entry.kind satisfies never
    }
  }

  /** A head of this agent itself. A neighbour alone cannot make it start a new epoch (S3 of protocol.ts). */
  #receiveOwnHead(neighbour: Neighbour, head: Head, claim: Claim): void {
    const { self, own, pulls, limits, outbox } = this.#options
    pulls.settle(self)
    if (!own.hasSigned(head)) {
      neighbour.unclaim(self)
      return outbox.offend(neighbour.origin, 'bad signature')
    }
    neighbour.claim(self, claim, limits.originsMax)
    own.receiveHead(head)
  }

  /** Tells the neighbour that it may send more of its answer, when the scheduler grants that. */
  #grantCredit(origin: Origin, part: Parameters<PullScheduler['progress']>[1]): void {
    const bytes = this.#options.pulls.progress(origin, part)
    if (bytes > 0) this.#options.outbox.send(part.peer, encodeFrame({ credit: { origin, bytes } }))
  }

  /**
   * Acts on the verdict of the replica. In each case the claim of the neighbour and the pull under way are brought up
   * to date.
   */
  #follow(arrival: Arrival, verdict: Exclude<Verdict, { readonly kind: 'partial' }>): void {
    const { neighbour, replica, claim, nowMs } = arrival
    const { limits, equivocation, pulls, puller, outbox } = this.#options
    const { origin } = replica
    const peer = neighbour.origin
    switch (verdict.kind) {
      case 'applied':
        return this.#take(arrival, verdict)
      case 'stray':
        return
      case 'stale':
        // The answer shows that the neighbour holds no more than this, even if it claimed more; the claim is corrected,
        // so that it causes no second pull.
        if (pulls.isAsked(origin, peer)) neighbour.claim(origin, claim, limits.originsMax)
        else neighbour.claimAtLeast(origin, claim, limits.originsMax)
        return puller.reconsider(origin, peer, nowMs)
      case 'gap':
        neighbour.claimAtLeast(origin, claim, limits.originsMax)
        return pulls.want(origin, nowMs)
      case 'equivocation':
        neighbour.claim(origin, claim, limits.originsMax)
        outbox.refuse(peer, 'equivocation')
        equivocation.tell(verdict.proof)
        return pulls.settle(origin)
      case 'refused':
        return this.#refuse(arrival, verdict.reason)
      default:
        return verdict satisfies never
    }
  }

  /**
   * A new state is held: persists it, tells the readers, passes it on and pulls further if a neighbour has still more.
   */
  #take(arrival: Arrival, verdict: Extract<Verdict, { readonly kind: 'applied' }>): void {
    const { neighbour, replica, claim, asked, heldSeq, nowMs } = arrival
    const { limits, persistence, broadcast, puller, outbox, replicas } = this.#options
    const { origin } = replica
    const peer = neighbour.origin
    neighbour.claimAtLeast(origin, claim, limits.originsMax)
    replicas.note(replica)
    persistence.persist(replica, verdict)
    outbox.add({ kind: 'changed', origins: [origin] })
    broadcast.spread(replica, {
      from: peer,
      // After a pull, the other neighbours are likely to pull the same state; pushing it would send it twice. A small
      // one is pushed.
      pushBytesMax: asked ? PULLED_PUSH_BYTES_MAX : limits.partBytes,
      ...(verdict.replaced ? {} : { fromSeq: heldSeq, operations: verdict.operations })
    })
    puller.reconsider(origin, peer, nowMs)
  }

  /** Counts a refused delta and schedules the next pull; after a hash mismatch, the whole state is pulled. */
  #refuse({ neighbour, replica: { origin }, claim, nowMs }: Arrival, reason: DeltaRefusal): void {
    const { limits, pulls, outbox } = this.#options
    const peer = neighbour.origin
    // A hash mismatch is no offence: the records that are held here may be the cause.
    if (reason === 'bad signature' || reason === 'malformed delta') outbox.offend(peer, reason)
    else outbox.refuse(peer, reason)
    const mismatch = reason === 'state hash mismatch'
    // A wrong hash may be the fault of the held records, to which the operations were applied. After a pull of the
    // whole state it is the fault of the neighbour, whose claim is then ignored until it sends a new one.
    if (!mismatch || pulls.isFromZero(origin)) neighbour.unclaim(origin)
    else neighbour.claimAtLeast(origin, claim, limits.originsMax)
    pulls.fail(origin, { peer, nowMs, fromZero: mismatch })
  }
}

// Bytes of a pulled batch up to which it is pushed on. A neighbour that receives such a small batch twice loses little.
const PULLED_PUSH_BYTES_MAX = 2048
