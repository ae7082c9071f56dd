// Remembers which neighbours have not delivered what they claimed to hold. A claim is not signed (claim.ts), so it is
// believed until the neighbour fails to deliver; then the claims of others come first. The memory is by PeerId, so a new
// connection changes nothing.
// Invariants
//   D1. A failure for one origin makes the neighbour wait before it is asked for that origin again, twice as long after
//       each further failure. It makes no other neighbour wait.
//   D2. A neighbour with DEMOTED_MIN failures or more in general is demoted: it is asked last for every origin. All
//       failures within TOGETHER_MS are one, as when it restarts. One failure is forgiven each FORGIVEN_MS.
//   D3. Memory is bounded: NEIGHBOURS_MAX neighbours, and `originsMax` origins of each.
import { backoffMs } from '../../model/backoff.ts'
import type { Origin } from '../../model/values.ts'

/** One neighbour that has failed. Times are in milliseconds. */
interface Failing {
  /** Failures in general, less those that were forgiven until `atMs`. */
  failures: number
  atMs: number
  /** When a failure was last counted in general. */
  latestMs: number
  /** Failures in a row for each origin, and the time before which the neighbour is not asked for it. */
  readonly byOrigin: Map<Origin, { failures: number; notBeforeMs: number }>
}

/** How a neighbour stands for one origin. A lower rank is asked first. */
export interface Standing {
  readonly rank: number
  readonly notBeforeMs: number
}

/** The failures of all neighbours of one protocol instance. */
export class Demotions {
  readonly #originsMax: number
  readonly #byPeer = new Map<Origin, Failing>()

  constructor({ originsMax }: { readonly originsMax: number }) {
    this.#originsMax = originsMax
  }

  /** The neighbour was asked for this origin, and did not deliver what it claimed. */
  failed(peer: Origin, origin: Origin, nowMs: number): void {
    const failing = this.#of(peer)
    if (nowMs - failing.latestMs >= TOGETHER_MS) {
      failing.failures = this.#general(failing, nowMs) + 1
      failing.atMs = failing.latestMs = nowMs
    }
    this.putOff(peer, origin, nowMs)
  }

  /** The same without a failure in general: another neighbour was asked before the time of this one was over. */
  putOff(peer: Origin, origin: Origin, nowMs: number): void {
    const { byOrigin } = this.#of(peer)
    const failures = (byOrigin.get(origin)?.failures ?? 0) + 1
    if (byOrigin.size >= this.#originsMax) byOrigin.clear() // D3
    byOrigin.set(origin, { failures, notBeforeMs: nowMs + backoffMs(failures - 1, BACKOFF) }) // D1
  }

  /** The neighbour has delivered what it claimed of this origin. */
  delivered(peer: Origin, origin: Origin): void {
    this.#byPeer.get(peer)?.byOrigin.delete(origin)
  }

  /** True when the neighbour has failed often lately (D2). */
  isDemoted(peer: Origin, nowMs: number): boolean {
    const failing = this.#byPeer.get(peer)
    return failing !== undefined && this.#general(failing, nowMs) >= DEMOTED_MIN
  }

  /** Demotion counts more than any number of failures for the one origin. */
  standing(peer: Origin, origin: Origin, nowMs: number): Standing {
    const { failures, notBeforeMs } = this.#byPeer.get(peer)?.byOrigin.get(origin) ?? CLEAN
    const rank = Math.min(failures, FAILURES_RANKED) + (this.isDemoted(peer, nowMs) ? FAILURES_RANKED + 1 : 0)
    return { rank, notBeforeMs }
  }

  #general({ failures, atMs }: Failing, nowMs: number): number {
    return Math.max(0, failures - Math.floor((nowMs - atMs) / FORGIVEN_MS))
  }

  #of(peer: Origin): Failing {
    const known = this.#byPeer.get(peer)
    const failing = known ?? { failures: 0, atMs: 0, latestMs: -Infinity, byOrigin: new Map() }
    this.#byPeer.delete(peer) // a new entry belongs at the end
    this.#byPeer.set(peer, failing)
    for (const oldest of this.#byPeer.keys()) {
      if (this.#byPeer.size <= NEIGHBOURS_MAX) break
      this.#byPeer.delete(oldest)
    }
    return failing
  }
}

const CLEAN = { failures: 0, notBeforeMs: -Infinity } as const
const BACKOFF = { minMs: 250, maxMs: 30_000 } as const
// Two timeouts happen to a neighbour that restarts.
const DEMOTED_MIN = 3
const FORGIVEN_MS = 60_000
const TOGETHER_MS = 3000
// More failures for one origin make no further difference.
const FAILURES_RANKED = 20
const NEIGHBOURS_MAX = 2048
