// The exchange of the trust set between neighbours, sans I/O: frames and times in, effects out. docs/trust-set.md,
// "Exchange", describes it.
// New statements are handed on to all neighbours at once, after their verification. Heads tell whether two sets are
// equal; where they are not, each side pulls what it lacks. So what a flood loses comes by a pull, and the sets of two
// honest neighbours become equal also when one of them has missed statements.
// Invariants
//   X1. A statement is added, stored and handed on only after its verification, and handed on once.
//   X2. No call verifies more than a few items or applies the bounds more than once; the rest waits in bounded queues.
//   X3. A neighbour can delay the statements of others only by its share: queues are served in turn (intake.ts).
//   X4. A neighbour is blamed only for what no honest agent sends.
//   X5. receive() answers any bytes with effects; it never throws.
//   X6. Silence changes nothing: no statement leaves the set by time.
import type { Crypto } from '../../model/crypto.ts'
import { equalBytes } from '../../model/bytes.ts'
import { SteadyClock } from '../../model/steady-clock.ts'
import type { Origin } from '../../model/values.ts'
import { shortOf, type StatementId } from '../set/ids.ts'
import type { ExchangeEffect, ExchangeSet } from './effects.ts'
import { decodeTrustFrame, headFrame, itemsFrames, type TrustFrame, type TrustHead } from './frames.ts'
import { Intake, type Taken } from './intake.ts'
import { EXCHANGE_LIMITS, type ExchangeLimits } from './limits.ts'
import { Neighbour } from './neighbour.ts'
import { Outbox } from './outbox.ts'
import { Pulls } from './pulls.ts'
import { Server } from './server.ts'
import { SetIndex } from './set-index.ts'

export type { ExchangeEffect, ExchangeSet } from './effects.ts'
export { isTrustFrame, type TrustHead } from './frames.ts'

/** The set of one agent, and limits for tests. */
interface ExchangeOptions {
  readonly set: ExchangeSet
  readonly crypto: Crypto
  readonly limits?: Partial<ExchangeLimits>
}

/** Creates the exchange of one agent. */
export function createTrustExchange(options: ExchangeOptions): TrustExchange {
  return new TrustExchange(options)
}

/**
 * The exchange of one agent. The caller carries out all effects of a call before those of the next one. `callerMs` is
 * its clock in milliseconds; it may jump.
 */
export class TrustExchange {
  readonly #set: ExchangeSet
  readonly #limits: ExchangeLimits
  readonly #neighbours = new Map<Origin, Neighbour>()
  readonly #outbox = new Outbox()
  readonly #clock = new SteadyClock()
  readonly #index: SetIndex
  readonly #intake: Intake
  readonly #pulls: Pulls
  readonly #server: Server

  constructor({ set, crypto, limits: changed }: ExchangeOptions) {
    const limits = { ...EXCHANGE_LIMITS, ...changed }
    const index = new SetIndex(set, crypto)
    const shared = { set, crypto, limits, index, outbox: this.#outbox, neighbours: this.#neighbours }
    const intake = new Intake(shared)
    this.#set = set
    this.#limits = limits
    this.#index = index
    this.#intake = intake
    this.#pulls = new Pulls({ ...shared, intake })
    this.#server = new Server(shared)
  }

  /** The head of this agent's set, for Hello. */
  head(): TrustHead {
    this.#index.sync()
    return this.#index.head
  }

  /** Adds a neighbour that has proved its key. `head` is that of its Hello, if it is known. */
  peerUp(peer: Origin, head: TrustHead | undefined, callerMs: number): readonly ExchangeEffect[] {
    const nowMs = this.#clock.at(callerMs)
    this.#forget(peer)
    const neighbour = new Neighbour(peer, this.#limits)
    neighbour.head = head
    this.#neighbours.set(peer, neighbour)
    return this.#finish(nowMs)
  }

  /** Removes a neighbour whose connection has ended, with its queue. What was asked of it is asked of others. */
  peerDown(peer: Origin): readonly ExchangeEffect[] {
    this.#forget(peer)
    return this.#outbox.take()
  }

  /** Takes one frame (isTrustFrame) of a neighbour, without its length prefix. Never throws (X5). */
  receive(peer: Origin, frame: Uint8Array, callerMs: number): readonly ExchangeEffect[] {
    const nowMs = this.#clock.at(callerMs)
    const neighbour = this.#neighbours.get(peer)
    if (neighbour === undefined) {
      this.#outbox.refuse(peer, 'not connected')
      return this.#outbox.take()
    }
    this.#index.sync()
    this.#dispatch(neighbour, decodeTrustFrame(frame, this.#limits), nowMs)
    return this.#finish(nowMs)
  }

  /**
   * Hands on what the caller itself has added to the set: statements of its own, which it has written first, and those
   * that came with a credential.
   */
  added(
    changes: { readonly added: readonly StatementId[]; readonly cut: readonly StatementId[] },
    callerMs: number
  ): readonly ExchangeEffect[] {
    const nowMs = this.#clock.at(callerMs)
    this.#intake.note(changes, nowMs)
    this.#handOn({ ...changes, sources: new Map() })
    return this.#finish(nowMs)
  }

  /** Does all work that is due. Call it about every 200 ms, and in the next turn of the loop after the effect `more`. */
  tick(callerMs: number): readonly ExchangeEffect[] {
    this.#index.sync()
    return this.#finish(this.#clock.at(callerMs))
  }

  /** What the exchange holds beside the set. Tests check it against the limits. */
  load(): {
    readonly items: number
    readonly bytes: number
    readonly remembered: number
    readonly asked: number
  } {
    const neighbours = [...this.#neighbours.values()]
    return {
      items: neighbours.reduce((sum, { queued }) => sum + queued, this.#intake.verified),
      bytes: neighbours.reduce((sum, { queuedBytes }) => sum + queuedBytes, 0),
      remembered: neighbours.reduce((sum, { refused }) => sum + refused.size, this.#intake.remembered),
      asked: this.#pulls.asked
    }
  }

  #dispatch(neighbour: Neighbour, frame: TrustFrame, nowMs: number): void {
    switch (frame.kind) {
      case 'head':
        neighbour.head = frame
        return
      case 'digests':
        return this.#server.answerDigests(neighbour, frame, nowMs)
      case 'ids':
        return this.#pulls.receiveIds(neighbour, frame, nowMs)
      case 'want':
        return this.#server.answerWant(neighbour, frame.ids, nowMs)
      case 'items': {
        const ids = this.#intake.receive(neighbour, frame, nowMs)
        if (frame.answer) this.#pulls.answered(neighbour, ids, frame.last)
        return
      }
      case 'malformed':
        return this.#outbox.blame(neighbour.peer, frame.reason)
      default:
        return frame satisfies never
    }
  }

  /** The end of each call: verifies within the budget, goes on with the pulls, tells the head. */
  #finish(nowMs: number): readonly ExchangeEffect[] {
    const { more, taken } = this.#intake.work(nowMs)
    if (taken !== undefined) this.#handOn(taken)
    for (const neighbour of this.#neighbours.values()) this.#tellHead(neighbour, nowMs)
    this.#pulls.advance(this.#neighbours.values(), nowMs)
    if (more) this.#outbox.add({ kind: 'more' })
    return this.#outbox.take()
  }

  /** Tells the head when it has changed, not more often than headMs, and again after headRepeatMs. */
  #tellHead(neighbour: Neighbour, nowMs: number): void {
    const { head } = this.#index
    const { told } = neighbour
    const isNew = told === undefined || !equalBytes(told.root, head.root)
    const { headMs, headRepeatMs } = this.#limits
    if (told !== undefined && nowMs - told.atMs < (isNew ? headMs : headRepeatMs)) return
    neighbour.told = { root: head.root, atMs: nowMs }
    this.#outbox.send(neighbour.peer, headFrame(head))
  }

  /** Sends new statements to all neighbours that may lack them (X1). */
  #handOn({ added, sources }: Taken): void {
    if (added.length === 0) return
    const items = added.flatMap((id) => {
      const bytes = this.#set.itemOf(id)
      return bytes === undefined ? [] : [{ id: shortOf(id), bytes }]
    })
    for (const neighbour of this.#neighbours.values()) {
      const lacking = items.filter(({ id }) => {
        const source = sources.get(id)
        if (source?.neighbour === neighbour || neighbour.hasQueued(id)) return false
        // A statement that was pulled is an old one. A neighbour whose set is equal to that of its source has it.
        const [there, here] = [source?.neighbour.head, neighbour.head]
        return !(source?.answer === true && there && here && equalBytes(there.root, here.root))
      })
      const frames = itemsFrames(
        lacking.map(({ bytes }) => bytes),
        false,
        this.#limits
      )
      for (const frame of frames) this.#outbox.send(neighbour.peer, frame)
    }
  }

  #forget(peer: Origin): void {
    const neighbour = this.#neighbours.get(peer)
    if (neighbour === undefined) return
    this.#pulls.drop(neighbour)
    this.#neighbours.delete(peer)
  }
}
