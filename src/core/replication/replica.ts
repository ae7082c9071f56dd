// What one agent holds of one origin: single-writer state at a position (epoch, seq), exactly as its origin signed it.
// Invariants
//   P1. The records at (epoch, seq) are the fold of the origin's operations up to it: their hash is the signed stateHash.
//   P2. (epoch, seq) never goes back; a newer epoch replaces everything.
//   P3. Nothing is visible before the last part of a delta, nor anything of a delta that was refused.
//   P4. Two different heads signed for one (epoch, seq) freeze the origin until a newer epoch. An honest origin whose store
//       was rolled back gets out of it by that epoch; another stays where it is.
//   P5. Keys, bytes, tombstones and unfinished deltas are bounded.
import type { Crypto } from '../model/crypto.ts'
import {
  comparePositions,
  isEquivocation,
  NOWHERE,
  signHead,
  verifyHead,
  type Head,
  type Position
} from './head.ts'
import type { ReplicaLimits } from './limits.ts'
import type { Origin } from '../model/values.ts'
import { RecordSet, type Place, type SetRefusal } from './record-set.ts'
import {
  DISK,
  StagedDeltas,
  type KeptParts,
  type StagedDelta,
  type StagingBudget,
  type StagingStep
} from './partial-state.ts'
import { newestOf, operationBytes, toOperation, type Operation, type StoredRecord } from './record.ts'
import { equalBytes } from '../model/bytes.ts'
import type { DeltaMessage } from '../wire/messages.ts'

export type DeltaRefusal =
  SetRefusal | 'malformed delta' | 'bad signature' | 'frozen by equivocation' | 'too many unfinished bytes'

export type Verdict =
  | {
      readonly kind: 'applied'
      readonly replaced: boolean
      readonly operations: readonly Operation[]
      /** The operations are those of the last part: what came before, up to this seq, is on disk (StagingStep). */
      readonly adopts?: number
    }
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

interface ReplicaOptions {
  readonly origin: Origin
  readonly publicKey: Uint8Array
  readonly meshId: Uint8Array
  readonly crypto: Crypto
  readonly limits: ReplicaLimits
  readonly staging: StagingBudget
  /** Told of what is unfinished and should survive this life. Without it, nothing is kept. */
  readonly keep?: (step: StagingStep) => void
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
  readonly #staged: StagedDeltas
  #set: RecordSet
  #head: Head | undefined
  #proof: Proof | undefined
  #epochFloor = 1

  constructor(options: ReplicaOptions) {
    this.origin = options.origin
    this.#options = options
    this.#staged = new StagedDeltas(options.staging, options.keep)
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

  /** Keys whose records are not what they were at `since`, a position that was held here; undefined: any may be. */
  keysSince(since: Position): ReadonlySet<string> | undefined {
    return since.epoch === this.position.epoch ? this.#set.keysAfter(since.seq) : undefined
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
      const staged = this.#staged.of(from)
      if (!staged || !this.#goesOn(staged, head, delta)) return { kind: 'stray' }
      staged.resumable = true
      return this.#collect(staged, options)
    }
    if (delta.part > 0) {
      const staged = this.#staged.of(from)
      if (
        !staged ||
        staged.nextPart !== delta.part ||
        staged.fromSeq !== delta.fromSeq ||
        !equalBytes(staged.head.bytes, head.bytes)
      )
        return { kind: 'stray' }
      return this.#collect(staged, options)
    }
    // A push in the middle of an answer leaves the answer alone.
    if (delta.more) this.dropStaged(from)
    const early = this.#judge(head, delta.fromSeq)
    if (early) return early
    if (!this.#verifies(head)) return refused('bad signature')
    return this.#collect(this.#newStaged({ from, head, fromSeq: delta.fromSeq, atSeq: head.seq }), options)
  }

  /** Takes a proof that came by itself. True when it is new and holds. */
  freeze(proof: Proof): boolean {
    if (!isEquivocation(proof.first, proof.second) || proof.first.epoch < this.position.epoch) return false
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

  /** An unfinished state from the disk; its hash is judged once it is whole. Undefined when all is well. */
  restoreParts({ head, atSeq, lastSeq, records }: KeptParts): string | undefined {
    if (!this.#verifies(head)) return 'bad signature'
    if (this.#judge(head, 0)) return 'superseded'
    const staged = this.#newStaged({ from: DISK, head, fromSeq: 0, atSeq })
    const sorted = [...records].sort((left, right) => left.seq - right.seq)
    if (lastSeq < 1 || lastSeq > head.seq || (sorted.at(-1)?.seq ?? 0) > lastSeq) return 'malformed'
    const bytes = sorted.reduce((sum, record) => sum + operationBytes(record), 0)
    const refusal = this.#stage(staged, sorted, bytes)
    if (refusal) return refusal
    this.#staged.restore(Object.assign(staged, { lastSeq, bytes, resumable: true, touchedMs: Infinity }))
    return undefined
  }

  dropStaged(from: Origin): void {
    this.#staged.drop(this.#staged.of(from))
  }

  dropIdleStaged(nowMs: number): void {
    this.#staged.dropIdle(nowMs)
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
  resume(peer: Origin, claim?: Position): (Place & { readonly epoch: number }) | undefined {
    const best = this.#staged.best()
    if (!best || this.#judge(best.head, best.fromSeq)) return undefined
    // Who says that it has not come so far can only begin anew.
    if (claim && comparePositions(best.head, claim) > 0) return undefined
    this.#staged.move(best, peer)
    const { head, fromSeq, lastSeq, atSeq } = best
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
      const same = value && before ? equalBytes(value, before) : value === before
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
    if (equalBytes(held.bytes, head.bytes)) return { kind: 'stale' }
    if (!this.#verifies(head)) return refused('bad signature')
    this.#proof ??= { first: held, second: head } // P4
    return { kind: 'equivocation', proof: this.#proof }
  }

  /** The next part of an answer, whose origin may have moved on since the part before: then its new head counts. */
  #goesOn(staged: StagedDelta, head: Head, delta: DeltaMessage): boolean {
    if (staged.lastSeq !== delta.afterSeq || staged.fromSeq !== delta.fromSeq) return false
    if (equalBytes(staged.head.bytes, head.bytes)) return true
    if (head.epoch === staged.head.epoch && head.seq > staged.head.seq && this.#verifies(head)) {
      staged.head = head
      return true
    }
    // It goes on with what is no later state of ours: nobody may ever finish it. The next pull begins anew.
    this.#staged.drop(staged)
    return false
  }

  #collect(staged: StagedDelta, options: { from: Origin; delta: DeltaMessage; nowMs: number }): Verdict {
    const { delta, nowMs } = options
    const afterSeq = staged.lastSeq
    const operations = this.#readOperations(staged, delta)
    const bytes = operations?.reduce((sum, operation) => sum + operationBytes(operation), 0) ?? 0
    const refusal = !operations ? 'malformed delta' : this.#stage(staged, operations, bytes)
    if (!operations || refusal) {
      this.#staged.drop(staged)
      return refused(refusal ?? 'malformed delta')
    }
    if (!delta.more) return this.#finish(staged, { operations, afterSeq })
    staged.nextPart = delta.part + 1
    staged.touchedMs = nowMs
    this.#staged.grow(staged, { bytes, afterSeq, operations })
    return { kind: 'partial', bytes }
  }

  #readOperations(staged: StagedDelta, delta: DeltaMessage): readonly Operation[] | undefined {
    if (delta.more && delta.operations.length === 0) return undefined
    const operations: Operation[] = []
    for (const message of delta.operations) {
      const operation = toOperation(message)
      if (!operation || operation.seq <= staged.lastSeq || operation.seq > staged.head.seq) return undefined
      staged.lastSeq = operation.seq
      operations.push(operation)
    }
    return operations
  }

  #stage(staged: StagedDelta, operations: readonly Operation[], bytes: number): DeltaRefusal | undefined {
    if (!this.#staged.hasRoom(staged.from, bytes)) return 'too many unfinished bytes' // P5
    // A snapshot is hashed part by part, so that no single part stops the event loop for long.
    const refusal = staged.set?.apply(operations)
    if (refusal) return refusal
    // Every record of a full origin, changed and deleted.
    if (staged.bytes + bytes > 2 * this.#options.limits.bytesPerOriginMax) return 'too many unfinished bytes'
    if (!staged.set) for (const operation of operations) staged.operations.push(operation)
    return undefined
  }

  #finish(staged: StagedDelta, last: { operations: readonly Operation[]; afterSeq: number }): Verdict {
    // The state may have moved on while the parts came in.
    const verdict = this.#judge(staged.head, staged.fromSeq) ?? this.#takeOver(staged)
    const isKept = verdict.kind === 'applied' && this.#staged.finish(staged)
    this.#staged.drop(staged)
    if (verdict.kind !== 'applied') return verdict
    this.#staged.dropWhere(({ head }) => comparePositions(head, this.position) <= 0)
    if (isKept) return { ...verdict, operations: last.operations, adopts: last.afterSeq }
    return staged.set ? { ...verdict, operations: staged.set.snapshot() } : verdict
  }

  #takeOver(staged: StagedDelta): Verdict {
    const held = this.position.seq
    const operations = newestOf(staged.operations.filter(({ seq }) => seq > held))
    if (staged.set) {
      if (!equalBytes(staged.set.root, staged.head.stateHash)) return refused('state hash mismatch') // P1
      staged.set.raiseFloor(staged.head.seq)
      this.#set = staged.set // P3
    } else {
      const refusal = this.#set.apply(operations, staged.head.stateHash) // P1, P3
      if (refusal) return refused(refusal)
    }
    this.#head = staged.head
    if (this.#proof && this.#proof.first.epoch < this.#head.epoch) this.#proof = undefined
    return { kind: 'applied', replaced: staged.set !== undefined, operations }
  }

  #sign(next: Position & { readonly prevSeq: number }, seed: Uint8Array): void {
    const { crypto, meshId } = this.#options
    const state = { origin: this.origin, ...next, stateHash: this.#set.root }
    this.#head = signHead(crypto, { seed, meshId }, state)
  }

  #verifies(head: Head): boolean {
    return head.origin === this.origin && verifyHead(this.#options.crypto, this.#options.publicKey, head)
  }

  #newStaged(start: Pick<StagedDelta, 'from' | 'head' | 'fromSeq' | 'atSeq'>): StagedDelta {
    const set = start.fromSeq === 0 ? this.#emptySet() : undefined
    const { fromSeq: lastSeq } = start
    return { ...start, set, operations: [], lastSeq, resumable: false, nextPart: 0, bytes: 0, touchedMs: 0 }
  }

  #emptySet(): RecordSet {
    return new RecordSet(this.#options.crypto, this.#options.limits)
  }
}

function refused(reason: DeltaRefusal): Verdict {
  return { kind: 'refused', reason }
}
