// One number for all heads held, so that neighbours in step need no list of heads to know it.
//   digest = sum modulo 2^32 over all heads of mix(origin, epoch, seq, check); 0 is sent as 1
// A sum, so that one changed head costs one subtraction and one addition. It finds accidents, not attacks: who forges a
// collision hides only what he could also have kept to himself.
import { hashText, mixBits } from '../model/hash.ts'
import { checkOf, type Head } from './head.ts'
import type { Origin } from '../model/values.ts'

export class HeadsDigest {
  readonly #parts = new Map<Origin, { readonly seed: number; mixed: number }>()
  #sum = 0

  /** Never 0, which on the wire means "not said". */
  get value(): number {
    return this.#sum === 0 ? 1 : this.#sum
  }

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

/** Each number stirred in with MurmurHash3's finaliser. */
function mix(seed: number, ...numbers: readonly number[]): number {
  let hash = seed
  for (const number of numbers) {
    hash ^= Math.imul((number % 2 ** 32) | 0, 0x9e3779b1) ^ Math.floor(number / 2 ** 32)
    hash = mixBits(hash)
  }
  return hash >>> 0
}
