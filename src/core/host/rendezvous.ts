// This file implements highest random weight hashing (Thaler and Ravishankar, 1998): every agent computes the same
// order, and a candidate that joins or leaves moves only the keys that it gets or had.
import { hashText, mixBits } from '../model/hash.ts'

/**
 * Returns the candidates in order of preference for `key`. Every agent that knows the same candidates gets the same
 * order.
 */
export function rendezvous<T>(
  key: string,
  candidates: readonly T[],
  nameOf: (candidate: T) => string
): readonly T[] {
  return candidates
    .map((candidate) => ({ candidate, name: nameOf(candidate) }))
    .map(({ candidate, name }) => ({ candidate, name, weight: hash32(`${key}\0${name}`) }))
    .sort((a, b) => b.weight - a.weight || (a.name < b.name ? -1 : 1))
    .map(({ candidate }) => candidate)
}

/** The hash is for placement, not for security. */
function hash32(text: string): number {
  return mixBits(hashText(text))
}
