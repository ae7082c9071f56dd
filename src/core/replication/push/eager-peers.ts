// The eager path's tree of each origin: the two neighbours whose pushes of its batches we take. Everyone else is asked to
// stop (Prune) and tells heads only. Plumtree (Leitão, Pereira, Rodrigues, 2007) with one tree per origin and a second edge,
// so that one lost edge costs no time.
// Invariants
//   E1. At most EAGER_PEERS_MAX eager peers per origin.
//   E2. The first bearer of news is worth more than an eager peer: the tree follows the latencies.
//   E3. An eager peer that has missed MISSED_MAX batches in a row gives way to whoever delivers.
import type { Origin } from '../../model/values.ts'

export const EAGER_PEERS_MAX = 2

export interface Advice {
  /** Tell this neighbour to stop pushing. */
  readonly prune?: Origin
  /** Ask this neighbour to push again. */
  readonly graft?: Origin
}

/** An origin that has lost an eager peer, and the ones that it still has. */
export interface Orphan {
  readonly origin: Origin
  readonly left: readonly Origin[]
}

export class EagerPeers {
  readonly #byOrigin = new Map<Origin, EagerPeer[]>()

  /** `peer` pushed a batch that was news. */
  first(origin: Origin, peer: Origin): Advice {
    const peers = this.#of(origin)
    for (const each of peers) each.missed = each.peer === peer ? 0 : each.missed + 1
    if (peers.some((each) => each.peer === peer)) return NOTHING
    return pruned(this.#replaceWorst(peers, peer)) // E2
  }

  /** `peer` pushed what was known already. */
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

  /** News had to be pulled from `peer`: the eager peers have failed. */
  pulled(origin: Origin, peer: Origin): Advice {
    const peers = this.#of(origin)
    for (const each of peers) each.missed++
    if (peers.some((each) => each.peer === peer)) return { graft: peer }
    const canJoin = peers.length < EAGER_PEERS_MAX || peers.some(({ missed }) => missed >= MISSED_MAX)
    return canJoin ? { ...pruned(this.#replaceWorst(peers, peer)), graft: peer } : NOTHING
  }

  /** Origins that lost an eager peer by it, with the eager peers left. */
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

  /** It was asked to push. */
  adopt(origin: Origin, peer: Origin): void {
    const peers = this.#of(origin)
    if (peers.length < EAGER_PEERS_MAX && !peers.some((each) => each.peer === peer))
      peers.push({ peer, missed: 0 })
  }

  of(origin: Origin): readonly Origin[] {
    return (this.#byOrigin.get(origin) ?? []).map(({ peer }) => peer)
  }

  #of(origin: Origin): EagerPeer[] {
    let peers = this.#byOrigin.get(origin)
    if (!peers) this.#byOrigin.set(origin, (peers = []))
    return peers
  }

  /** Who had to go. */
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

interface EagerPeer {
  readonly peer: Origin
  /** Batches in a row that came from others and not (yet) from it. */
  missed: number
}

// A copy that is only slower than the first arrives before the next two batches, as a rule.
const MISSED_MAX = 3
const NOTHING: Advice = {}

function pruned(peer: Origin | undefined): Advice {
  return peer === undefined ? NOTHING : { prune: peer }
}
