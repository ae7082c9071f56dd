// Which services an address may belong to, in 16 bytes an address: as a map of sets a million of them take 300 MB.
// Invariant: find() answers every id that was added for the address, and may answer others: the caller looks.
import { hashText, mixBits } from '../hash-text.ts'
import type { Ip } from '../model.ts'

/** A hash table of pairs with open addressing; nothing is ever removed from it. */
export class AddressIndex {
  #hashes = new Uint32Array(SLOTS_MIN)
  /** Each one more than the id, so that 0 is free. */
  #ids = new Uint32Array(SLOTS_MIN)
  #size = 0

  /** Pairs held. */
  get size(): number {
    return this.#size
  }

  /** `id`: a whole number from 0 on. */
  add(address: Ip, id: number): void {
    if (this.#put(hashOf(address), id + 1) && this.#size * 2 > this.#ids.length) this.#grow()
  }

  *find(address: Ip): Iterable<number> {
    const hash = hashOf(address)
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

const SLOTS_MIN = 64

/** The last characters of an address tell most. */
function hashOf(address: Ip): number {
  return mixBits(hashText(address))
}
