// This file assigns each slot of a virtual server to a backend. A packet draws a slot number, at random or by a hash
// of its source, and the slot names the backend. The result is the same on every host, so that the kernel's elements
// can be compared with the wanted ones.
// Invariants
//   1. A backend of weight 0 has no slot, so that no new flow reaches it. Its old flows continue in conntrack.
//   2. In a random table every other backend has at least one slot. In a hashed table a backend with a very small
//      weight may have none.
//   3. A slot of a hashed server changes its backend only if that backend was removed or a new backend won the slot
//      (rendezvous hashing), as long as the table's size stays: about 1/N of the clients move when one of N
//      backends is added or removed.
import { hashText, mixBits } from '../model/hash.ts'
import type { RealServer, VirtualServer } from './host-state.ts'

interface SlotTable {
  readonly draw: 'random' | 'hash'
  /**
   * The index is the slot number. Possible lengths are RANDOM_SIZES or HASH_SIZES. The list is empty when no backend
   * takes new flows.
   */
  readonly slots: readonly RealServer[]
}

/**
 * Sizes of random tables; the packet filter has one chain for each. Above 16 slots the size is the next power of two
 * with at least 8 slots a backend, so that shares differ by at most 1/8.
 */
export const RANDOM_SIZES: readonly number[] = [
  ...Array.from({ length: 16 }, (_, index) => index + 1),
  256,
  512,
  1024,
  2048,
  4096,
  8192,
  16_384
]

/**
 * Sizes of hashed tables for up to 16, up to 128 and more backends. There are few sizes, because a change of size
 * moves every client.
 */
export const HASH_SIZES: readonly number[] = [128, 1024, 8192]

/**
 * Returns the slots of a virtual server. With ClientIP affinity or the scheduler `mh` a slot is drawn by a hash of
 * the source address; else at random.
 */
export function slotTable(server: VirtualServer): SlotTable {
  const active = server.realServers.filter((real) => real.weight > 0)
  const draw = server.affinitySeconds > 0 || server.scheduler === 'mh' ? 'hash' : 'random'
  if (active.length === 0) return { draw, slots: [] }
  return { draw, slots: draw === 'hash' ? hashSlots(active) : randomSlots(active) }
}

/**
 * Returns the number of slots of a server with that many backends, which is its number of kernel elements. `weight` is
 * the sum of their weights; the default is 1 for each. Where all weights have a common divisor, there may be fewer slots.
 */
export function slotCount(backends: number, draw: SlotTable['draw'], weight = backends): number {
  if (backends === 0) return 0
  if (draw === 'hash') return hashSizeFor(backends)
  return weight <= 16 ? weight : sizeFor(RANDOM_SIZES, weight * 8)
}

function hashSizeFor(backends: number): number {
  return HASH_SIZES[backends <= 16 ? 0 : backends <= 128 ? 1 : 2] ?? 0
}

function randomSlots(active: readonly RealServer[]): readonly RealServer[] {
  const divisor = active.map((real) => real.weight).reduce(greatestCommonDivisor)
  const total = active.reduce((sum, real) => sum + real.weight / divisor, 0)
  if (total <= 16) return active.flatMap((real) => Array<RealServer>(real.weight / divisor).fill(real))
  const size = sizeFor(RANDOM_SIZES, total * 8)
  const counts = shares(active, size)
  return active.flatMap((real, index) => Array<RealServer>(counts[index] ?? 0).fill(real))
}

/**
 * Returns how many of `size` slots each backend gets: in proportion to its weight, at least 1, in sum `size` (largest
 * remainder method).
 */
function shares(active: readonly RealServer[], size: number): readonly number[] {
  const total = active.reduce((sum, real) => sum + real.weight, 0)
  const exact = active.map((real) => (real.weight / total) * size)
  const counts = exact.map((share) => Math.max(1, Math.floor(share)))
  const byNeed = exact
    .map((share, index) => ({ index, need: share - (counts[index] ?? 0) }))
    .sort((a, b) => b.need - a.need || a.index - b.index)
  let missing = size - counts.reduce((sum, count) => sum + count, 0)
  for (let turn = 0; missing > 0; turn++, missing--) bump(counts, byNeed[turn % byNeed.length]?.index, 1)
  while (missing < 0) {
    bump(counts, counts.indexOf(Math.max(...counts)), -1)
    missing++
  }
  return counts
}

function bump(counts: number[], index: number | undefined, by: number): void {
  if (index !== undefined) counts[index] = (counts[index] ?? 0) + by
}

function hashSlots(active: readonly RealServer[]): readonly RealServer[] {
  const size = hashSizeFor(active.length)
  const weights = new Set(active.map((real) => real.weight))
  const seeds = active.map((real) => hashText(`${real.ip} ${real.port}`))
  return Array.from({ length: size }, (_, slot) => {
    let [best, bestScore] = [0, -Infinity]
    for (let index = 0; index < active.length; index++) {
      const draw = mixBits((seeds[index] ?? 0) ^ Math.imul(slot + 1, 0x9e37_79b1))
      // Weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): the highest −weight / ln(u) wins. With equal
      // weights that is the highest draw.
      const score =
        weights.size === 1 ? draw : -(active[index]?.weight ?? 0) / Math.log((draw + 0.5) / 2 ** 32)
      if (score > bestScore) {
        best = index
        bestScore = score
      }
    }
    return active[best] as RealServer
  })
}

function sizeFor(sizes: readonly number[], wanted: number): number {
  const largest = sizes.at(-1) ?? 0
  return sizes.find((size) => size >= wanted) ?? largest
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}
