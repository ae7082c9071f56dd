// What the exchange keeps about one neighbour, bounded: its queue of items, its budgets, and the comparison under way.
import { TokenBucket } from '../../model/token-bucket.ts'
import type { Origin } from '../../model/values.ts'
import type { ShortId } from '../set/ids.ts'
import type { TrustHead } from './frames.ts'
import type { ExchangeLimits } from './limits.ts'
import { Memory } from './memory.ts'

/** An item that waits for its verification. */
interface Queued {
  readonly bytes: Uint8Array
  /** Whether it came as an answer to TrustWant, and not as a new item that is handed on. */
  readonly answer: boolean
}

/** One neighbour. */
export class Neighbour {
  readonly peer: Origin
  /** Its set, as it told last. */
  head: TrustHead | undefined
  /** Whether the effect `inStep` was sent. */
  inStep = false
  /** Our head as it was told last, and when. */
  told: { readonly root: Uint8Array; readonly atMs: number } | undefined
  /** The comparison with this neighbour. */
  readonly pull = new Pull()
  /** Its copies that were refused; copies of other neighbours may be good. */
  readonly refused: Memory
  /** What this agent verifies, answers and serves. */
  readonly items: TokenBucket
  readonly questions: TokenBucket
  readonly served: TokenBucket
  readonly #queue = new Map<ShortId, Queued>()
  readonly #limits: ExchangeLimits
  #queueBytes = 0

  constructor(peer: Origin, limits: ExchangeLimits) {
    this.peer = peer
    this.#limits = limits
    this.refused = new Memory({ max: limits.refusedIds, forMs: limits.rememberMs })
    this.items = new TokenBucket({ burst: limits.itemsBurst, perSecond: limits.itemsPerSecond })
    this.questions = new TokenBucket({ burst: limits.questionsBurst, perSecond: limits.questionsPerSecond })
    this.served = new TokenBucket({ burst: limits.servedBurst, perSecond: limits.servedPerSecond })
  }

  get queued(): number {
    return this.#queue.size
  }

  get queuedBytes(): number {
    return this.#queueBytes
  }

  /** The id of the first item in the queue. */
  get first(): ShortId | undefined {
    const [first] = this.#queue.keys()
    return first
  }

  hasQueued(id: ShortId): boolean {
    return this.#queue.has(id)
  }

  /** Puts a copy of the item into the queue; false when the queue is full. */
  enqueue(id: ShortId, item: Uint8Array, answer: boolean): boolean {
    if (this.#queue.has(id)) return true
    const full =
      this.#queue.size >= this.#limits.queueItems || this.#queueBytes + item.length > this.#limits.queueBytes
    if (full) return false
    // A copy: the item is a part of its frame, which would stay in memory with it.
    this.#queue.set(id, { bytes: new Uint8Array(item), answer })
    this.#queueBytes += item.length
    return true
  }

  /** Takes the first item out of the queue. */
  dequeue(): (Queued & { readonly id: ShortId }) | undefined {
    const [first] = this.#queue
    if (first === undefined) return undefined
    const [id, queued] = first
    this.#queue.delete(id)
    this.#queueBytes -= queued.bytes.length
    return { id, ...queued }
  }
}

/** The comparison of two sets: from the question for differing ids to the last wanted item. */
class Pull {
  /** Undefined while no comparison is under way. */
  round: Round | undefined
  /** Since when the two sets have differed without a break. */
  differsMs: number | undefined
  /** When the last comparison ended, the pause after it, and the two roots at that time. */
  endedMs = -Infinity
  pauseMs = 0
  endedRoots = ''
}

/** One comparison under way. */
export interface Round {
  readonly beganMs: number
  /** When the latest question was asked, and whether its answer is still due. */
  questionMs: number
  answerDue: boolean
  /** The place where the neighbour's following part begins; 0: there is none. */
  next: number
  /** Ids that the neighbour has and this set lacks, in the neighbour's order. */
  wanted: readonly ShortId[]
  /** When the wanted ids are looked through again. */
  lookMs: number
  /** The TrustWant that is not answered yet. */
  want: { readonly ids: Set<ShortId>; readonly atMs: number; received: number } | undefined
  /** Whether something that was wanted has not come. */
  missed: boolean
}
