// How a neighbour learns of a new head.

interface TellingFacts {
  /** The neighbour sent the head, is its origin, or claims to hold it or a later one. */
  readonly isKnown: boolean
  /** The batch is small enough, and of an origin whose batches this agent pushes. */
  readonly canPush: boolean
  /** The neighbour asked not to be pushed to (Prune). */
  readonly isPruned: boolean
  /** The mesh is large: batches are pushed on along a tree. */
  readonly isEager: boolean
  readonly isOwn: boolean
}

/** `push`: the batch is sent. `heads`: the head is sent at once. `later`: the head is sent with the next telling. */
type Telling = 'none' | 'push' | 'heads' | 'later'

export function tellingOf({ isKnown, canPush, isPruned, isEager, isOwn }: TellingFacts): Telling {
  if (isKnown) return 'none'
  if (canPush) return isPruned ? 'later' : 'push'
  // In a small mesh, and of an own batch that is too large to be pushed, the head is sent at once and pulled piece by piece.
  return isEager && !isOwn ? 'later' : 'heads'
}
