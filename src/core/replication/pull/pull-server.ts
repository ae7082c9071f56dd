// Answers the pulls of neighbours. An answer is sent part by part, as far as the neighbour's credit and the room in its
// send queue allow, so a slow reader costs only a few bytes for each open answer and a short queue. Between two parts,
// an answer is a Place (record-set.ts), and the state may change.
// Invariants
//   A1. Each of at most ANSWERS_MAX answers to a neighbour has at most its credit and one part on its way.
//   A2. An answer that is dropped costs one more pull: the neighbour continues after the last part that it holds.
//   A3. At most `unsentBytesMax` and one part wait here to be sent to a neighbour, even when it has more credit.
import { toSignedHead } from '../head.ts'
import type { ProtocolLimits } from '../limits.ts'
import type { Outbox } from '../outbox.ts'
import type { Replicas } from '../replicas.ts'
import type { Admission } from '../../trust/admission.ts'
import type { Origin } from '../../model/values.ts'
import { encodeOperation } from '../delta-frames.ts'
import { operationBytes } from '../record.ts'
import type { Place } from '../record-set.ts'
import type { Replica } from '../replica.ts'
import { encodeFrame, type CreditMessage, type PullMessage } from '../../wire/messages.ts'

/** An open answer: where it continues and how much it may send. */
interface Answer {
  place: Place
  /** The number of the next part, from 0. */
  part: number
  creditBytes: number
  /** The credential, which the next part carries; undefined once it was sent. */
  credential: Uint8Array | undefined
}

/** The open answers to one neighbour, at most one for each origin. */
export class Answers {
  readonly #answers = new Map<Origin, Answer>()

  /**
   * Opens the answer to a pull; an earlier answer for the same origin ends. A pull with window 0 comes from an older
   * version that sends no Credit frames, so its answer is sent without waiting for credit.
   */
  open(replica: Replica, pull: PullMessage, credential: Uint8Array | undefined): void {
    this.#answers.delete(replica.origin)
    const creditBytes = pull.window === 0 ? Infinity : Math.min(pull.window, CREDIT_BYTES_MAX)
    this.#answers.set(replica.origin, { place: replica.placeOf(pull), part: 0, creditBytes, credential })
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= ANSWERS_MAX) break
      this.#answers.delete(oldest) // A2
    }
  }

  /** Adds credit to an answer; for an answer that is complete or dropped it is ignored. */
  credit(origin: Origin, bytes: number): void {
    const answer = this.#answers.get(origin)
    if (answer) answer.creditBytes = Math.min(answer.creditBytes + bytes, CREDIT_BYTES_MAX)
  }

  /** Origins whose answers have credit, the one that has waited longest first. */
  get ready(): readonly Origin[] {
    return [...this.#answers].flatMap(([origin, { creditBytes }]) => (creditBytes > 0 ? [origin] : []))
  }

  /**
   * Generates the frames that may be sent now. The caller may stop after any of them and call again later. An answer
   * whose tombstones were forgotten meanwhile starts over as a snapshot.
   */
  *frames(replica: Replica, partBytes: number): Generator<Uint8Array> {
    const answer = this.#answers.get(replica.origin)
    const { head } = replica
    if (!answer || !head) return
    while (answer.creditBytes > 0) {
      const next = replica.next(answer.place, partBytes)
      if (!next) {
        answer.place = { fromSeq: 0, afterSeq: 0, atSeq: head.seq }
        answer.part = 0
        continue
      }
      const { operations, more } = next
      const { fromSeq, afterSeq, atSeq } = answer.place
      const frame = encodeFrame({
        delta: {
          head: toSignedHead(head),
          fromSeq,
          operations: operations.map(encodeOperation),
          part: answer.part++,
          more,
          ...(afterSeq > 0 ? { afterSeq } : {}),
          ...(answer.credential ? { credential: answer.credential } : {})
        }
      })
      answer.credential = undefined
      answer.creditBytes -= operations.reduce((sum, operation) => sum + operationBytes(operation), 0) // A1
      answer.place = { fromSeq, atSeq, afterSeq: operations.at(-1)?.seq ?? afterSeq }
      this.#answers.delete(replica.origin)
      if (more) this.#answers.set(replica.origin, answer) // moves it behind the other answers
      yield frame
      if (!more) return
    }
  }
}

interface PullServerOptions {
  readonly limits: ProtocolLimits
  readonly admission: Admission
  readonly replicas: Replicas
  readonly outbox: Outbox
}

/** The answers to one neighbour, and what waits in its send queue. */
interface Queue {
  readonly answers: Answers
  /** Bytes of answers that were given to the caller since its send queue last drained. */
  unsentBytes: number
  /** True after the effect `whenSent` was given, until `sent` is called. */
  awaitsSent: boolean
}

/** The answers to all neighbours. They share `allUnsentBytesMax`, the bytes that may wait in send queues. */
export class PullServer {
  readonly #options: PullServerOptions
  readonly #queues = new Map<Origin, Queue>()
  /** The number of neighbours with `awaitsSent`, among which `allUnsentBytesMax` is divided. */
  #awaiting = 0

  constructor(options: PullServerOptions) {
    this.#options = options
  }

  /** Takes a Pull frame and sends the first parts. */
  receivePull(peer: Origin, pull: PullMessage): void {
    const { replicas, admission, outbox } = this.#options
    const replica = replicas.get(pull.origin as Origin)
    if (!replica?.head) return outbox.refuse(peer, 'pull of an unknown origin')
    const queue = this.#queueOf(peer)
    queue.answers.open(replica, pull, admission.credentialOf(replica.origin))
    this.#answer(peer, queue, replica)
  }

  /** Takes a Credit frame and sends the parts that it allows. */
  receiveCredit(peer: Origin, { origin, bytes }: CreditMessage): void {
    const replica = this.#options.replicas.get(origin as Origin)
    if (!replica) return this.#options.outbox.refuse(peer, 'credit for an unknown origin')
    const queue = this.#queueOf(peer)
    queue.answers.credit(replica.origin, bytes)
    this.#answer(peer, queue, replica)
  }

  /** Call it when the send queue of this neighbour has drained, after the effect `whenSent`. Sends the next parts. */
  sent(peer: Origin): void {
    const queue = this.#queues.get(peer)
    if (!queue?.awaitsSent) return
    queue.awaitsSent = false
    queue.unsentBytes = 0
    this.#awaiting--
    for (const origin of queue.answers.ready) {
      if (queue.awaitsSent) return
      const replica = this.#options.replicas.get(origin)
      if (replica) this.#answer(peer, queue, replica)
    }
  }

  peerDown(peer: Origin): void {
    if (this.#queues.get(peer)?.awaitsSent) this.#awaiting--
    this.#queues.delete(peer)
  }

  /**
   * Sends parts of one answer as far as there is room; when there is none, asks to be called once the queue has
   * drained.
   */
  #answer(peer: Origin, queue: Queue, replica: Replica): void {
    const { limits, outbox } = this.#options
    const roomBytes = this.#roomBytes()
    if (queue.unsentBytes < roomBytes) {
      for (const frame of queue.answers.frames(replica, limits.partBytes)) {
        outbox.send(peer, frame)
        queue.unsentBytes += frame.length
        if (queue.unsentBytes >= roomBytes) break // A3
      }
    }
    if (queue.unsentBytes < roomBytes || queue.awaitsSent) return
    queue.awaitsSent = true
    this.#awaiting++
    outbox.add({ kind: 'whenSent', to: peer })
  }

  /**
   * The bytes of answers that may wait for one neighbour: `unsentBytesMax`, or its share of `allUnsentBytesMax` when
   * that is less, but one part at least.
   */
  #roomBytes(): number {
    const { partBytes, unsentBytesMax, allUnsentBytesMax } = this.#options.limits
    return Math.max(partBytes, Math.min(unsentBytesMax, allUnsentBytesMax / Math.max(1, this.#awaiting)))
  }

  #queueOf(peer: Origin): Queue {
    let queue = this.#queues.get(peer)
    if (!queue) {
      queue = { answers: new Answers(), unsentBytes: 0, awaitsSent: false }
      this.#queues.set(peer, queue)
    }
    return queue
  }
}

// Open answers to one neighbour: as many pulls as it may have under way (`pullsMax`).
const ANSWERS_MAX = 32
// As much as a fast and long path holds: 1 Gbit/s with 32 ms, or 100 Mbit/s with 320 ms. More credit would only fill
// queues.
const CREDIT_BYTES_MAX = 4 * 1024 * 1024
