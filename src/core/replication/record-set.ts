// The records of one origin in one epoch, their hash, and a log of operations by which a neighbour is sent the changes
// since a given seq. A Replica (replica.ts) has one visible set; a snapshot that arrives fills a second one, which then
// replaces it.
// Invariants
//   R1. The log holds operations in the order of seq; an entry counts only while its key's newest seq is its own.
//   R2. Every tombstone with a seq above `floor` is remembered, so next() is exact for each neighbour that holds floor
//       or more. Tombstones are forgotten by number and never by time, so a neighbour that was away for long brings
//       back no deleted record.
//   R3. A refused batch leaves no trace: records change only after the caps and the hash have passed.
import type { Crypto } from '../model/crypto.ts'
import type { ReplicaLimits } from './limits.ts'
import { packValue, unpackValue } from '../wire/packed-value.ts'
import { operationBytes, recordBytes, type Operation, type StoredRecord } from './record.ts'
import type { RoomRefusal, Size } from './room-budget.ts'
import { StateHash } from './state-hash.ts'
import { equalBytes } from '../model/bytes.ts'

export type SetRefusal =
  'key twice in one delta' | 'too many keys' | 'too many bytes' | 'state hash mismatch' | RoomRefusal

/** The progress of an answer to a pull. */
export interface Place {
  /** The seq that the asking neighbour holds; 0 when it takes a snapshot. */
  readonly fromSeq: number
  /** The last seq that the answer has delivered; 0 before the first part. */
  readonly afterSeq: number
  /** The seq of the origin when the first part was made. */
  readonly atSeq: number
}

/** A mutable set of records; only `apply` and `raiseFloor` change it. */
export class RecordSet {
  readonly #limits: ReplicaLimits
  readonly #room: (size: Size) => RoomRefusal | undefined
  readonly #hash: StateHash
  readonly #records = new Map<string, HeldRecord>()
  /** The seq of each tombstone by key, oldest first. */
  readonly #tombstones = new Map<string, number>()
  /** One entry for each operation, also for outdated ones until they are trimmed (R1). */
  #log: { readonly seq: number; readonly key: string }[] = []
  /** Tombstones with a seq up to this one may be forgotten (R2). */
  #floor = 0
  /** Bytes of all live records (recordBytes). */
  #bytes = 0

  /** `room` says why the set may not have a size (room-budget.ts); undefined where it may. */
  constructor(
    crypto: Crypto,
    limits: ReplicaLimits,
    room: (size: Size) => RoomRefusal | undefined = () => undefined
  ) {
    this.#hash = new StateHash(crypto)
    this.#limits = limits
    this.#room = room
  }

  /** The live records by key. */
  get records(): ReadonlyMap<string, StoredRecord> {
    return this.#records
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The hash of all live records, 32 bytes (state-hash.ts). */
  get root(): Uint8Array {
    return this.#hash.root()
  }

  /**
   * Applies operations, which must be in the order of seq and newer than those held. Returns the reason of a refusal,
   * after which the set is unchanged (R3); undefined when they were applied. Without `expected` (32 bytes) the hash is
   * not checked.
   */
  apply(operations: readonly Operation[], expected?: Uint8Array): SetRefusal | undefined {
    const refusal = this.#overCaps(operations)
    if (refusal) return refusal
    for (const operation of operations)
      this.#hashOperation(operation.key, operation.value ? operation : undefined)
    if (expected && !equalBytes(this.root, expected)) {
      for (const { key } of operations) this.#hashOperation(key, this.#records.get(key))
      return 'state hash mismatch'
    }
    for (const operation of operations) this.#commit(operation) // R3
    this.#trim()
    return undefined
  }

  /**
   * Returns the next operations of an answer, in the order of seq and of about `bytesMax` at most, but one at least
   * while there is one. The asking neighbour holds all up to `fromSeq`, and of this answer all up to `afterSeq` as they
   * were when the origin stood at `atSeq`. With `fromSeq` 0 it holds nothing and needs only live records and tombstones
   * after `atSeq`. Returns undefined when tombstones that the neighbour needs are forgotten (R2); the answer then
   * starts over as a snapshot.
   */
  next(place: Place, bytesMax: number): { operations: readonly Operation[]; more: boolean } | undefined {
    const { fromSeq, afterSeq, atSeq } = place
    const start = Math.max(fromSeq, afterSeq)
    if ((fromSeq > 0 ? start : atSeq) < this.#floor && start > 0) return undefined // R2
    const operations: Operation[] = []
    let bytes = 0
    for (let index = this.#firstAfter(start); index < this.#log.length; index++) {
      const newest = this.#newest(this.#log[index])
      if (!newest) continue
      const { key, seq, value } = newest // `value` is read once, because each read may unpack it
      if (fromSeq === 0 && !value && seq <= atSeq) continue
      const operation = { key, seq, value }
      bytes += operationBytes(operation)
      if (bytes > bytesMax && operations.length > 0) return { operations, more: true }
      operations.push(operation)
    }
    return { operations, more: false }
  }

  /** Keys with an operation after `seq`; undefined when deletions after `seq` may be forgotten. */
  keysAfter(seq: number): ReadonlySet<string> | undefined {
    if (seq < this.#floor) return undefined // R2
    const keys = new Set<string>()
    for (let index = this.#firstAfter(seq); index < this.#log.length; index++) {
      const entry = this.#log[index]
      if (entry) keys.add(entry.key)
    }
    return keys
  }

  /** All live records, in the order of seq. */
  snapshot(): readonly StoredRecord[] {
    return this.#log.flatMap(({ key, seq }) => {
      const record = this.#records.get(key)
      return record?.seq === seq ? [record] : []
    })
  }

  /** Raises the floor of a set that was filled from a snapshot, which has no tombstones of earlier deletions. */
  raiseFloor(seq: number): void {
    this.#floor = Math.max(this.#floor, seq)
  }

  /**
   * Returns why the set with these operations would exceed its limits; undefined when it would not. Changes nothing.
   */
  #overCaps(operations: readonly Operation[]): SetRefusal | undefined {
    const seen = new Set<string>()
    let keys = this.#records.size
    let bytes = this.#bytes
    for (const { key, value } of operations) {
      if (seen.has(key)) return 'key twice in one delta'
      seen.add(key)
      const before = this.#records.get(key)
      keys += (value ? 1 : 0) - (before ? 1 : 0)
      bytes += recordBytes(key, value?.length) - recordBytes(key, before?.valueBytes)
    }
    if (keys > this.#limits.keysPerOriginMax) return 'too many keys'
    if (bytes > this.#limits.bytesPerOriginMax) return 'too many bytes'
    return this.#room({ keys, bytes })
  }

  #hashOperation(key: string, operation: Operation | undefined): void {
    if (operation?.value) this.#hash.set({ key, seq: operation.seq, value: operation.value })
    else this.#hash.delete(key)
  }

  #commit({ key, seq, value }: Operation): void {
    this.#bytes += recordBytes(key, value?.length) - recordBytes(key, this.#records.get(key)?.valueBytes)
    this.#tombstones.delete(key)
    if (value) this.#records.set(key, new HeldRecord(key, seq, value))
    else {
      this.#records.delete(key)
      this.#tombstones.set(key, seq)
    }
    this.#log.push({ seq, key }) // R1
  }

  /** Forgets the oldest tombstones above the limit, and outdated entries of the log. */
  #trim(): void {
    for (const [key, seq] of this.#tombstones) {
      if (this.#tombstones.size <= this.#limits.tombstonesMax) break
      this.#tombstones.delete(key)
      this.#floor = Math.max(this.#floor, seq) // R2
    }
    const live = this.#records.size + this.#tombstones.size
    // The log is trimmed at twice its live entries, so a trim of n entries happens at most once in about n/2
    // operations.
    if (this.#log.length > 2 * live + LOG_SLACK) this.#log = this.#log.filter((entry) => this.#newest(entry))
  }

  /** The operation of a log entry; undefined when the key has a newer one (R1). */
  #newest(entry: { readonly seq: number; readonly key: string } | undefined): Operation | undefined {
    if (!entry) return undefined
    const record = this.#records.get(entry.key)
    if (record) return record.seq === entry.seq ? record : undefined
    return this.#tombstones.get(entry.key) === entry.seq ? { ...entry, value: undefined } : undefined
  }

  /** Returns the index of the first log entry with a seq above `from`, by binary search. */
  #firstAfter(from: number): number {
    let low = 0
    let high = this.#log.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#log[middle]?.seq ?? 0) <= from) low = middle + 1
      else high = middle
    }
    return low
  }
}

// Outdated entries that a small log may have without being trimmed.
const LOG_SLACK = 64

/** A record whose value is packed where that saves memory. Each read of `value` unpacks it; reads are rare. */
class HeldRecord implements StoredRecord {
  readonly key: string
  readonly seq: number
  readonly valueBytes: number
  readonly #held: Uint8Array

  constructor(key: string, seq: number, value: Uint8Array) {
    this.key = key
    this.seq = seq
    this.valueBytes = value.length
    // A held value of the same length as the value itself is not packed.
    this.#held = packValue(value) ?? value
  }

  /** An object of this record alone, which a cache can use as the key for the value. */
  get identity(): object {
    return this.#held
  }

  get value(): Uint8Array {
    return this.#held.length === this.valueBytes ? this.#held : unpackValue(this.#held, this.valueBytes)
  }
}
