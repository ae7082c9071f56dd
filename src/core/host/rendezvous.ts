// Highest random weight hashing (Thaler and Ravishankar, 1998): who asks does not matter, and a candidate that comes or
// goes moves only what is its own.
import { hashText, mixBits } from '../model/hash.ts'

/** The candidates in order of preference for `key`: every member that knows the same candidates gets the same order. */
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

/** Placement, not security. */
function hash32(text: string): number {
  return mixBits(hashText(text))
}
