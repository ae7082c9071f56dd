// The eager path's tree of each origin: the two neighbours whose pushes of its batches we take. Everyone else is asked to
// stop (Prune) and tells heads only. Plumtree (Leitão, Pereira, Rodrigues, 2007) with one tree per origin and a second edge,
// so that one lost edge costs no time.
// Invariants
//   E1. At most FEEDERS_MAX feeders per origin.
//   E2. The first bearer of news is worth more than a feeder: the tree follows the latencies.
//   E3. A feeder that has missed MISSED_MAX batches in a row gives way to whoever delivers.
import type { Origin } from '../../model/values.ts'

export const FEEDERS_MAX = 2

export interface Advice {
  /** Tell this neighbour to stop pushing. */
  readonly prune?: Origin
  /** Ask this neighbour to push again. */
  readonly graft?: Origin
}

export class Feeders {
  readonly #byOrigin = new Map<Origin, Feeder[]>()

  /** `peer` pushed a batch that was news. */
  first(origin: Origin, peer: Origin): Advice {
    const feeders = this.#of(origin)
    for (const feeder of feeders) feeder.missed = feeder.peer === peer ? 0 : feeder.missed + 1
    if (feeders.some((feeder) => feeder.peer === peer)) return NOTHING
    return pruned(this.#replaceWorst(feeders, peer)) // E2
  }

  /** `peer` pushed what was known already. */
  again(origin: Origin, peer: Origin): Advice {
    const feeders = this.#of(origin)
    const feeder = feeders.find((feeder) => feeder.peer === peer)
    if (feeder) {
      feeder.missed = 0
      return NOTHING
    }
    const canJoin = feeders.length < FEEDERS_MAX || feeders.some(({ missed }) => missed >= MISSED_MAX)
    return canJoin ? pruned(this.#replaceWorst(feeders, peer)) : { prune: peer } // E1, E3
  }

  /** News had to be pulled from `peer`: the feeders have failed. */
  pulled(origin: Origin, peer: Origin): Advice {
    const feeders = this.#of(origin)
    for (const feeder of feeders) feeder.missed++
    if (feeders.some((feeder) => feeder.peer === peer)) return { graft: peer }
    const canJoin = feeders.length < FEEDERS_MAX || feeders.some(({ missed }) => missed >= MISSED_MAX)
    return canJoin ? { ...pruned(this.#replaceWorst(feeders, peer)), graft: peer } : NOTHING
  }

  /** Origins that lost a feeder by it, with the feeders left. */
  peerDown(peer: Origin): readonly { readonly origin: Origin; readonly left: readonly Origin[] }[] {
    const orphans: { origin: Origin; left: Origin[] }[] = []
    for (const [origin, feeders] of this.#byOrigin) {
      const at = feeders.findIndex((feeder) => feeder.peer === peer)
      if (at < 0) continue
      feeders.splice(at, 1)
      orphans.push({ origin, left: feeders.map((feeder) => feeder.peer) })
    }
    return orphans
  }

  /** It was asked to push. */
  adopt(origin: Origin, peer: Origin): void {
    const feeders = this.#of(origin)
    if (feeders.length < FEEDERS_MAX && !feeders.some((feeder) => feeder.peer === peer))
      feeders.push({ peer, missed: 0 })
  }

  of(origin: Origin): readonly Origin[] {
    return (this.#byOrigin.get(origin) ?? []).map(({ peer }) => peer)
  }

  #of(origin: Origin): Feeder[] {
    let feeders = this.#byOrigin.get(origin)
    if (!feeders) this.#byOrigin.set(origin, (feeders = []))
    return feeders
  }

  /** Who had to go. */
  #replaceWorst(feeders: Feeder[], peer: Origin): Origin | undefined {
    let gone: Feeder | undefined
    if (feeders.length >= FEEDERS_MAX) {
      gone = feeders.reduce((worst, feeder) => (feeder.missed >= worst.missed ? feeder : worst))
      feeders.splice(feeders.indexOf(gone), 1)
    }
    feeders.push({ peer, missed: 0 })
    return gone?.peer
  }
}

interface Feeder {
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
