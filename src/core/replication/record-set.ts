// The records of one origin in one epoch, with a log that answers which operations came after a given seq.
// Invariants
//   R1. The log holds operations in the order of seq; an entry counts only while its key's newest seq is its own.
//   R2. Every tombstone with a seq above `floor` is remembered: next() is exact for every holder at floor or above.
//   R3. A refused batch leaves no trace: records change only after the caps and the hash have passed.
import type { Crypto } from '../model/crypto.ts'
import type { ReplicaLimits } from './limits.ts'
import { packValue, unpackValue } from '../wire/packed-value.ts'
import { operationBytes, type Operation, type StoredRecord } from './record.ts'
import { StateHash } from './state-hash.ts'
import { equalBytes } from '../model/bytes.ts'

export type SetRefusal = 'key twice in one delta' | 'too many keys' | 'too many bytes' | 'state hash mismatch'

/** The progress of an answer to a pull. */
export interface Place {
  readonly fromSeq: number
  readonly afterSeq: number
  readonly atSeq: number
}

export class RecordSet {
  readonly #limits: ReplicaLimits
  readonly #hash: StateHash
  readonly #records = new Map<string, HeldRecord>()
  /** The seq of each tombstone by key, oldest first. */
  readonly #tombstones = new Map<string, number>()
  #log: { readonly seq: number; readonly key: string }[] = []
  #floor = 0
  #bytes = 0

  constructor(crypto: Crypto, limits: ReplicaLimits) {
    this.#hash = new StateHash(crypto)
    this.#limits = limits
  }

  get records(): ReadonlyMap<string, StoredRecord> {
    return this.#records
  }

  get bytes(): number {
    return this.#bytes
  }

  get root(): Uint8Array {
    return this.#hash.root()
  }

  /** Applies operations in the order of seq, all newer than those held. Without `expected` (32 bytes) the hash is not checked. */
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
   * The next operations, in the order of seq, for a holder of everything up to `fromSeq` (0: of nothing, it takes live records
   * only) and of what came of it up to `afterSeq` while we stood at `atSeq`. At least one if there is one, else up to
   * `bytesMax`. Undefined when tombstones that it needs are forgotten.
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
      const { key, seq, value } = newest // read once: it may be unpacked for us
      if (fromSeq === 0 && !value && seq <= atSeq) continue
      const operation = { key, seq, value }
      bytes += operationBytes(operation)
      if (bytes > bytesMax && operations.length > 0) return { operations, more: true }
      operations.push(operation)
    }
    return { operations, more: false }
  }

  /** Keys with an operation above `seq`; undefined when some that were deleted since may be forgotten. */
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
    return undefined
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

  #trim(): void {
    for (const [key, seq] of this.#tombstones) {
      if (this.#tombstones.size <= this.#limits.tombstonesMax) break
      this.#tombstones.delete(key)
      this.#floor = Math.max(this.#floor, seq) // R2
    }
    const live = this.#records.size + this.#tombstones.size
    // Twice the live entries: each trim of n entries is paid for by n operations.
    if (this.#log.length > 2 * live + LOG_SLACK) this.#log = this.#log.filter((entry) => this.#newest(entry))
  }

  #newest(entry: { readonly seq: number; readonly key: string } | undefined): Operation | undefined {
    if (!entry) return undefined
    const record = this.#records.get(entry.key)
    if (record) return record.seq === entry.seq ? record : undefined
    return this.#tombstones.get(entry.key) === entry.seq ? { ...entry, value: undefined } : undefined
  }

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
    // Equal lengths mean unpacked.
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

function recordBytes(key: string, valueBytes: number | undefined): number {
  return valueBytes === undefined ? 0 : key.length + valueBytes
}
