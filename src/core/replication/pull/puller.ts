// Decides which states are pulled and from which neighbour, and sends the pulls. pull-scheduler.ts decides when. The
// input is the claims of the neighbours: heads that they tell, and heads of deltas that they send.
import type { Origin } from '../../model/values.ts'
import { parseOrigin } from '../../model/identity.ts'
import { encodeFrame, type HeadsMessage } from '../../wire/messages.ts'
import type { Gate } from '../gate.ts'
import { comparePositions } from '../head.ts'
import type { ProtocolLimits } from '../limits.ts'
import type { Neighbour } from '../neighbour.ts'
import type { Outbox } from '../outbox.ts'
import type { OwnOrigin } from '../own-origin.ts'
import type { Broadcast } from '../push/broadcast.ts'
import type { Replicas } from '../replicas.ts'
import { choosePeer, type Candidate, type Choice } from './choose-peer.ts'
import { isSameState, isWorthPulling, type Claim } from './claim.ts'
import type { DuePull, PullScheduler } from './pull-scheduler.ts'
import { pushGraceMs } from './push-grace.ts'

interface PullerOptions {
  readonly self: Origin
  readonly limits: ProtocolLimits
  readonly pulls: PullScheduler
  readonly gate: Gate
  readonly own: OwnOrigin
  readonly broadcast: Broadcast
  readonly replicas: Replicas
  readonly neighbours: ReadonlyMap<Origin, Neighbour>
  readonly outbox: Outbox
}

/** The puller of one protocol instance. */
export class Puller {
  readonly #options: PullerOptions

  constructor(options: PullerOptions) {
    this.#options = options
  }

  /** A neighbour tells which heads it holds: pulls what is newer (S4 of protocol.ts). */
  receiveHeads(neighbour: Neighbour, { heads }: HeadsMessage, nowMs: number): void {
    const { self, limits, pulls, own, replicas, outbox } = this.#options
    for (const { origin: name, epoch, seq, check } of heads) {
      const origin = replicas.originOf(name) ?? parseOrigin(name)
      if (!origin) return outbox.offend(neighbour.origin, 'malformed origin')
      const claim = { epoch, seq, check }
      if (origin === self) own.noteHeld(claim, nowMs)
      if (isSameState(claim, replicas.get(origin)?.head)) {
        neighbour.setInStep(origin)
        continue
      }
      if (!neighbour.claim(origin, claim, limits.originsMax)) {
        return outbox.refuse(neighbour.origin, 'too many origins')
      }
      if (!this.#isBehind(origin, claim, nowMs)) continue
      pulls.want(origin, nowMs + this.#graceMs(neighbour, origin))
      pulls.prefer(neighbour.origin, origin, nowMs)
    }
  }

  /** Starts every pull that may start now. */
  start(nowMs: number): void {
    this.#options.pulls.start(
      nowMs,
      (pull) => this.#choose(pull, nowMs),
      (pull, peer, windowBytes) => this.#ask(pull, peer, windowBytes)
    )
  }

  /** After an answer of `peer`: pulls on while any neighbour is ahead. */
  reconsider(origin: Origin, peer: Origin, nowMs: number): void {
    const { neighbours, pulls } = this.#options
    for (const { claims } of neighbours.values()) {
      const claim = claims.get(origin)
      if (claim && this.#isBehind(origin, claim, nowMs)) return pulls.again(origin, peer)
    }
    pulls.settle(origin)
  }

  /** How long the pull waits for a push of the same state (push-grace.ts). */
  #graceMs(neighbour: Neighbour, origin: Origin): number {
    const { neighbours, broadcast, limits } = this.#options
    const told = {
      isFromOrigin: origin === neighbour.origin,
      isOfNeighbour: neighbours.has(origin),
      isEager: broadcast.hasEagerPeer(origin)
    }
    return pushGraceMs(told, limits.pushGraceMs)
  }

  /** Chooses among the neighbours whose claim is newer than the held state. */
  #choose({ origin }: DuePull, nowMs: number): Choice {
    const { neighbours, pulls } = this.#options
    const candidates: Candidate[] = []
    const all = [...neighbours.keys()]
    for (const { origin: peer, claims } of neighbours.values()) {
      const claim = claims.get(origin)
      if (!claim || !this.#isBehind(origin, claim, nowMs)) continue
      const isBusy = pulls.isBusy(peer, all, nowMs)
      const standing = pulls.standing(peer, origin, nowMs)
      candidates.push({ peer, claim, ...standing, pulls: pulls.activeWith(peer), isBusy })
    }
    return choosePeer(candidates, nowMs)
  }

  /** Sends the pull: after the held position, after the last part of an unfinished delta, or for the whole state. */
  #ask({ origin, fromZero }: DuePull, peer: Origin, windowBytes: number): void {
    const { neighbours, replicas, self, outbox } = this.#options
    const claim = neighbours.get(peer)?.claims.get(origin)
    if (!claim) return
    const held = replicas.positionOf(origin)
    // In two cases this agent needs only the signed head: for its own origin, and when the claim is of another state
    // at the position that is held. So it asks for what follows the claimed position, and the answer is a delta
    // without operations.
    const headOnly = origin === self || comparePositions(claim, held) === 0
    const { epoch, seq } = headOnly ? claim : fromZero ? { epoch: 0, seq: 0 } : held
    const begun = headOnly || fromZero ? undefined : replicas.get(origin)?.resume(peer, claim)
    const place = begun ?? { epoch, fromSeq: seq }
    outbox.send(peer, encodeFrame({ pull: { origin, ...place, window: windowBytes } }))
  }

  /** True when the claim is newer than the held state and pulling it can succeed. */
  #isBehind(origin: Origin, claim: Claim, nowMs: number): boolean {
    const { gate, replicas, self } = this.#options
    if (gate.isDenied(origin, nowMs)) return false
    const replica = replicas.get(origin)
    if (replica?.frozenAt(claim.epoch)) return false
    if (origin === self && claim.epoch < replicas.own.epochFloor) return false
    return isWorthPulling(claim, replica?.head)
  }
}
