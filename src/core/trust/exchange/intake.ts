// Items on their way into the set: the queue of each neighbour, the verification, which is paid from budgets and served
// in turn, and the one call that adds a batch.
// Invariants
//   1. One call verifies at most `itemsPerCall` items. Of each neighbour and of all together, no more are verified in a
//      second than their budgets allow, and neighbours are served in turn.
//   2. What is held, was cut or waits is recognised by the hash of its last body, before any signature is verified.
//   3. A batch that exceeded a bound is followed by none for `trimMs`. So a flood costs one cut in this time, and not
//      one for each item.
//   4. An item that does not find room in the queue is dropped. It is not lost: the heads differ, so it is pulled.
import type { Crypto } from '../../model/crypto.ts'
import { TokenBucket } from '../../model/token-bucket.ts'
import type { Origin } from '../../model/values.ts'
import { decodeTrustItem } from '../../wire/messages.ts'
import type { OpenedItem } from '../set/form.ts'
import { type ShortId, shortOf, statementId, type StatementId } from '../set/ids.ts'
import type { ExchangeSet } from './effects.ts'
import type { ExchangeLimits } from './limits.ts'
import { Memory } from './memory.ts'
import type { Neighbour } from './neighbour.ts'
import type { Outbox } from './outbox.ts'
import type { SetIndex } from './set-index.ts'

/** Where an item came from. */
interface Source {
  readonly neighbour: Neighbour
  readonly answer: boolean
}

/** What a batch changed, and where its items came from. */
export interface Taken {
  readonly added: readonly StatementId[]
  readonly cut: readonly StatementId[]
  readonly sources: ReadonlyMap<ShortId, Source>
}

interface IntakeParts {
  readonly crypto: Crypto
  readonly set: ExchangeSet
  readonly index: SetIndex
  readonly limits: ExchangeLimits
  readonly outbox: Outbox
  readonly neighbours: ReadonlyMap<Origin, Neighbour>
}

/** The way of items into one set. */
export class Intake {
  readonly #parts: IntakeParts
  /** Verified items that the next batch adds. */
  readonly #verified = new Map<ShortId, Source & { readonly item: OpenedItem }>()
  /** What a bound cut lately. */
  readonly #cut: Memory
  /** Admissions that came without their sponsor's. */
  readonly #waiting: Memory
  readonly #budget: TokenBucket
  /** Counts up; the neighbour at this place is served next. */
  #turn = 0
  /** When the next batch may be added (invariant 3). */
  #nextBatchMs = -Infinity

  constructor(parts: IntakeParts) {
    const { limits } = parts
    this.#parts = parts
    this.#cut = new Memory({ max: limits.cutIds, forMs: limits.rememberMs })
    this.#waiting = new Memory({ max: limits.waitingIds, forMs: limits.waitingMs })
    this.#budget = new TokenBucket({ burst: limits.allItemsBurst, perSecond: limits.allItemsPerSecond })
  }

  /** The number of items that are verified and not added yet. */
  get verified(): number {
    return this.#verified.size
  }

  /** The number of ids that are remembered. */
  get remembered(): number {
    return this.#cut.size + this.#waiting.size
  }

  /** Whether this agent should ask this neighbour for a statement. */
  lacks(id: ShortId, from: Neighbour, nowMs: number): boolean {
    return (
      !this.#parts.index.has(id) &&
      !this.#cut.has(id, nowMs) &&
      !this.#waiting.has(id, nowMs) &&
      !from.refused.has(id, nowMs)
    )
  }

  /** Whether a copy of this statement is in a queue, or verified and not added yet. */
  isUnderWay(id: ShortId): boolean {
    if (this.#verified.has(id)) return true
    for (const neighbour of this.#parts.neighbours.values()) if (neighbour.hasQueued(id)) return true
    return false
  }

  /** Puts items of one frame into the queue of their neighbour. Returns the ids of all that could be decoded. */
  receive(
    neighbour: Neighbour,
    frame: { readonly items: readonly Uint8Array[]; readonly answer: boolean },
    nowMs: number
  ): readonly ShortId[] {
    const ids: ShortId[] = []
    let dropped = 0
    for (const item of frame.items) {
      const id = this.#idOf(item)
      if (id === undefined) {
        this.#parts.outbox.blame(neighbour.peer, 'an item is not decodable')
        return ids
      }
      ids.push(id)
      // What was asked for is looked at, even if it came a second time while the answer was on its way.
      if (!this.lacks(id, neighbour, nowMs) || this.#verified.has(id)) continue
      if (!neighbour.enqueue(id, item, frame.answer)) dropped++
    }
    if (dropped > 0)
      this.#parts.outbox.refuse(neighbour.peer, 'too many items at once; they are pulled later')
    return ids
  }

  /** Verifies and adds what the budgets allow. `more`: another call would verify further items at once. */
  work(nowMs: number): { readonly more: boolean; readonly taken: Taken | undefined } {
    const { itemsPerCall, queueItems } = this.#parts.limits
    let verified = 0
    // The items that wait for the end of trimMs are bounded like a queue.
    while (verified < itemsPerCall && this.#verified.size < queueItems) {
      const neighbour = this.#next(nowMs)
      const queued = neighbour?.dequeue()
      if (neighbour === undefined || queued === undefined) break
      this.#verify(neighbour, queued, nowMs)
      verified++
    }
    return { more: verified === itemsPerCall, taken: this.#addBatch(nowMs) }
  }

  /** Takes note of a change of the set, by a batch of this intake or by the caller. */
  note(
    { added, cut }: { readonly added: readonly StatementId[]; readonly cut: readonly StatementId[] },
    nowMs: number
  ) {
    const { index, outbox } = this.#parts
    index.apply({ added, cut })
    for (const id of added) {
      this.#waiting.delete(shortOf(id))
      this.#cut.delete(shortOf(id))
    }
    for (const id of cut) this.#cut.add(shortOf(id), nowMs)
    if (cut.length === 0) return
    this.#nextBatchMs = nowMs + this.#parts.limits.trimMs
    outbox.add({ kind: 'remove', ids: cut })
  }

  /** The next neighbour in turn that has an item in its queue and a budget for it; its budget is charged. */
  #next(nowMs: number): Neighbour | undefined {
    const list = [...this.#parts.neighbours.values()]
    this.#dropHeld(list, nowMs)
    if (list.every(({ queued }) => queued === 0) || !this.#budget.take(nowMs)) return undefined
    for (let step = 0; step < list.length; step++) {
      const at = (this.#turn + step) % list.length
      const neighbour = list[at]
      if (neighbour === undefined || neighbour.queued === 0 || !neighbour.items.take(nowMs)) continue
      this.#turn = at + 1
      return neighbour
    }
    return undefined
  }

  /** Drops items at the heads of queues that were taken from another neighbour meanwhile, at no cost to budgets. */
  #dropHeld(list: readonly Neighbour[], nowMs: number): void {
    for (const neighbour of list)
      for (let first = neighbour.first; first !== undefined; first = neighbour.first) {
        if (this.lacks(first, neighbour, nowMs) && !this.#verified.has(first)) break
        neighbour.dequeue()
      }
  }

  /** Verifies one item (invariant 2 has been seen to). */
  #verify(
    neighbour: Neighbour,
    { id, bytes, answer }: { readonly id: ShortId; readonly bytes: Uint8Array; readonly answer: boolean },
    nowMs: number
  ): void {
    const { set, outbox } = this.#parts
    const item = set.open(bytes)
    if (item.kind === 'item' && !travelsAlone(item)) {
      this.#verified.set(id, { item, neighbour, answer })
      return
    }
    neighbour.refused.add(id, nowMs)
    if (item.kind === 'item')
      outbox.blame(neighbour.peer, 'an item holds a statement that is not for the set')
    else if (item.rule === 'later') outbox.refuse(neighbour.peer, 'a statement of a later version')
    else outbox.blame(neighbour.peer, `a refused item (${item.rule}): ${item.reason}`)
  }

  /** Adds all verified items, unless a bound was exceeded less than trimMs ago. */
  #addBatch(nowMs: number): Taken | undefined {
    const { set, index, outbox } = this.#parts
    if (this.#verified.size === 0 || nowMs < this.#nextBatchMs) return undefined
    const batch = new Map(this.#verified)
    this.#verified.clear()
    const { added, cut } = set.addOpened(Array.from(batch.values(), ({ item }) => item))
    this.note({ added, cut }, nowMs)
    if (added.length > 0) outbox.add({ kind: 'store', ids: added })
    for (const [id, { neighbour }] of batch) {
      if (index.has(id) || this.#cut.has(id, nowMs)) continue
      // It is well-formed, so its sponsor is not known yet. It is asked for again, because the set may drop it.
      this.#waiting.add(id, nowMs)
      outbox.refuse(neighbour.peer, 'an admission waits for that of its sponsor')
    }
    return { added, cut, sources: batch }
  }

  /** The id of the statement that an item is about: the hash of its last body. Undefined when it is not decodable. */
  #idOf(item: Uint8Array): ShortId | undefined {
    const body = decodeTrustItem(item)?.statements.at(-1)?.body
    return body && shortOf(statementId(this.#parts.crypto.sha256(body)))
  }
}

/** Whether an item is about a statement that no set holds by itself. */
function travelsAlone({ statements }: OpenedItem): boolean {
  const last = statements.at(-1)?.statement
  return (
    last?.kind === 'agentCert' ||
    last?.kind === 'invite' ||
    (last?.kind === 'clusterCert' && last.invite !== undefined)
  )
}
