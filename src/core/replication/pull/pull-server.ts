// Answers to a neighbour's pulls: part by part, as far as its credit and the room in its send queue go, so that a slow reader
// costs its open answers, a few bytes each, and a short queue. What an answer needs to go on is a Place; the state may change
// between two parts.
// Invariants
//   A1. What is on its way to a neighbour unasked is at most its credit and one part, for each of ANSWERS_MAX answers.
//   A2. An answer that is dropped costs one more pull: the asker goes on after the last part that it holds.
//   A3. What waits here to be sent to a neighbour is at most its room and one part, whatever its credit.
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

interface Answer {
  place: Place
  part: number
  creditBytes: number
  chain: Uint8Array | undefined
}

export class Answers {
  readonly #answers = new Map<Origin, Answer>()

  open(replica: Replica, pull: PullMessage, chain: Uint8Array | undefined): void {
    this.#answers.delete(replica.origin)
    const creditBytes = pull.window === 0 ? Infinity : Math.min(pull.window, CREDIT_BYTES_MAX)
    this.#answers.set(replica.origin, { place: replica.placeOf(pull), part: 0, creditBytes, chain })
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= ANSWERS_MAX) break
      this.#answers.delete(oldest) // A2
    }
  }

  credit(origin: Origin, bytes: number): void {
    const answer = this.#answers.get(origin)
    if (answer) answer.creditBytes = Math.min(answer.creditBytes + bytes, CREDIT_BYTES_MAX)
  }

  /** Origins whose answers have credit, the one that has waited longest first. */
  get ready(): readonly Origin[] {
    return [...this.#answers].flatMap(([origin, { creditBytes }]) => (creditBytes > 0 ? [origin] : []))
  }

  /** The frames that may be sent now; whoever stops in between goes on with another call. */
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
          ...(answer.chain ? { chain: answer.chain } : {})
        }
      })
      answer.chain = undefined
      answer.creditBytes -= operations.reduce((sum, operation) => sum + operationBytes(operation), 0) // A1
      answer.place = { fromSeq, atSeq, afterSeq: operations.at(-1)?.seq ?? afterSeq }
      this.#answers.delete(replica.origin)
      if (more) this.#answers.set(replica.origin, answer) // behind the others
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

/** What one neighbour is sent. */
interface Queue {
  readonly answers: Answers
  /** Bytes of answers handed over since its send queue was last known to be short. */
  unsentBytes: number
  /** The effect `whenSent` is under way. */
  awaitsSent: boolean
}

/** The answers to all neighbours, and the room that they share. */
export class PullServer {
  readonly #options: PullServerOptions
  readonly #queues = new Map<Origin, Queue>()
  /** Neighbours whose send queue has as many answers as it may. */
  #awaiting = 0

  constructor(options: PullServerOptions) {
    this.#options = options
  }

  receivePull(peer: Origin, pull: PullMessage): void {
    const { replicas, admission, outbox } = this.#options
    const replica = replicas.get(pull.origin as Origin)
    if (!replica?.head) return outbox.refuse(peer, 'pull of an unknown origin')
    const queue = this.#queueOf(peer)
    queue.answers.open(replica, pull, admission.chainOf(replica.origin))
    this.#answer(peer, queue, replica)
  }

  receiveCredit(peer: Origin, { origin, bytes }: CreditMessage): void {
    const replica = this.#options.replicas.get(origin as Origin)
    if (!replica) return this.#options.outbox.refuse(peer, 'credit for an unknown origin')
    const queue = this.#queueOf(peer)
    queue.answers.credit(replica.origin, bytes)
    this.#answer(peer, queue, replica)
  }

  /** The send queue of this neighbour has drained, as the effect `whenSent` asked to be told. */
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

  /** For the answers to one neighbour; at least one part. */
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

// Of one neighbour: as many as it may pull at a time.
const ANSWERS_MAX = 32
// Beyond what a fast and long path holds (1 Gbit/s, 32 ms; 100 Mbit/s, 320 ms), credit only fills queues.
const CREDIT_BYTES_MAX = 4 * 1024 * 1024
