// How long a pull waits for a push of the same state. The head that one neighbour tells may arrive before the batch
// that another one pushes; a pull at once would bring the same batch twice. Used by puller.ts.

/** Facts about a head that a neighbour tells. */
interface ToldHead {
  /** The neighbour that tells of the head is its origin. */
  readonly isFromOrigin: boolean
  /** The origin is a neighbour, which pushes its batches itself. */
  readonly isOfNeighbour: boolean
  /** An eager peer pushes the batches of the origin. */
  readonly isEager: boolean
}

/** Returns the wait in milliseconds; `directMs` is the wait for an origin that is a neighbour and pushes itself. */
export function pushGraceMs({ isFromOrigin, isOfNeighbour, isEager }: ToldHead, directMs: number): number {
  // An origin sends its head after its push, on the same stream.
  if (isFromOrigin) return 0
  if (isOfNeighbour) return directMs
  return isEager ? EAGER_GRACE_MS : 0
}

// Milliseconds for a push along the tree. Heads are told up to tellIntervalMs (200 ms) after the push left, so a push
// that is still missing this long after the head is probably lost.
const EAGER_GRACE_MS = 60
