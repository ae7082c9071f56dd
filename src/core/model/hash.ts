// The hash functions of the program that are not for security: placement on load balancer slots, overlay neighbours,
// the runs of a SortedMap, and digests that find accidental differences. Agents compare digests and must agree on
// placement, so the functions must not change between versions.

/**
 * FNV-1a over UTF-16 units, 32 bits. The last characters change only some of the bits: apply `mixBits` where a part
 * of the bits is used.
 */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++)
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  return hash >>> 0
}

/** The finaliser of MurmurHash3, 32 bits: every input bit reaches every output bit. */
export function mixBits(value: number): number {
  let hash = value
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
