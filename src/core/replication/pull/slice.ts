// Slices of the list of all heads. A neighbour whose digest differs is sent one slice after the other, so that a head
// which is missing on either side is found after one round through the list at the latest. Used by heads.ts.

/** What decides whether a slice is sent. */
interface SliceState {
  /** The digest that the neighbour sent; 0 from a version that sends none. */
  readonly digest: number
  /** Pings in a row whose digest was another one. */
  readonly mismatches: number
  /** Milliseconds since the last slice. */
  readonly sinceMs: number
  readonly headsIntervalMs: number
}

/**
 * True when a slice is due: the digests differed in the last MISMATCHES_MIN pings, or the neighbour sends none, and
 * the last slice was sent half an interval ago or earlier.
 */
export function isSliceDue({ digest, mismatches, sinceMs, headsIntervalMs }: SliceState): boolean {
  if (digest !== 0 && mismatches < MISMATCHES_MIN) return false
  return sinceMs >= headsIntervalMs / 2
}

/**
 * Returns the next HEADS_PER_SLICE items from the cursor on, beginning again at the end of the list, and the cursor
 * after them.
 */
export function nextSlice<T>(
  items: readonly T[],
  cursor: number
): { readonly slice: readonly T[]; readonly cursor: number } {
  if (items.length === 0) return { slice: [], cursor }
  const start = cursor % items.length
  const slice = [...items, ...items].slice(start, start + Math.min(HEADS_PER_SLICE, items.length))
  return { slice, cursor: start + slice.length }
}

// Pings in a row that must differ. A single one is most often a change that is on its way.
const MISMATCHES_MIN = 2
// A slice has about 4.5 KB, and is sent about once a second while the digests differ.
const HEADS_PER_SLICE = 64
