// A slice of all heads, sent to a neighbour whose digest differs: what is missing on either side is found within a round of slices.

interface SliceState {
  /** The digest that the neighbour sent; 0 from a version that sends none. */
  readonly digest: number
  /** Pings in a row whose digest was another one. */
  readonly mismatches: number
  /** Milliseconds since the last slice. */
  readonly sinceMs: number
  readonly headsIntervalMs: number
}

export function isSliceDue({ digest, mismatches, sinceMs, headsIntervalMs }: SliceState): boolean {
  if (digest !== 0 && mismatches < MISMATCHES_MIN) return false
  return sinceMs >= headsIntervalMs / 2
}

/** The next items from the cursor on, around the end, and the cursor after them. */
export function nextSlice<T>(
  items: readonly T[],
  cursor: number
): { readonly slice: readonly T[]; readonly cursor: number } {
  if (items.length === 0) return { slice: [], cursor }
  const start = cursor % items.length
  const slice = [...items, ...items].slice(start, start + Math.min(HEADS_PER_SLICE, items.length))
  return { slice, cursor: start + slice.length }
}

// One mismatch is most often a change under way.
const MISMATCHES_MIN = 2
// 4.5 KB, about once a second and only while neighbours differ.
const HEADS_PER_SLICE = 64
