// Chooses the neighbours that are asked to push the batches of origins that have lost an eager peer, because a
// connection has ended. Used by broadcast.ts.
import type { Origin } from '../../model/values.ts'
import { EAGER_PEERS_MAX, type Orphan } from './eager-peers.ts'

/** The request to `peer` to push the batches of `origin` (Graft). */
interface Adoption {
  readonly origin: Origin
  readonly peer: Origin
}

/** One neighbour for each orphan that has room, in turn, so that no neighbour takes all of them. */
export function adoptions(orphans: readonly Orphan[], neighbours: readonly Origin[]): readonly Adoption[] {
  return orphans.flatMap(({ origin, left }, index) => {
    if (left.length >= EAGER_PEERS_MAX) return []
    const others = neighbours.filter((peer) => !left.includes(peer))
    const peer = others[index % Math.max(1, others.length)]
    return peer === undefined ? [] : [{ origin, peer }]
  })
}
