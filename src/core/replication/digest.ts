// The digest of all held heads: one number, which each ping carries. Two neighbours with equal digests hold the same
// heads, so they need not send lists of heads to each other.
//   digest = sum modulo 2^32 over all heads of mix(origin, epoch, seq, check); 0 is sent as 1
// It is a sum, so that one changed head costs one subtraction and one addition. It is no cryptographic hash: an agent
// that forges a collision can hide only heads that it could also keep silent about.
import { hashText, mixBits } from '../model/hash.ts'
import { checkOf, type Head } from './head.ts'
import type { Origin } from '../model/values.ts'

/** The digest of one agent, kept up to date. */
export class HeadsDigest {
  /** The summand of each origin; `seed` is the hash of its name, which never changes. */
  readonly #parts = new Map<Origin, { readonly seed: number; mixed: number }>()
  #sum = 0

  /** An unsigned 32-bit number that is never 0: on the wire, 0 means that the sender knows no digests. */
  get value(): number {
    return this.#sum === 0 ? 1 : this.#sum
  }

  /** Removes the head of an origin whose state is not held any more. */
  delete(origin: Origin): void {
    const part = this.#parts.get(origin)
    if (part === undefined) return
    this.#sum = (this.#sum - part.mixed) >>> 0
    this.#parts.delete(origin)
  }

  /** Replaces the head of an origin. */
  set(head: Head): void {
    let part = this.#parts.get(head.origin)
    if (!part) {
      part = { seed: hashText(head.origin), mixed: 0 }
      this.#parts.set(head.origin, part)
    }
    const mixed = mix(part.seed, head.epoch, head.seq, checkOf(head))
    this.#sum = (this.#sum - part.mixed + mixed) >>> 0
    part.mixed = mixed
  }
}

/** Mixes each number into the seed with the finaliser of MurmurHash3, first its low and high 32 bits together. */
function mix(seed: number, ...numbers: readonly number[]): number {
  let hash = seed
  for (const number of numbers) {
    hash ^= Math.imul((number % 2 ** 32) | 0, 0x9e3779b1) ^ Math.floor(number / 2 ** 32)
    hash = mixBits(hash)
  }
  return hash >>> 0
}
