// Which services an address may belong to, for reverse names (reverse.ts). It takes 16 to 32 bytes for each pair of
// address and service: as a map of sets, a million pairs would take 300 MB.
// Invariant: find() returns every id that was added for the address. It may return others with the same hash, so the
// caller checks each service.
import { hashText, mixBits } from '../model/hash.ts'
import type { Ip } from '../model/values.ts'

/**
 * Pairs of an address and an id; none is ever removed. The pairs are spread over shards, so that growth is many short
 * pauses: one table of a million pairs would take a tenth of a second to grow.
 */
export class AddressIndex {
  readonly #shards: (Shard | undefined)[] = []
  #size = 0

  /** The number of pairs. */
  get size(): number {
    return this.#size
  }

  /** Adds a pair. `id` is a whole number from 0 on. */
  add(address: Ip, id: number): void {
    const hash = hashOf(address)
    const shard = (this.#shards[hash >>> SHARD_SHIFT] ??= new Shard())
    if (shard.add(hash, id)) this.#size++
  }

  /** The ids that may belong to the address, in no particular order. */
  find(address: Ip): Iterable<number> {
    const hash = hashOf(address)
    return this.#shards[hash >>> SHARD_SHIFT]?.find(hash) ?? []
  }
}

// The upper 6 bits of a hash choose one of 64 shards; the lower bits choose the slot in it.
const SHARD_SHIFT = 26

/**
 * A hash table of pairs with open addressing and linear probing. Its length is a power of two, and at most half of
 * the slots are used.
 */
class Shard {
  #hashes = new Uint32Array(SLOTS_MIN)
  /** The id of each slot plus 1; 0 marks a free slot. */
  #ids = new Uint32Array(SLOTS_MIN)
  #size = 0

  /** Adds a pair; false when it was there already. */
  add(hash: number, id: number): boolean {
    if (!this.#put(hash, id + 1)) return false
    if (this.#size * 2 > this.#ids.length) this.#grow()
    return true
  }

  *find(hash: number): Iterable<number> {
    const mask = this.#ids.length - 1
    for (let slot = hash & mask; this.#ids[slot] !== 0; slot = (slot + 1) & mask) {
      if (this.#hashes[slot] === hash) yield (this.#ids[slot] ?? 1) - 1
    }
  }

  /** Writes a pair into the first free slot; false when it was there already. */
  #put(hash: number, id: number): boolean {
    const mask = this.#ids.length - 1
    let slot = hash & mask
    for (; this.#ids[slot] !== 0; slot = (slot + 1) & mask)
      if (this.#hashes[slot] === hash && this.#ids[slot] === id) return false
    this.#hashes[slot] = hash
    this.#ids[slot] = id
    this.#size++
    return true
  }

  #grow(): void {
    const [hashes, ids] = [this.#hashes, this.#ids]
    this.#hashes = new Uint32Array(ids.length * 2)
    this.#ids = new Uint32Array(ids.length * 2)
    this.#size = 0
    for (const [slot, id] of ids.entries()) if (id !== 0) this.#put(hashes[slot] ?? 0, id)
  }
}

const SLOTS_MIN = 8

/** A hash of which all bits are used. The last characters of an address differ most, so they must reach all bits. */
function hashOf(address: Ip): number {
  return mixBits(hashText(address))
}
