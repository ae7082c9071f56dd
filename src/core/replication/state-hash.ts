// The hash of all live records of one origin, which its head signs. It is a Merkle root over 256 buckets, so that one
// changed record costs the hashes of one bucket and not of all records.
//   record = SHA-256("rhizome/record/1\0" | u32 key length | key | u64 seq | u32 value length | value)
//   bucket = SHA-256("rhizome/bucket/1\0" | record hashes in the order of their keys)
//   root   = SHA-256("rhizome/state/1\0"  | 256 bucket hashes)
// The bucket of a record is the first byte of SHA-256(key). Numbers are big-endian. Tombstones are not part of the hash,
// because each agent may forget them at another time.
import type { Crypto } from '../model/crypto.ts'
import type { StoredRecord } from './record.ts'

/** The hash of one record set, kept up to date. It holds the hashes of records, not their values. */
export class StateHash {
  readonly #crypto: Crypto
  readonly #buckets: (Bucket | undefined)[] = Array.from({ length: BUCKETS }, () => undefined)
  /** The hashes of all buckets, one after the other. */
  readonly #hashes = new Uint8Array(BUCKETS * HASH_BYTES)
  /** Buckets that have changed since `root` was last computed. */
  readonly #dirty = new Set<number>()
  #root: Uint8Array | undefined

  constructor(crypto: Crypto) {
    this.#crypto = crypto
    const empty = crypto.sha256(BUCKET_TAG)
    for (let index = 0; index < BUCKETS; index++) this.#hashes.set(empty, index * HASH_BYTES)
  }

  /** Adds a record, or replaces the one with the same key. */
  set(record: StoredRecord): void {
    const index = this.#touch(record.key)
    const bucket = (this.#buckets[index] ??= new Bucket())
    bucket.set(record.key, recordHash(this.#crypto, record))
  }

  /** Removes a record; a key that is not there is ignored. */
  delete(key: string): void {
    this.#buckets[this.#touch(key)]?.delete(key)
  }

  /** The root, 32 bytes. It hashes only the buckets that have changed since the last call. */
  root(): Uint8Array {
    if (this.#root) return this.#root
    for (const index of this.#dirty) {
      const hashes = this.#buckets[index]?.hashes() ?? new Uint8Array()
      this.#hashes.set(this.#crypto.sha256(BUCKET_TAG, hashes), index * HASH_BYTES)
    }
    this.#dirty.clear()
    this.#root = this.#crypto.sha256(STATE_TAG, this.#hashes)
    return this.#root
  }

  /** Returns the bucket of a key and marks it as changed. */
  #touch(key: string): number {
    const index = this.#crypto.sha256(encoder.encode(key))[0] ?? 0
    this.#dirty.add(index)
    this.#root = undefined
    return index
  }
}

const BUCKETS = 256
const HASH_BYTES = 32
const encoder = new TextEncoder()
const RECORD_TAG = encoder.encode('rhizome/record/1\0')
const BUCKET_TAG = encoder.encode('rhizome/bucket/1\0')
const STATE_TAG = encoder.encode('rhizome/state/1\0')

/**
 * The keys of one bucket in order, and the hashes of their records in the same order in one array, ready to be hashed.
 */
class Bucket {
  readonly #keys: string[] = []
  #hashes = new Uint8Array(4 * HASH_BYTES)

  set(key: string, hash: Uint8Array): void {
    const at = this.#find(key)
    if (this.#keys[at] !== key) {
      this.#grow()
      this.#hashes.copyWithin((at + 1) * HASH_BYTES, at * HASH_BYTES, this.#keys.length * HASH_BYTES)
      this.#keys.splice(at, 0, key)
    }
    this.#hashes.set(hash, at * HASH_BYTES)
  }

  delete(key: string): void {
    const at = this.#find(key)
    if (this.#keys[at] !== key) return
    this.#hashes.copyWithin(at * HASH_BYTES, (at + 1) * HASH_BYTES, this.#keys.length * HASH_BYTES)
    this.#keys.splice(at, 1)
  }

  hashes(): Uint8Array {
    return this.#hashes.subarray(0, this.#keys.length * HASH_BYTES)
  }

  /** Returns the index of the first key that is not below `key`, by binary search. */
  #find(key: string): number {
    let low = 0
    let high = this.#keys.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#keys[middle] ?? '') < key) low = middle + 1
      else high = middle
    }
    return low
  }

  #grow(): void {
    if ((this.#keys.length + 1) * HASH_BYTES <= this.#hashes.length) return
    const wider = new Uint8Array(this.#hashes.length * 2)
    wider.set(this.#hashes)
    this.#hashes = wider
  }
}

/**
 * Returns the hash of a record as the head of this file defines it. Key and value have their lengths before them, so no
 * two records share a hash input.
 */
function recordHash(crypto: Crypto, { key, seq, value }: StoredRecord): Uint8Array {
  const keyBytes = encoder.encode(key)
  const header = new Uint8Array(RECORD_TAG.length + 4 + keyBytes.length + 8 + 4)
  const view = new DataView(header.buffer)
  header.set(RECORD_TAG)
  view.setUint32(RECORD_TAG.length, keyBytes.length)
  header.set(keyBytes, RECORD_TAG.length + 4)
  const afterKey = RECORD_TAG.length + 4 + keyBytes.length
  view.setUint32(afterKey, Math.floor(seq / 2 ** 32))
  view.setUint32(afterKey + 4, seq % 2 ** 32)
  view.setUint32(afterKey + 8, value.length)
  return crypto.sha256(header, value)
}
