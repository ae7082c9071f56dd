// Highest random weight hashing (Thaler and Ravishankar, 1998): who asks does not matter, and a candidate that comes or
// goes moves only what is its own.

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

/** FNV-1a over UTF-16 units, then MurmurHash3's finaliser, for FNV alone mixes its last bytes badly. Placement, not security. */
function hash32(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
