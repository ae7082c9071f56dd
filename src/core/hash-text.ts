/** FNV-1a over UTF-16 units, 32 bits. Placement and accidents, not security; it mixes its last characters badly. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++)
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  return hash >>> 0
}
