// The eager peers of each origin: the two neighbours that push its batches to this agent. All other neighbours are
// asked to stop (Prune) and only tell heads. The method is Plumtree (Leitão, Pereira, Rodrigues, 2007), with one tree
// for each origin and with a second edge, so that one lost edge costs no time.
// Invariants
//   E1. An origin has at most EAGER_PEERS_MAX eager peers.
//   E2. A neighbour that delivers a batch first becomes an eager peer, if need be in place of another, so the tree
//       follows the latencies.
//   E3. An eager peer that has missed MISSED_MAX batches in a row is replaced by the next neighbour that delivers one.
import type { Origin } from '../../model/values.ts'

/** Eager peers of one origin. */
export const EAGER_PEERS_MAX = 2

/** The frames to send after a batch has arrived. */
export interface Advice {
  /** Ask this neighbour to stop pushing. */
  readonly prune?: Origin
  /** Ask this neighbour to push again. */
  readonly graft?: Origin
}

/** An origin that has lost an eager peer, and the ones that it still has. */
export interface Orphan {
  readonly origin: Origin
  readonly left: readonly Origin[]
}

/** The eager peers of one agent, for all origins. */
export class EagerPeers {
  readonly #byOrigin = new Map<Origin, EagerPeer[]>()

  /** Takes note that `peer` has pushed a batch that was new here. */
  first(origin: Origin, peer: Origin): Advice {
    const peers = this.#of(origin)
    for (const each of peers) each.missed = each.peer === peer ? 0 : each.missed + 1
    if (peers.some((each) => each.peer === peer)) return NOTHING
    return pruned(this.#replaceWorst(peers, peer)) // E2
  }

  /** Takes note that `peer` has pushed a batch that was held already. */
  again(origin: Origin, peer: Origin): Advice {
    const peers = this.#of(origin)
    const each = peers.find((each) => each.peer === peer)
    if (each) {
      each.missed = 0
      return NOTHING
    }
    const canJoin = peers.length < EAGER_PEERS_MAX || peers.some(({ missed }) => missed >= MISSED_MAX)
    return canJoin ? pruned(this.#replaceWorst(peers, peer)) : { prune: peer } // E1, E3
  }

  /** Takes note that a new state had to be pulled from `peer`, because no eager peer had pushed it. */
  pulled(origin: Origin, peer: Origin): Advice {
    const peers = this.#of(origin)
    for (const each of peers) each.missed++
    if (peers.some((each) => each.peer === peer)) return { graft: peer }
    const canJoin = peers.length < EAGER_PEERS_MAX || peers.some(({ missed }) => missed >= MISSED_MAX)
    return canJoin ? { ...pruned(this.#replaceWorst(peers, peer)), graft: peer } : NOTHING
  }

  /** Removes a neighbour whose connection has ended. Returns the origins of which it was an eager peer. */
  peerDown(peer: Origin): readonly Orphan[] {
    const orphans: { origin: Origin; left: Origin[] }[] = []
    for (const [origin, peers] of this.#byOrigin) {
      const at = peers.findIndex((each) => each.peer === peer)
      if (at < 0) continue
      peers.splice(at, 1)
      orphans.push({ origin, left: peers.map((each) => each.peer) })
    }
    return orphans
  }

  /** Makes `peer`, which was asked to push, an eager peer of this origin if there is room. */
  adopt(origin: Origin, peer: Origin): void {
    const peers = this.#of(origin)
    if (peers.length < EAGER_PEERS_MAX && !peers.some((each) => each.peer === peer))
      peers.push({ peer, missed: 0 })
  }

  /** The eager peers of an origin. */
  of(origin: Origin): readonly Origin[] {
    return (this.#byOrigin.get(origin) ?? []).map(({ peer }) => peer)
  }

  #of(origin: Origin): EagerPeer[] {
    let peers = this.#byOrigin.get(origin)
    if (!peers) this.#byOrigin.set(origin, (peers = []))
    return peers
  }

  /**
   * Adds an eager peer. Returns the one that it replaces, which has missed the most batches; undefined when there was
   * room.
   */
  #replaceWorst(peers: EagerPeer[], peer: Origin): Origin | undefined {
    let gone: EagerPeer | undefined
    if (peers.length >= EAGER_PEERS_MAX) {
      gone = peers.reduce((worst, each) => (each.missed >= worst.missed ? each : worst))
      peers.splice(peers.indexOf(gone), 1)
    }
    peers.push({ peer, missed: 0 })
    return gone?.peer
  }
}

/** One eager peer of one origin. */
interface EagerPeer {
  readonly peer: Origin
  /** Batches in a row that other neighbours delivered and this one did not, or not yet. */
  missed: number
}

// A copy that is only slower than the first one usually arrives before the next two batches, and resets the count.
const MISSED_MAX = 3
const NOTHING: Advice = {}

function pruned(peer: Origin | undefined): Advice {
  return peer === undefined ? NOTHING : { prune: peer }
}
