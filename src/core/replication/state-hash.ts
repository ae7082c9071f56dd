// A hash of all records of one origin that is cheap to keep current: a Merkle root over 256 buckets, of which one change
// rehashes one.
//   record = SHA-256("rhizome/record/1\0" | u32 key length | key | u64 seq | u32 value length | value)
//   bucket = SHA-256("rhizome/bucket/1\0" | record hashes in the order of their keys); which one: first byte of SHA-256(key)
//   root   = SHA-256("rhizome/state/1\0"  | 256 bucket hashes)
// Tombstones are no part of it: how long they are remembered is everyone's own business.
import type { Crypto } from '../model/crypto.ts'
import type { StoredRecord } from './record.ts'

export class StateHash {
  readonly #crypto: Crypto
  readonly #buckets: (Bucket | undefined)[] = Array.from({ length: BUCKETS }, () => undefined)
  readonly #hashes = new Uint8Array(BUCKETS * HASH_BYTES)
  readonly #dirty = new Set<number>()
  #root: Uint8Array | undefined

  constructor(crypto: Crypto) {
    this.#crypto = crypto
    const empty = crypto.sha256(BUCKET_TAG)
    for (let index = 0; index < BUCKETS; index++) this.#hashes.set(empty, index * HASH_BYTES)
  }

  set(record: StoredRecord): void {
    const index = this.#touch(record.key)
    const bucket = (this.#buckets[index] ??= new Bucket())
    bucket.set(record.key, recordHash(this.#crypto, record))
  }

  delete(key: string): void {
    this.#buckets[this.#touch(key)]?.delete(key)
  }

  /** 32 bytes. Costs the buckets changed since the last call. */
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

/** Keys in order, and their hashes packed in the same order, so that hashing a bucket needs no copy. */
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

  /** Index of the first key that is not below `key`. */
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
