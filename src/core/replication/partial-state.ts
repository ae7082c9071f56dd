// Unfinished deltas (shadows): the parts received so far, and the copy on disk with which a restarted agent continues.
// Invariants
//   U1. Bytes are bounded, in total and for each neighbour, so that no neighbour uses up the room of the others.
//   U2. At most one unfinished state of an origin is kept on disk; its parts are written in their order.
import type { Head } from './head.ts'
import type { Origin } from '../model/values.ts'
import type { Operation, StoredRecord } from './record.ts'
import type { RecordSet } from './record-set.ts'

/** One unfinished delta of one origin. */
export interface Shadow {
  /** The neighbour that sends it; DISK for one that was restored from disk and has not been requested again. */
  from: Origin
  /** The head of the last part. */
  head: Head
  readonly fromSeq: number
  /** The records of a snapshot so far; undefined for any other delta. */
  readonly set: RecordSet | undefined
  /** The operations of a delta that is no snapshot. */
  readonly operations: Operation[]
  lastSeq: number
  /** The seq of the origin when the first part was made. */
  readonly atSeq: number
  /** True when the parts carry `afterSeq`, so that any neighbour can continue. */
  resumable: boolean
  nextPart: number
  bytes: number
  touchedMs: number
}

/** The sender of a shadow that was restored from disk. */
export const DISK = '' as Origin

/** What happens to the unfinished state that is kept on disk. */
export type ShadowStep =
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
export class ShadowBudget {
  readonly #max: number
  readonly #perPeerMax: number
  readonly #perPeer = new Map<Origin, number>()
  #used = 0

  constructor(limits: { readonly shadowBytesMax: number; readonly shadowBytesPerPeerMax: number }) {
    this.#max = limits.shadowBytesMax
    this.#perPeerMax = limits.shadowBytesPerPeerMax
  }

  get used(): number {
    return this.#used
  }

  /** True when more than half of the room is used; then idle shadows are dropped sooner. */
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
export class Shadows {
  readonly #budget: ShadowBudget
  readonly #keep: ((step: ShadowStep) => void) | undefined
  readonly #byPeer = new Map<Origin, Shadow>()
  #kept: Shadow | undefined

  constructor(budget: ShadowBudget, keep?: (step: ShadowStep) => void) {
    this.#budget = budget
    this.#keep = keep
  }

  of(from: Origin): Shadow | undefined {
    return this.#byPeer.get(from)
  }

  hasRoom(from: Origin, bytes: number): boolean {
    return this.#budget.hasRoom(from, bytes)
  }

  /** Accounts for one more part, which continues after `afterSeq`, and keeps it on disk where U2 allows. */
  grow(shadow: Shadow, part: { bytes: number; afterSeq: number; operations: readonly Operation[] }): void {
    const isNew = this.#byPeer.get(shadow.from) !== shadow
    shadow.bytes += part.bytes
    this.#budget.take(shadow.from, part.bytes)
    this.#byPeer.set(shadow.from, shadow)
    if (!this.#keep || !shadow.set || (this.#kept ? this.#kept !== shadow : !isNew)) return // U2
    this.#kept = shadow
    const { head, atSeq, lastSeq } = shadow
    const { afterSeq, operations } = part
    this.#keep({ kind: 'kept', head, atSeq, afterSeq, lastSeq, operations })
  }

  /** Adds a shadow that was read from disk. */
  restore(shadow: Shadow): void {
    this.#budget.take(DISK, shadow.bytes)
    this.#byPeer.set(DISK, shadow)
    this.#kept = shadow
  }

  /** Removes a finished shadow. True when all its parts but the last are on disk, so that the store can adopt them. */
  finish(shadow: Shadow): boolean {
    const isKept = this.#kept === shadow
    if (isKept) this.#kept = undefined
    this.drop(shadow)
    return isKept
  }

  drop(shadow: Shadow | undefined): void {
    if (!shadow) return
    if (this.#byPeer.get(shadow.from) === shadow) {
      this.#byPeer.delete(shadow.from)
      this.#budget.take(shadow.from, -shadow.bytes)
    }
    if (this.#kept !== shadow) return
    this.#kept = undefined
    this.#keep?.({ kind: 'dropped' })
  }

  dropWhere(isGone: (shadow: Shadow) => boolean): void {
    for (const shadow of this.#byPeer.values()) if (isGone(shadow)) this.drop(shadow)
  }

  /** Drops shadows that got no part for IDLE_MS. The one on disk is kept for KEPT_MS, unless room is short. */
  dropIdle(nowMs: number): void {
    this.dropWhere((shadow) => {
      shadow.touchedMs = Math.min(shadow.touchedMs, nowMs) // restored: from now on
      const maxMs = shadow === this.#kept && !this.#budget.isShort ? KEPT_MS : IDLE_MS
      return nowMs - shadow.touchedMs > maxMs
    })
  }

  /** The resumable shadow with the highest seq. */
  best(): Shadow | undefined {
    let best: Shadow | undefined
    for (const shadow of this.#byPeer.values())
      if (shadow.resumable && shadow.lastSeq > (best?.lastSeq ?? 0)) best = shadow
    return best
  }

  /** Assigns the shadow to another neighbour, which continues it. */
  move(shadow: Shadow, peer: Origin): void {
    if (shadow.from === peer) return
    this.drop(this.#byPeer.get(peer))
    this.#byPeer.delete(shadow.from)
    this.#budget.take(shadow.from, -shadow.bytes)
    shadow.from = peer
    this.#budget.take(peer, shadow.bytes)
    this.#byPeer.set(peer, shadow)
  }
}

// Three pull timeouts: the neighbour has stopped in the middle of a delta.
const IDLE_MS = 10_000
// Ten minutes: a network that fails for some minutes, or an agent that starts before its network is up.
const KEPT_MS = 600_000
