// The ids of the trust set in 256 buckets, with a hash for each bucket and one for all: what two neighbours compare. It
// follows the changes of the set, and is built anew when it has missed one.
// The order of the ids is that in which the set took the statements in. So the statements that a statement stands on come
// before it, and a peer that asks in this order seldom holds an admission before its sponsor's.
import type { Crypto } from '../../model/crypto.ts'
import { equalBytes, utf8 } from '../../model/bytes.ts'
import { shortOf, type ShortId, type StatementId } from '../set/ids.ts'
import type { ExchangeSet } from './effects.ts'
import type { TrustHead } from './frames.ts'
import { BUCKETS, DIGEST_BYTES } from './limits.ts'

/** The index of one set. */
export class SetIndex {
  readonly #set: Pick<ExchangeSet, 'version' | 'ids'>
  readonly #crypto: Crypto
  /** The version of the set that the index shows. */
  #version: number | undefined
  readonly #ids = new Map<ShortId, StatementId>()
  readonly #buckets: readonly Bucket[] = Array.from({ length: BUCKETS }, () => ({
    ids: new Set<StatementId>(),
    hash: undefined
  }))
  #head: TrustHead | undefined

  constructor(set: Pick<ExchangeSet, 'version' | 'ids'>, crypto: Crypto) {
    this.#set = set
    this.#crypto = crypto
  }

  /** Takes in changes that the set has just reported. */
  apply(changes: { readonly added: readonly StatementId[]; readonly cut: readonly StatementId[] }): void {
    if (this.#version === undefined || this.#set.version !== this.#version + 1) return this.sync()
    for (const id of changes.added) this.#add(id)
    for (const id of changes.cut) this.#remove(id)
    this.#version = this.#set.version
  }

  /** Builds the index anew when the set has changed without a report. O(n). */
  sync(): void {
    if (this.#version === this.#set.version) return
    this.#ids.clear()
    for (const bucket of this.#buckets) bucket.ids.clear()
    for (const bucket of this.#buckets) bucket.hash = undefined
    this.#head = undefined
    for (const id of this.#set.ids()) this.#add(id)
    this.#version = this.#set.version
  }

  has(id: ShortId): boolean {
    return this.#ids.has(id)
  }

  /** The whole id of a held statement. */
  idOf(id: ShortId): StatementId | undefined {
    return this.#ids.get(id)
  }

  get head(): TrustHead {
    this.#head ??= {
      root: this.#crypto.sha256(...this.#buckets.map((bucket) => this.#hashOf(bucket))),
      count: this.#ids.size
    }
    return this.#head
  }

  /** The digests of all buckets, one after the other. */
  digests(): Uint8Array {
    const digests = new Uint8Array(BUCKETS * DIGEST_BYTES)
    for (const [at, bucket] of this.#buckets.entries())
      digests.set(this.#hashOf(bucket).subarray(0, DIGEST_BYTES), at * DIGEST_BYTES)
    return digests
  }

  /**
   * Up to `max` ids in the buckets whose digests differ from these, beginning with the statement at place `from`.
   * `next` is the place where the following part begins; 0 when there is none. O(n).
   */
  differing(
    digests: Uint8Array,
    from: number,
    max: number
  ): { readonly ids: readonly ShortId[]; readonly next: number } {
    const differs = this.#buckets.map(
      (bucket, at) =>
        !equalBytes(
          this.#hashOf(bucket).subarray(0, DIGEST_BYTES),
          digests.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES)
        )
    )
    const ids: ShortId[] = []
    let place = 0
    for (const [id, whole] of this.#ids) {
      if (place >= from && differs[bucketOf(whole)] === true) {
        if (ids.length >= max) return { ids, next: place }
        ids.push(id)
      }
      place++
    }
    return { ids, next: 0 }
  }

  #add(id: StatementId): void {
    this.#ids.set(shortOf(id), id)
    this.#touch(id)?.ids.add(id)
  }

  #remove(id: StatementId): void {
    if (this.#ids.get(shortOf(id)) === id) this.#ids.delete(shortOf(id))
    this.#touch(id)?.ids.delete(id)
  }

  /** The bucket of an id that changes, whose hash is not right any more. */
  #touch(id: StatementId): Bucket | undefined {
    const bucket = this.#buckets[bucketOf(id)]
    if (bucket !== undefined) bucket.hash = undefined
    this.#head = undefined
    return bucket
  }

  #hashOf(bucket: Bucket): Uint8Array {
    bucket.hash ??= this.#crypto.sha256(utf8([...bucket.ids].sort().join('')))
    return bucket.hash
  }
}

/** The ids that begin with one byte. */
interface Bucket {
  readonly ids: Set<StatementId>
  /** SHA-256 of the sorted ids as text; undefined until it is needed. */
  hash: Uint8Array | undefined
}

/** The number of the bucket of an id: its first byte. */
function bucketOf(id: StatementId): number {
  return (digitOf(id, 0) << 4) | digitOf(id, 1)
}

/** The value of a hexadecimal digit: '0' is 48, 'a' is 97. */
function digitOf(id: StatementId, at: number): number {
  const code = id.charCodeAt(at)
  return code < 97 ? code - 48 : code - 87
}
