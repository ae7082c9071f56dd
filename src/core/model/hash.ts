// The hash functions of the tree that are not for security: placement, spreading, and finding accidents.

/** FNV-1a over UTF-16 units, 32 bits. It mixes its last characters badly: use `mixBits` on it where bits of it are taken. */
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
