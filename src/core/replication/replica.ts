// A replica: the state of one origin as held here, at a position (epoch, seq), exactly as the origin signed it.
// Invariants
//   P1. The records at (epoch, seq) are the result of the origin's operations up to it: their hash is the signed hash.
//   P2. (epoch, seq) never goes back; a newer epoch replaces everything.
//   P3. No operation is visible before the last part of its delta has arrived, and none of a delta that was refused.
//   P4. Two different heads signed for one (epoch, seq) freeze the origin until a newer epoch. An honest origin whose
//       store was set back publishes in such an epoch (S5 of protocol.ts); any other origin stays frozen.
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
import type { RoomRefusal, Size } from './room-budget.ts'
import { RecordSet, type Place, type SetRefusal } from './record-set.ts'
import {
  DISK,
  StagedDeltas,
  type KeptParts,
  type StagedDelta,
  type StagingBudget,
  type StagingStep
} from './partial-state.ts'
import {
  memoryOf,
  newestOf,
  operationBytes,
  toOperation,
  type Operation,
  type StoredRecord
} from './record.ts'
import { equalBytes } from '../model/bytes.ts'
import type { DeltaRefusal, Proof, RestoreRefusal, Verdict } from './delta-verdict.ts'
import type { DeltaMessage } from '../wire/messages.ts'

interface ReplicaOptions {
  readonly origin: Origin
  readonly publicKey: Uint8Array
  readonly meshId: Uint8Array
  readonly crypto: Crypto
  readonly limits: ReplicaLimits
  readonly staging: StagingBudget
  /** Says why this state may not have a size; undefined where it may. Without it, only `limits` count. */
  readonly room?: (size: Size) => RoomRefusal | undefined
  /** Called with each step of an unfinished snapshot that should survive a restart. Without it, none survives. */
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

  /** The live records after the latest complete batch. Do not keep the map: a snapshot replaces it by a new one. */
  get records(): ReadonlyMap<string, StoredRecord> {
    return this.#set.records
  }

  /** What the live records take in memory. */
  get size(): Size {
    return { keys: this.#set.records.size, bytes: this.#set.bytes }
  }

  /** Keys whose records changed after `since`, a position that was held here; undefined when all may have changed. */
  keysSince(since: Position): ReadonlySet<string> | undefined {
    return since.epoch === this.position.epoch ? this.#set.keysAfter(since.seq) : undefined
  }

  /** The equivocation that froze this origin; undefined when it is not frozen. */
  get proof(): Proof | undefined {
    return this.#proof
  }

  /** The lowest epoch that a write may use. */
  get epochFloor(): number {
    return Math.max(this.#epochFloor, this.position.epoch)
  }

  /** Takes one frame of a delta, whose head has the right form; its signature is verified here when it is newer. */
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
    // The first of several parts replaces this neighbour's unfinished delta. A push in one frame leaves it as it is.
    if (delta.more) this.dropStaged(from)
    const early = this.#judge(head, delta.fromSeq)
    if (early) return early
    if (!this.#verifies(head)) return refused('bad signature')
    return this.#collect(this.#newStaged({ from, head, fromSeq: delta.fromSeq, atSeq: head.seq }), options)
  }

  /** Takes a proof of equivocation: `frozen` when it is new and sound, `known` when it says nothing new. */
  freeze({ first, second }: Proof): 'frozen' | 'known' | 'bad signature' {
    if (!isEquivocation(first, second) || first.epoch < this.position.epoch) return 'known'
    if (this.#proof && this.#proof.first.epoch >= first.epoch) return 'known'
    if (!this.#verifies(first) || !this.#verifies(second)) return 'bad signature'
    this.#proof = { first, second } // P4
    return 'frozen'
  }

  frozenAt(epoch: number): boolean {
    return this.#proof?.first.epoch === epoch
  }

  /** Restores a state from disk. Returns the reason when its signature or hash is wrong; undefined when it is sound. */
  restore(head: Head, records: Iterable<StoredRecord>): RestoreRefusal | undefined {
    if (!this.#verifies(head)) return 'bad signature'
    const set = this.#emptySet()
    const sorted = [...records].sort((left, right) => left.seq - right.seq)
    // An own origin may have signed later heads in this epoch. It must not sign others, so it uses the next epoch.
    const refusal = set.apply(sorted, head.stateHash)
    if (refusal === 'no room' || refusal === 'no room for this cluster') return refusal
    if (refusal !== undefined) {
      this.raiseEpoch(head.epoch + 1)
      return 'damaged records'
    }
    set.raiseFloor(head.seq)
    this.#set = set
    this.#head = head
    return undefined
  }

  /** Restores an unfinished snapshot, whose hash is checked when it is complete. Returns the reason of a refusal. */
  restoreParts({ head, atSeq, lastSeq, records }: KeptParts): string | undefined {
    if (!this.#verifies(head)) return 'bad signature'
    if (this.#judge(head, 0)) return 'superseded'
    const staged = this.#newStaged({ from: DISK, head, fromSeq: 0, atSeq })
    const sorted = [...records].sort((left, right) => left.seq - right.seq)
    if (lastSeq < 1 || lastSeq > head.seq || (sorted.at(-1)?.seq ?? 0) > lastSeq) return 'malformed'
    const bytes = memoryOf(sorted)
    const refusal = this.#stage(staged, sorted, bytes)
    if (refusal) return refusal
    this.#staged.restore(Object.assign(staged, { lastSeq, bytes, resumable: true, touchedMs: Infinity }))
    return undefined
  }

  dropStaged(from: Origin): void {
    this.#staged.drop(this.#staged.of(from))
  }

  dropAllStaged(): void {
    this.#staged.dropWhere(() => true)
  }

  dropIdleStaged(nowMs: number): void {
    this.#staged.dropIdle(nowMs)
  }

  /**
   * Returns where the answer to a pull begins: after the position that the neighbour holds, or after the last part of
   * an unfinished answer. `fromSeq` is 0 when the neighbour needs a snapshot.
   */
  placeOf(pull: { epoch: number; fromSeq: number; afterSeq: number; atSeq: number }): Place {
    const { epoch, seq } = this.position
    if (comparePositions({ epoch: pull.epoch, seq: pull.fromSeq }, this.position) >= 0)
      return { fromSeq: seq, afterSeq: 0, atSeq: seq }
    const fresh = { fromSeq: pull.epoch === epoch ? pull.fromSeq : 0, afterSeq: 0, atSeq: seq }
    const goesOn = pull.afterSeq > 0 && pull.epoch === epoch && pull.afterSeq <= seq && pull.atSeq <= seq
    const place = goesOn ? { ...fresh, afterSeq: pull.afterSeq, atSeq: pull.atSeq } : fresh
    return this.#set.next(place, 0) ? place : { fromSeq: 0, afterSeq: 0, atSeq: seq }
  }

  /** The next part of an answer; undefined when it must start over because tombstones that it needs are forgotten. */
  next(place: Place, bytesMax: number): { operations: readonly Operation[]; more: boolean } | undefined {
    return this.#set.next(place, bytesMax)
  }

  /** Returns an unfinished delta that `peer` can continue and assigns it to that peer, whichever peer began it. */
  resume(peer: Origin, claim?: Position): (Place & { readonly epoch: number }) | undefined {
    const best = this.#staged.best()
    if (!best || this.#judge(best.head, best.fromSeq)) return undefined
    // A peer that claims an older position than the delta's head cannot continue it.
    if (claim && comparePositions(best.head, claim) > 0) return undefined
    this.#staged.move(best, peer)
    const { head, fromSeq, lastSeq, atSeq } = best
    return { epoch: head.epoch, fromSeq, afterSeq: lastSeq, atSeq }
  }

  /** Writes one batch of the own origin. Of each key the last change counts; changes without effect are left out. */
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

  /** Writes all records again in a higher epoch. When none are written yet, the next write will use that epoch. */
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

  /** Judges a head without its signature: undefined when it is newer and its signature must be verified. */
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

  /** True when a part continues an unfinished delta. If its head is newer, it becomes the head of the delta. */
  #goesOn(staged: StagedDelta, head: Head, delta: DeltaMessage): boolean {
    if (staged.lastSeq !== delta.afterSeq || staged.fromSeq !== delta.fromSeq) return false
    if (equalBytes(staged.head.bytes, head.bytes)) return true
    if (head.epoch === staged.head.epoch && head.seq > staged.head.seq && this.#verifies(head)) {
      staged.head = head
      return true
    }
    // The part leads to no later state of this delta, so the delta can never be completed. The next pull begins anew.
    this.#staged.drop(staged)
    return false
  }

  /** Stages one part, and completes the delta with the last one. */
  #collect(staged: StagedDelta, options: { from: Origin; delta: DeltaMessage; nowMs: number }): Verdict {
    const { delta, nowMs } = options
    const afterSeq = staged.lastSeq
    const operations = this.#readOperations(staged, delta)
    const bytes = memoryOf(operations ?? [])
    const refusal = !operations ? 'malformed delta' : this.#stage(staged, operations, bytes)
    if (!operations || refusal) {
      this.#staged.drop(staged)
      return refused(refusal ?? 'malformed delta')
    }
    if (!delta.more) return this.#finish(staged, { operations, afterSeq })
    staged.nextPart = delta.part + 1
    staged.touchedMs = nowMs
    this.#staged.grow(staged, { bytes, afterSeq, operations })
    const sent = operations.reduce((sum, operation) => sum + operationBytes(operation), 0)
    return { kind: 'partial', bytes: sent }
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
    // A delta of the largest size changes each record of a full origin and deletes as many.
    if (staged.bytes + bytes > 2 * this.#options.limits.bytesPerOriginMax) return 'too many unfinished bytes'
    if (!staged.set) for (const operation of operations) staged.operations.push(operation)
    return undefined
  }

  #finish(staged: StagedDelta, last: { operations: readonly Operation[]; afterSeq: number }): Verdict {
    // A newer state may have been taken while the parts arrived.
    const verdict = this.#judge(staged.head, staged.fromSeq) ?? this.#takeOver(staged)
    const isKept = verdict.kind === 'applied' && this.#staged.finish(staged)
    this.#staged.drop(staged)
    if (verdict.kind !== 'applied') return verdict
    this.#staged.dropWhere(({ head }) => comparePositions(head, this.position) <= 0)
    if (isKept) return { ...verdict, operations: last.operations, adopts: last.afterSeq }
    return staged.set ? { ...verdict, operations: staged.set.snapshot() } : verdict
  }

  /** Makes the staged records the visible ones, if their hash is the signed one. */
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
    const { crypto, limits, room } = this.#options
    return new RecordSet(crypto, limits, room)
  }
}

function refused(reason: DeltaRefusal): Verdict {
  return { kind: 'refused', reason }
}
