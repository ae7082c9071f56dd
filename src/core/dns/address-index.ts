// Which services an address may belong to, in 16 bytes an address: as a map of sets a million of them take 300 MB.
// Invariant: find() answers every id that was added for the address, and may answer others: the caller looks.
import { hashText, mixBits } from '../model/hash.ts'
import type { Ip } from '../model/values.ts'

/** Nothing is ever removed from it. In shards, so that growing is many short pauses: one table of a million would take a tenth of a second. */
export class AddressIndex {
  readonly #shards: (Shard | undefined)[] = []
  #size = 0

  /** Pairs held. */
  get size(): number {
    return this.#size
  }

  /** `id`: a whole number from 0 on. */
  add(address: Ip, id: number): void {
    const hash = hashOf(address)
    const shard = (this.#shards[hash >>> SHARD_SHIFT] ??= new Shard())
    if (shard.add(hash, id)) this.#size++
  }

  find(address: Ip): Iterable<number> {
    const hash = hashOf(address)
    return this.#shards[hash >>> SHARD_SHIFT]?.find(hash) ?? []
  }
}

/** 64 shards, by the bits of a hash that do not choose the slot. */
const SHARD_SHIFT = 26

/** A hash table of pairs with open addressing. */
class Shard {
  #hashes = new Uint32Array(SLOTS_MIN)
  /** Each one more than the id, so that 0 is free. */
  #ids = new Uint32Array(SLOTS_MIN)
  #size = 0

  /** False: it was there already. */
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

  /** False: it was there already. */
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

/** The last characters of an address tell most. */
function hashOf(address: Ip): number {
  return mixBits(hashText(address))
}
