// Decides how a neighbour learns of a new state: by a push of the batch, by its head, or not at all. A pure function
// for broadcast.ts.

/** Facts about one neighbour and one new head. */
interface TellingFacts {
  /** The neighbour sent the head, is its origin, or claims to hold it or a later one. */
  readonly isKnown: boolean
  /** The batch is small enough, and of an origin whose batches this agent pushes. */
  readonly canPush: boolean
  /** The neighbour has asked not to be pushed batches of this origin (Prune). */
  readonly isPruned: boolean
  /** The mesh is large: batches are pushed on along a tree. */
  readonly isEager: boolean
  /** The origin is this agent itself. */
  readonly isOwn: boolean
}

/** `push`: the batch is sent. `heads`: the head is sent at once. `later`: the head is sent with the next telling. */
type Telling = 'none' | 'push' | 'heads' | 'later'

/** Returns how to tell this neighbour. */
export function tellingOf({ isKnown, canPush, isPruned, isEager, isOwn }: TellingFacts): Telling {
  if (isKnown) return 'none'
  if (canPush) return isPruned ? 'later' : 'push'
  // In a small mesh, and of an own batch that is too large to be pushed, the head is sent at once and pulled piece by
  // piece.
  return isEager && !isOwn ? 'later' : 'heads'
}
