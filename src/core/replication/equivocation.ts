// Proofs of equivocation: two different heads that an origin signed for one position, as when two agents run with one
// key. A proof freezes the origin (P4 of replica.ts) and is passed on to all neighbours, so that all agents stop at the
// same state.
import type { Origin } from '../model/values.ts'
import type { Admission } from '../trust/admission.ts'
import { encodeFrame, type FrameMessage } from '../wire/messages.ts'
import { isEquivocation, readHead, toSignedHead } from './head.ts'
import type { Neighbour } from './neighbour.ts'
import type { Outbox } from './outbox.ts'
import type { OwnOrigin } from './own-origin.ts'
import type { PullScheduler } from './pull/pull-scheduler.ts'
import type { Proof } from './delta-verdict.ts'
import type { Replicas } from './replicas.ts'

/** The parts of the protocol that a proof concerns. */
interface EquivocationOptions {
  readonly self: Origin
  readonly meshId: Uint8Array
  readonly admission: Admission
  readonly pulls: PullScheduler
  readonly own: OwnOrigin
  readonly replicas: Replicas
  readonly neighbours: ReadonlyMap<Origin, Neighbour>
  readonly outbox: Outbox
}

/** Receives and sends the proofs of one protocol instance. */
export class Equivocation {
  readonly #options: EquivocationOptions

  constructor(options: EquivocationOptions) {
    this.#options = options
  }

  /**
   * Takes a proof that a neighbour has sent. A proof against this agent means that its store was set back, or that a
   * second agent runs with its key; it then publishes in a new epoch.
   */
  receive(peer: Origin, message: NonNullable<FrameMessage['equivocation']>): void {
    const { meshId, self, admission, own, pulls, replicas, outbox } = this.#options
    const first = readHead(message.first, meshId)
    const second = readHead(message.second, meshId)
    if (typeof first === 'string' || typeof second === 'string')
      return outbox.offend(peer, 'malformed equivocation')
    if (!isEquivocation(first, second)) return outbox.offend(peer, 'malformed equivocation')
    const { origin } = first
    if (origin === self) {
      if (!own.hasSigned(first) || !own.hasSigned(second)) return outbox.offend(peer, 'bad signature')
      return own.leaveEpoch(first.epoch)
    }
    if (!admission.isAdmitted(origin)) return // S2 of protocol.ts
    const verdict = replicas.obtain(origin)?.freeze({ first, second })
    if (verdict === 'bad signature') outbox.offend(peer, verdict)
    if (verdict !== 'frozen') return
    outbox.refuse(peer, 'equivocation')
    pulls.settle(origin)
    this.tell({ first, second }, peer)
  }

  /** Sends a proof to all neighbours but the one that it came from. */
  tell(proof: Proof, except?: Origin): void {
    this.#send(
      proof,
      [...this.#options.neighbours.keys()].filter((peer) => peer !== except)
    )
  }

  /** Sends the proofs that are held, at most PROOFS_MAX of them. */
  tellAll(peers: readonly Origin[]): void {
    let sent = 0
    for (const { proof } of this.#options.replicas.all())
      if (proof && sent++ < PROOFS_MAX) this.#send(proof, peers)
  }

  #send({ first, second }: Proof, peers: readonly Origin[]): void {
    const frame = encodeFrame({ equivocation: { first: toSignedHead(first), second: toSignedHead(second) } })
    for (const peer of peers) this.#options.outbox.send(peer, frame)
  }
}

// Proofs that are sent to one neighbour in each heads interval. Equivocation is rare; many frozen origins must not fill
// the streams.
const PROOFS_MAX = 16
