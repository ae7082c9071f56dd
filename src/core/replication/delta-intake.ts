// Deltas that neighbours send: from the chain at the gate to the verdict of the replica, and what follows from the verdict.
import type { Origin } from '../model/values.ts'
import { encodeFrame, type DeltaMessage } from '../wire/messages.ts'
import type { Equivocation } from './equivocation.ts'
import type { Gate } from './gate.ts'
import { readHead, type Head } from './head.ts'
import type { ProtocolLimits } from './limits.ts'
import type { Neighbour } from './neighbour.ts'
import type { Outbox } from './outbox.ts'
import type { OwnOrigin } from './own-origin.ts'
import type { Persistence } from './persistence.ts'
import { claimOf, type Claim } from './pull/claim.ts'
import type { PullScheduler } from './pull/pull-scheduler.ts'
import type { Puller } from './pull/puller.ts'
import type { Broadcast } from './push/broadcast.ts'
import type { DeltaRefusal, Replica, Verdict } from './replica.ts'
import type { Replicas } from './replicas.ts'

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

/** One delta on its way. */
interface Arrival {
  readonly neighbour: Neighbour
  readonly replica: Replica
  readonly claim: Claim
  /** It answers a pull. */
  readonly asked: boolean
  /** The position that was held before it came. */
  readonly heldSeq: number
  readonly nowMs: number
}

export class DeltaIntake {
  readonly #options: DeltaIntakeOptions

  constructor(options: DeltaIntakeOptions) {
    this.#options = options
  }

  receive(neighbour: Neighbour, delta: DeltaMessage, nowMs: number): void {
    const { self, meshId, outbox, pulls, replicas, broadcast } = this.#options
    const peer = neighbour.origin
    const head = readHead(delta.head, meshId)
    if (typeof head === 'string') return outbox.refuse(peer, `${head} head`)
    const { origin } = head
    const claim = claimOf(head)
    if (origin === self) return this.#receiveOwnHead(neighbour, head, claim)
    if (!this.#enter(neighbour, { origin, claim, delta, nowMs })) return
    const replica = replicas.obtain(origin)
    if (!replica) return outbox.refuse(peer, 'too many origins')
    const asked = pulls.isAsked(origin, peer)
    const heldSeq = replica.position.seq
    const verdict = replica.apply({ from: peer, head, delta, nowMs })
    if (verdict.kind === 'partial') {
      // An older version answers without a window, says not what a part goes on after, and knows no credit.
      const part = { peer, bytes: verdict.bytes, nowMs, isOld: delta.afterSeq === 0 }
      return this.#grantCredit(origin, part)
    }
    if (broadcast.isEager && !asked) broadcast.pushed(origin, peer, verdict)
    else if (broadcast.isEager && verdict.kind === 'applied') broadcast.pulled(origin, peer)
    this.#follow({ neighbour, replica, claim, asked, heldSeq, nowMs }, verdict)
  }

  /** S2 of protocol.ts */
  #enter(
    neighbour: Neighbour,
    arrival: {
      readonly origin: Origin
      readonly claim: Claim
      readonly delta: DeltaMessage
      readonly nowMs: number
    }
  ): boolean {
    const { origin, claim, delta, nowMs } = arrival
    const { gate, limits, outbox, pulls } = this.#options
    const entry = gate.enter(origin, delta, nowMs)
    if (entry.refusal !== undefined) outbox.refuse(neighbour.origin, entry.refusal)
    switch (entry.kind) {
      case 'admitted':
        return true
      case 'chain missing':
        neighbour.claimAtLeast(origin, claim, limits.originsMax)
        pulls.want(origin, nowMs)
        return false
      case 'denied':
        pulls.settle(origin)
        return false
      case 'ignored':
        return false
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
      return outbox.refuse(neighbour.origin, 'bad signature')
    }
    neighbour.claim(self, claim, limits.originsMax)
    own.receiveHead(head)
  }

  #grantCredit(origin: Origin, part: Parameters<PullScheduler['progress']>[1]): void {
    const bytes = this.#options.pulls.progress(origin, part)
    if (bytes > 0) this.#options.outbox.send(part.peer, encodeFrame({ credit: { origin, bytes } }))
  }

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
        // The neighbour holds no more than this, whatever it said before: no second pull for the same claim.
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

  #take(arrival: Arrival, verdict: Extract<Verdict, { readonly kind: 'applied' }>): void {
    const { neighbour, replica, claim, asked, heldSeq, nowMs } = arrival
    const { limits, persistence, broadcast, puller, outbox } = this.#options
    const { origin } = replica
    const peer = neighbour.origin
    neighbour.claimAtLeast(origin, claim, limits.originsMax)
    persistence.persist(replica, verdict)
    outbox.add({ kind: 'changed', origins: [origin] })
    broadcast.spread(replica, {
      from: peer,
      // A pulled state is pulled by the other neighbours as well, each piece once, unless it is too small to matter.
      pushBytesMax: asked ? PULLED_PUSH_BYTES_MAX : limits.partBytes,
      ...(verdict.replaced ? {} : { fromSeq: heldSeq, operations: verdict.operations })
    })
    puller.reconsider(origin, peer, nowMs)
  }

  #refuse({ neighbour, replica: { origin }, claim, nowMs }: Arrival, reason: DeltaRefusal): void {
    const { limits, pulls, outbox } = this.#options
    const peer = neighbour.origin
    outbox.refuse(peer, reason)
    const mismatch = reason === 'state hash mismatch'
    // A wrong answer to a pull of the whole state is the fault of the neighbour, until it says something new.
    if (!mismatch || pulls.isFromZero(origin)) neighbour.unclaim(origin)
    else neighbour.claimAtLeast(origin, claim, limits.originsMax)
    pulls.fail(origin, { peer, nowMs, fromZero: mismatch })
  }
}

// A batch as small as this may come twice.
const PULLED_PUSH_BYTES_MAX = 2048
