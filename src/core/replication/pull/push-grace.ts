// How long a pull waits for a push that may be under way already.

interface ToldHead {
  /** The neighbour that tells of the head is its origin. */
  readonly isFromOrigin: boolean
  /** The origin is a neighbour, which pushes its batches itself. */
  readonly isOfNeighbour: boolean
  /** An eager peer pushes the batches of the origin. */
  readonly isEager: boolean
}

/** Milliseconds. */
export function pushGraceMs({ isFromOrigin, isOfNeighbour, isEager }: ToldHead, directMs: number): number {
  // An origin sends its head after its push, on the same stream.
  if (isFromOrigin) return 0
  if (isOfNeighbour) return directMs
  return isEager ? EAGER_GRACE_MS : 0
}

// Heads are told up to tellIntervalMs after the push left: a push that is later than this is slower than the heads.
const EAGER_GRACE_MS = 60
