// What one agent holds of one origin: single-writer state at a position (epoch, seq), exactly as its origin signed it.
// Invariants
//   P1. The records at (epoch, seq) are the fold of the origin's operations up to it: their hash is the signed stateHash.
//   P2. (epoch, seq) never goes back; a newer epoch replaces everything.
//   P3. Nothing is visible before the last part of a delta, nor anything of a delta that was refused.
//   P4. Two different heads signed for one (epoch, seq) freeze the origin until a newer epoch. An honest origin whose store
//       was rolled back gets out of it by that epoch; another stays where it is.
//   P5. Keys, bytes, tombstones and unfinished deltas are bounded.
import type { Crypto } from './crypto.ts'
import {
  comparePositions,
  NOWHERE,
  sameBytes,
  signHead,
  verifyHead,
  type Head,
  type Position
} from './head.ts'
import type { ReplicaLimits } from './limits.ts'
import type { Origin } from './model.ts'
import { RecordSet, type Place, type SetRefusal } from './record-set.ts'
import { operationBytes, toOperation, type Operation, type StoredRecord } from './record.ts'
import type { DeltaMessage } from './wire.ts'

export type DeltaRefusal =
  SetRefusal | 'malformed delta' | 'bad signature' | 'frozen by equivocation' | 'too many unfinished bytes'

export type Verdict =
  | { readonly kind: 'applied'; readonly replaced: boolean; readonly operations: readonly Operation[] }
  /** A part was taken; the rest has to come. */
  | { readonly kind: 'partial'; readonly bytes: number }
  /** Nothing new in it. */
  | { readonly kind: 'stale' }
  /** A later part of a delta whose first part was not taken. */
  | { readonly kind: 'stray' }
  /** It starts after what is held: pull. */
  | { readonly kind: 'gap' }
  | { readonly kind: 'equivocation'; readonly proof: Proof }
  | { readonly kind: 'refused'; readonly reason: DeltaRefusal }

/** Two different heads of one origin for one position. */
export interface Proof {
  readonly first: Head
  readonly second: Head
}

/** Bytes of all unfinished deltas of all origins together. */
export interface Budget {
  readonly max: number
  used: number
}

export interface ReplicaOptions {
  readonly origin: Origin
  readonly publicKey: Uint8Array
  readonly meshId: Uint8Array
  readonly crypto: Crypto
  readonly limits: ReplicaLimits
  readonly shadows: Budget
}

export interface Change {
  readonly key: string
  /** An encoded Value; undefined deletes. */
  readonly value: Uint8Array | undefined
}

export type Written =
  | { readonly kind: 'written'; readonly replaced: boolean; readonly operations: readonly Operation[] }
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'refused'; readonly reason: SetRefusal }

export class Replica {
  readonly origin: Origin
  readonly #options: ReplicaOptions
  readonly #shadows = new Map<Origin, Shadow>()
  #set: RecordSet
  #head: Head | undefined
  #proof: Proof | undefined
  #epochFloor = 1

  constructor(options: ReplicaOptions) {
    this.origin = options.origin
    this.#options = options
    this.#set = this.#emptySet()
  }

  get head(): Head | undefined {
    return this.#head
  }

  get position(): Position {
    return this.#head ?? NOWHERE
  }

  /** Only whole states, at batch boundaries. Do not keep: a replacement makes a new map. */
  get records(): ReadonlyMap<string, StoredRecord> {
    return this.#set.records
  }

  get bytes(): number {
    return this.#set.bytes
  }

  /** The equivocation that froze this origin. */
  get proof(): Proof | undefined {
    return this.#proof
  }

  /** The lowest epoch that a write may use. */
  get epochFloor(): number {
    return Math.max(this.#epochFloor, this.position.epoch)
  }

  // ------------------------------------------------------------------ taking what others say

  apply(options: { from: Origin; head: Head; delta: DeltaMessage; nowMs: number }): Verdict {
    const { from, head, delta } = options
    if (delta.afterSeq > 0) {
      const shadow = this.#shadows.get(from)
      if (!shadow || !this.#goesOn(shadow, head, delta)) return { kind: 'stray' }
      shadow.resumable = true
      return this.#collect(shadow, options)
    }
    if (delta.part > 0) {
      const shadow = this.#shadows.get(from)
      if (
        !shadow ||
        shadow.nextPart !== delta.part ||
        shadow.fromSeq !== delta.fromSeq ||
        !sameBytes(shadow.head.bytes, head.bytes)
      )
        return { kind: 'stray' }
      return this.#collect(shadow, options)
    }
    this.dropShadow(from)
    const early = this.#judge(head, delta.fromSeq)
    if (early) return early
    if (!this.#verifies(head)) return refused('bad signature')
    const shadow: Shadow = {
      head,
      fromSeq: delta.fromSeq,
      set: undefined,
      operations: [],
      lastSeq: delta.fromSeq,
      atSeq: head.seq,
      resumable: false,
      nextPart: 0,
      bytes: 0,
      touchedMs: 0
    }
    if (delta.fromSeq === 0) shadow.set = this.#emptySet()
    return this.#collect(shadow, options)
  }

  /** Takes a proof that came by itself. True when it is new and holds. */
  freeze(proof: Proof): boolean {
    if (!isProof(proof) || proof.first.epoch < this.position.epoch) return false
    if (this.#proof && this.#proof.first.epoch >= proof.first.epoch) return false
    if (!this.#verifies(proof.first) || !this.#verifies(proof.second)) return false
    this.#proof = proof // P4
    return true
  }

  frozenAt(epoch: number): boolean {
    return this.#proof?.first.epoch === epoch
  }

  /** From the disk: the hash tells whether the records are still what was signed. Undefined when all is well. */
  restore(head: Head, records: Iterable<StoredRecord>): 'bad signature' | 'damaged records' | undefined {
    if (!this.#verifies(head)) return 'bad signature'
    const set = this.#emptySet()
    const sorted = [...records].sort((left, right) => left.seq - right.seq)
    // Whatever was once published above what the damaged store remembers lies in this epoch, too.
    if (set.apply(sorted, head.stateHash)) {
      this.raiseEpoch(head.epoch + 1)
      return 'damaged records'
    }
    set.raiseFloor(head.seq)
    this.#set = set
    this.#head = head
    return undefined
  }

  dropShadow(from: Origin): void {
    this.#options.shadows.used -= this.#shadows.get(from)?.bytes ?? 0
    this.#shadows.delete(from)
  }

  dropShadowsBefore(nowMs: number): void {
    for (const [from, shadow] of this.#shadows) if (shadow.touchedMs < nowMs) this.dropShadow(from)
  }

  // ------------------------------------------------------------------ answering

  /** Where the answer to this pull begins: past what is held, or past what came of an unfinished answer, or with fromSeq 0. */
  placeOf(pull: { epoch: number; fromSeq: number; afterSeq: number; atSeq: number }): Place {
    const { epoch, seq } = this.position
    if (comparePositions({ epoch: pull.epoch, seq: pull.fromSeq }, this.position) >= 0)
      return { fromSeq: seq, afterSeq: 0, atSeq: seq }
    const fresh = { fromSeq: pull.epoch === epoch ? pull.fromSeq : 0, afterSeq: 0, atSeq: seq }
    const goesOn = pull.afterSeq > 0 && pull.epoch === epoch && pull.afterSeq <= seq && pull.atSeq <= seq
    const place = goesOn ? { ...fresh, afterSeq: pull.afterSeq, atSeq: pull.atSeq } : fresh
    return this.#set.next(place, 0) ? place : { fromSeq: 0, afterSeq: 0, atSeq: seq }
  }

  /** The next part of an answer; undefined when it has to start over, because what it needs is forgotten. */
  next(place: Place, bytesMax: number): { operations: readonly Operation[]; more: boolean } | undefined {
    return this.#set.next(place, bytesMax)
  }

  /** An unfinished delta that `peer` may go on with, whoever began it. It is that peer's from now on. */
  resume(peer: Origin): (Place & { readonly epoch: number }) | undefined {
    let best: { readonly from: Origin; readonly shadow: Shadow } | undefined
    for (const [from, shadow] of this.#shadows)
      if (shadow.resumable && shadow.lastSeq > (best?.shadow.lastSeq ?? 0)) best = { from, shadow }
    if (!best || this.#judge(best.shadow.head, best.shadow.fromSeq)) return undefined
    this.#shadows.delete(best.from)
    this.dropShadow(peer)
    this.#shadows.set(peer, best.shadow)
    const { head, fromSeq, lastSeq, atSeq } = best.shadow
    return { epoch: head.epoch, fromSeq, afterSeq: lastSeq, atSeq }
  }

  // ------------------------------------------------------------------ writing: the origin itself

  /** One batch. Changes that change nothing are left out; the last change of a key counts. */
  write(changes: readonly Change[], seed: Uint8Array): Written {
    const latest = new Map(changes.map(({ key, value }) => [key, value]))
    let seq = this.position.seq
    const operations: Operation[] = []
    for (const [key, value] of latest) {
      const before = this.#set.records.get(key)?.value
      const same = value && before ? sameBytes(value, before) : value === before
      if (!same) operations.push({ key, seq: ++seq, value })
    }
    if (operations.length === 0) return { kind: 'unchanged' }
    const refusal = this.#set.apply(operations)
    if (refusal) return { kind: 'refused', reason: refusal }
    this.#sign({ epoch: this.epochFloor, seq, prevSeq: this.position.seq }, seed)
    return { kind: 'written', replaced: false, operations }
  }

  /** Everything anew in a higher epoch, or, with nothing written yet, the next write will be in it. */
  rewrite(epoch: number, seed: Uint8Array): Written {
    this.raiseEpoch(epoch)
    if (!this.#head) return { kind: 'unchanged' }
    const operations = this.#set.snapshot().map(({ key, value }, index) => ({ key, seq: index + 1, value }))
    const set = this.#emptySet()
    const refusal = set.apply(operations)
    if (refusal) return { kind: 'refused', reason: refusal }
    this.#set = set
    this.#sign({ epoch: this.epochFloor, seq: Math.max(1, operations.length), prevSeq: 0 }, seed)
    return { kind: 'written', replaced: true, operations }
  }

  raiseEpoch(epoch: number): void {
    this.#epochFloor = Math.max(this.#epochFloor, epoch)
  }

  // ------------------------------------------------------------------ inside

  /** Undefined: worth verifying. */
  #judge(head: Head, fromSeq: number): Verdict | undefined {
    const order = comparePositions(head, this.position)
    if (order < 0) return { kind: 'stale' } // P2
    if (order === 0) return this.#head && this.#sameOrProof(this.#head, head)
    if (this.frozenAt(head.epoch)) return refused('frozen by equivocation') // P4
    if (fromSeq > head.seq) return refused('malformed delta')
    if (fromSeq === 0) return undefined
    return head.epoch === this.position.epoch && fromSeq <= this.position.seq ? undefined : { kind: 'gap' }
  }

  #sameOrProof(held: Head, head: Head): Verdict {
    if (sameBytes(held.bytes, head.bytes)) return { kind: 'stale' }
    if (!this.#verifies(head)) return refused('bad signature')
    this.#proof ??= { first: held, second: head } // P4
    return { kind: 'equivocation', proof: this.#proof }
  }

  /** The next part of an answer, whose origin may have moved on since the part before: then its new head counts. */
  #goesOn(shadow: Shadow, head: Head, delta: DeltaMessage): boolean {
    if (shadow.lastSeq !== delta.afterSeq || shadow.fromSeq !== delta.fromSeq) return false
    if (sameBytes(shadow.head.bytes, head.bytes)) return true
    if (head.epoch !== shadow.head.epoch || head.seq <= shadow.head.seq || !this.#verifies(head)) return false
    shadow.head = head
    return true
  }

  #collect(shadow: Shadow, options: { from: Origin; delta: DeltaMessage; nowMs: number }): Verdict {
    const { from, delta, nowMs } = options
    const operations = this.#readOperations(shadow, delta)
    const bytes = operations?.reduce((sum, operation) => sum + operationBytes(operation), 0) ?? 0
    const refusal = !operations ? 'malformed delta' : this.#stage(shadow, operations, bytes)
    if (!operations || refusal) {
      this.dropShadow(from)
      return refused(refusal ?? 'malformed delta')
    }
    if (!delta.more) {
      this.dropShadow(from)
      return this.#finish(shadow)
    }
    shadow.bytes += bytes
    this.#options.shadows.used += bytes
    shadow.nextPart = delta.part + 1
    shadow.touchedMs = nowMs
    this.#shadows.set(from, shadow)
    return { kind: 'partial', bytes }
  }

  #readOperations(shadow: Shadow, delta: DeltaMessage): readonly Operation[] | undefined {
    if (delta.more && delta.operations.length === 0) return undefined
    const operations: Operation[] = []
    for (const message of delta.operations) {
      const operation = toOperation(message)
      if (!operation || operation.seq <= shadow.lastSeq || operation.seq > shadow.head.seq) return undefined
      shadow.lastSeq = operation.seq
      operations.push(operation)
    }
    return operations
  }

  #stage(shadow: Shadow, operations: readonly Operation[], bytes: number): DeltaRefusal | undefined {
    const { shadows, limits } = this.#options
    if (shadows.used + bytes > shadows.max) return 'too many unfinished bytes' // P5
    // A snapshot is hashed part by part, so that no single part stops the event loop for long.
    const refusal = shadow.set?.apply(operations)
    if (refusal) return refusal
    // Every record of a full origin, changed and deleted.
    if (shadow.bytes + bytes > 2 * limits.bytesPerOriginMax) return 'too many unfinished bytes'
    if (!shadow.set) for (const operation of operations) shadow.operations.push(operation)
    return undefined
  }

  #finish(shadow: Shadow): Verdict {
    // The state may have moved on while the parts came in.
    const late = this.#judge(shadow.head, shadow.fromSeq)
    if (late) return late
    const replaced = shadow.set !== undefined
    const held = this.position.seq
    const operations = shadow.set?.snapshot() ?? newestOf(shadow.operations.filter(({ seq }) => seq > held))
    if (shadow.set) {
      if (!sameBytes(shadow.set.root, shadow.head.stateHash)) return refused('state hash mismatch') // P1
      shadow.set.raiseFloor(shadow.head.seq)
      this.#set = shadow.set // P3
    } else {
      const refusal = this.#set.apply(operations, shadow.head.stateHash) // P1, P3
      if (refusal) return refused(refusal)
    }
    this.#head = shadow.head
    if (this.#proof && this.#proof.first.epoch < this.#head.epoch) this.#proof = undefined
    return { kind: 'applied', replaced, operations }
  }

  #sign(next: Position & { readonly prevSeq: number }, seed: Uint8Array): void {
    const { crypto, meshId } = this.#options
    this.#head = signHead(
      crypto,
      { seed, meshId },
      { origin: this.origin, ...next, stateHash: this.#set.root }
    )
  }

  #verifies(head: Head): boolean {
    return head.origin === this.origin && verifyHead(this.#options.crypto, this.#options.publicKey, head)
  }

  #emptySet(): RecordSet {
    return new RecordSet(this.#options.crypto, this.#options.limits)
  }
}

/** A delta of which more parts have to come. */
interface Shadow {
  /** That of the last part. */
  head: Head
  readonly fromSeq: number
  /** Of a snapshot: filled part by part. */
  set: RecordSet | undefined
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

/** A key that changed while the parts came is in two of them. */
function newestOf(operations: readonly Operation[]): readonly Operation[] {
  const newest = new Map(operations.map((operation) => [operation.key, operation]))
  return newest.size === operations.length
    ? operations
    : operations.filter((operation) => newest.get(operation.key) === operation)
}

function isProof({ first, second }: Proof): boolean {
  return (
    first.origin === second.origin &&
    comparePositions(first, second) === 0 &&
    !sameBytes(first.bytes, second.bytes)
  )
}

function refused(reason: DeltaRefusal): Verdict {
  return { kind: 'refused', reason }
}
