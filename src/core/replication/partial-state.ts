// Deltas of which more parts have to come: what they have so far, and what of it is kept on disk for a life after this one.
// Invariants
//   U1. Bytes are bounded, in all and for each neighbour, so that nobody takes the room of the others.
//   U2. Of one origin at most one unfinished state is kept on disk; its steps there are in the order of its parts.
import type { Head } from './head.ts'
import type { Origin } from '../model/values.ts'
import type { Operation, StoredRecord } from './record.ts'
import type { RecordSet } from './record-set.ts'

export interface Shadow {
  /** Who sends it; DISK for one that came from there and that nobody has been asked for yet. */
  from: Origin
  /** That of the last part. */
  head: Head
  readonly fromSeq: number
  /** Of a snapshot: filled part by part. */
  readonly set: RecordSet | undefined
  /** Of any other delta. */
  readonly operations: Operation[]
  lastSeq: number
  /** Where the origin stood when the first part was made. */
  readonly atSeq: number
  /** Its parts say what they go on after: anyone can. */
  resumable: boolean
  nextPart: number
  bytes: number
  touchedMs: number
}

export const DISK = '' as Origin

/** What happens to the unfinished state that is kept on disk. */
export type ShadowStep =
  | {
      readonly kind: 'kept'
      readonly head: Head
      readonly atSeq: number
      /** The part goes on after this seq; 0: it is the first one, and whatever was kept before goes. */
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

  /** Little is left: what nobody works on should go. */
  get isShort(): boolean {
    return this.#used > this.#max / 2
  }

  /** U1 */
  hasRoom(from: Origin, bytes: number): boolean {
    const ofPeer = (this.#perPeer.get(from) ?? 0) + bytes
    return this.#used + bytes <= this.#max && (from === DISK || ofPeer <= this.#perPeerMax)
  }

  /** Negative bytes are given back. */
  take(from: Origin, bytes: number): void {
    this.#used += bytes
    const ofPeer = (this.#perPeer.get(from) ?? 0) + bytes
    if (ofPeer > 0) this.#perPeer.set(from, ofPeer)
    else this.#perPeer.delete(from)
  }
}

/** The unfinished deltas of one origin, one of each neighbour. */
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

  /** One more part, of so many bytes, is in it: what came after `afterSeq`. */
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

  /** From disk. */
  restore(shadow: Shadow): void {
    this.#budget.take(DISK, shadow.bytes)
    this.#byPeer.set(DISK, shadow)
    this.#kept = shadow
  }

  /** Finished: it is no shadow any more. True when all but its last part is on disk, to be taken over there. */
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

  /** What nobody has worked on for a while. Kept on disk, it may wait for a neighbour, unless the room is needed. */
  dropIdle(nowMs: number): void {
    this.dropWhere((shadow) => {
      shadow.touchedMs = Math.min(shadow.touchedMs, nowMs) // restored: from now on
      const maxMs = shadow === this.#kept && !this.#budget.isShort ? KEPT_MS : IDLE_MS
      return nowMs - shadow.touchedMs > maxMs
    })
  }

  /** The one that has come farthest. */
  best(): Shadow | undefined {
    let best: Shadow | undefined
    for (const shadow of this.#byPeer.values())
      if (shadow.resumable && shadow.lastSeq > (best?.lastSeq ?? 0)) best = shadow
    return best
  }

  /** It is that peer's from now on. */
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

// A neighbour that stops in the middle of a delta: three pull timeouts.
const IDLE_MS = 10_000
// A line that is gone for some minutes, or an agent that starts before its line is there.
const KEPT_MS = 600_000
