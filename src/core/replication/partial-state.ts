// Unfinished deltas: the parts of a delta that have arrived are staged apart from the visible records (P3 of
// replica.ts) until the last part completes it. The parts of a snapshot are also kept on disk, so that a restarted
// agent continues after the last one (docs/decisions/0015).
// Invariants
//   U1. Bytes are bounded, in total and for each neighbour, so that no neighbour uses up the room of the others.
//   U2. At most one unfinished state of an origin is kept on disk; its parts are written in their order.
import type { Head } from './head.ts'
import type { Origin } from '../model/values.ts'
import type { Operation, StoredRecord } from './record.ts'
import type { RecordSet } from './record-set.ts'

/** One unfinished delta of one origin. */
export interface StagedDelta {
  /** The neighbour that sends it; DISK for one that was restored from disk and has not been requested again. */
  from: Origin
  /** The head of the last part. */
  head: Head
  /** The delta leads from this seq to its head; 0 for a snapshot. */
  readonly fromSeq: number
  /** The records of a snapshot so far; undefined for any other delta. */
  readonly set: RecordSet | undefined
  /** The operations of a delta that is no snapshot. */
  readonly operations: Operation[]
  /** The seq of the last operation that has arrived; the next part continues after it. */
  lastSeq: number
  /** The seq of the origin when the first part was made. */
  readonly atSeq: number
  /** True when the parts carry `afterSeq`, so that any neighbour can continue. */
  resumable: boolean
  /** The number of the part that must come next when the parts carry no `afterSeq`. */
  nextPart: number
  /** Bytes of all operations so far, which count against the budget. */
  bytes: number
  /** When the last part arrived; Infinity for one that was just restored from disk. */
  touchedMs: number
}

/**
 * The sender of an unfinished delta that was restored from disk. It is no PeerId, so it is never confused with a
 * neighbour.
 */
export const DISK = '' as Origin

/** What happens to the unfinished state that is kept on disk. */
export type StagingStep =
  | {
      readonly kind: 'kept'
      readonly head: Head
      readonly atSeq: number
      /** The part continues after this seq; 0 is the first part, which replaces what was kept before. */
      readonly afterSeq: number
      readonly lastSeq: number
      readonly operations: readonly Operation[]
    }
  | { readonly kind: 'dropped' }

/** An unfinished state as it was kept on disk. */
export interface KeptParts {
  readonly head: Head
  readonly atSeq: number
  readonly lastSeq: number
  readonly records: Iterable<StoredRecord>
}

/** Bytes of all unfinished deltas of all origins together. */
export class StagingBudget {
  readonly #max: number
  readonly #perPeerMax: number
  readonly #perPeer = new Map<Origin, number>()
  #used = 0

  constructor(limits: { readonly stagingBytesMax: number; readonly stagingBytesPerPeerMax: number }) {
    this.#max = limits.stagingBytesMax
    this.#perPeerMax = limits.stagingBytesPerPeerMax
  }

  /** Bytes in use. */
  get used(): number {
    return this.#used
  }

  /** True when more than half of the room is used; idle deltas are then dropped sooner. */
  get isShort(): boolean {
    return this.#used > this.#max / 2
  }

  /** True when `bytes` more fit into the limits (U1). */
  hasRoom(from: Origin, bytes: number): boolean {
    const ofPeer = (this.#perPeer.get(from) ?? 0) + bytes
    return this.#used + bytes <= this.#max && (from === DISK || ofPeer <= this.#perPeerMax)
  }

  /** Reserves bytes for a neighbour; a negative number releases them. */
  take(from: Origin, bytes: number): void {
    this.#used += bytes
    const ofPeer = (this.#perPeer.get(from) ?? 0) + bytes
    if (ofPeer > 0) this.#perPeer.set(from, ofPeer)
    else this.#perPeer.delete(from)
  }
}

/** The unfinished deltas of one origin, at most one from each neighbour. */
export class StagedDeltas {
  readonly #budget: StagingBudget
  readonly #keep: ((step: StagingStep) => void) | undefined
  readonly #byPeer = new Map<Origin, StagedDelta>()
  #kept: StagedDelta | undefined

  constructor(budget: StagingBudget, keep?: (step: StagingStep) => void) {
    this.#budget = budget
    this.#keep = keep
  }

  /** The unfinished delta that this neighbour sends. */
  of(from: Origin): StagedDelta | undefined {
    return this.#byPeer.get(from)
  }

  hasRoom(from: Origin, bytes: number): boolean {
    return this.#budget.hasRoom(from, bytes)
  }

  /** Accounts for one more part, which continues after `afterSeq`, and keeps it on disk where U2 allows. */
  grow(
    staged: StagedDelta,
    part: { bytes: number; afterSeq: number; operations: readonly Operation[] }
  ): void {
    const isNew = this.#byPeer.get(staged.from) !== staged
    staged.bytes += part.bytes
    this.#budget.take(staged.from, part.bytes)
    this.#byPeer.set(staged.from, staged)
    if (!this.#keep || !staged.set || (this.#kept ? this.#kept !== staged : !isNew)) return // U2
    this.#kept = staged
    const { head, atSeq, lastSeq } = staged
    const { afterSeq, operations } = part
    this.#keep({ kind: 'kept', head, atSeq, afterSeq, lastSeq, operations })
  }

  /** Adds an unfinished delta that was read from disk. */
  restore(staged: StagedDelta): void {
    this.#budget.take(DISK, staged.bytes)
    this.#byPeer.set(DISK, staged)
    this.#kept = staged
  }

  /**
   * Removes a completed delta. Returns true when all its parts but the last are on disk, so that the store can adopt
   * them.
   */
  finish(staged: StagedDelta): boolean {
    const isKept = this.#kept === staged
    if (isKept) this.#kept = undefined
    this.drop(staged)
    return isKept
  }

  /** Gives an unfinished delta up: frees its bytes and removes its parts from disk. */
  drop(staged: StagedDelta | undefined): void {
    if (!staged) return
    if (this.#byPeer.get(staged.from) === staged) {
      this.#byPeer.delete(staged.from)
      this.#budget.take(staged.from, -staged.bytes)
    }
    if (this.#kept !== staged) return
    this.#kept = undefined
    this.#keep?.({ kind: 'dropped' })
  }

  dropWhere(isGone: (staged: StagedDelta) => boolean): void {
    for (const staged of this.#byPeer.values()) if (isGone(staged)) this.drop(staged)
  }

  /**
   * Drops deltas of which no part arrived for IDLE_MS. The one that is on disk is kept for KEPT_MS, unless room is
   * short.
   */
  dropIdle(nowMs: number): void {
    this.dropWhere((staged) => {
      staged.touchedMs = Math.min(staged.touchedMs, nowMs) // for a restored delta the time starts now
      const maxMs = staged === this.#kept && !this.#budget.isShort ? KEPT_MS : IDLE_MS
      return nowMs - staged.touchedMs > maxMs
    })
  }

  /** The resumable delta that has come furthest. */
  best(): StagedDelta | undefined {
    let best: StagedDelta | undefined
    for (const staged of this.#byPeer.values())
      if (staged.resumable && staged.lastSeq > (best?.lastSeq ?? 0)) best = staged
    return best
  }

  /** Assigns the delta to another neighbour, which continues it. A delta that this neighbour had begun is dropped. */
  move(staged: StagedDelta, peer: Origin): void {
    if (staged.from === peer) return
    this.drop(this.#byPeer.get(peer))
    this.#byPeer.delete(staged.from)
    this.#budget.take(staged.from, -staged.bytes)
    staged.from = peer
    this.#budget.take(peer, staged.bytes)
    this.#byPeer.set(peer, staged)
  }
}

// About three pull timeouts: the neighbour has stopped in the middle of a delta, and no other one has continued it.
const IDLE_MS = 10_000
// Ten minutes outlast a network that fails for some minutes, and the start of an agent before its network is up.
const KEPT_MS = 600_000
