// Tracks whether records may be missing in the replica only because this agent's disk has lost them
// (docs/decisions/0012). While gaps are open, a missing record is no reason to delete anything on the host or a name
// in DNS.

// A neighbour tells of all origins at once when it connects, and again each second. Pulling them takes a few round
// trips, which fit in the rest of the 5 s.
const GAPS_CLOSED_MS = 5000

/** The state of the gaps of one replica. `isOpen` is true at the start when the store has lost or dropped records. */
export class Gaps {
  #isOpen: boolean
  /** Monotonic time since when there has been a neighbour without a break; undefined: there is none. */
  #toldSinceMs: number | undefined

  constructor(isOpen: boolean) {
    this.#isOpen = isOpen
  }

  /** Whether records may be missing only because of the disk. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Opens the gaps again: a stored state turned out to be damaged. */
  open(): void {
    this.#isOpen = true
  }

  /**
   * Called with each tick of the control plane (200 ms). Returns true once: when there has been a neighbour for
   * GAPS_CLOSED_MS, and the gaps count as closed.
   */
  tick(nowMs: number, hasNeighbour: boolean): boolean {
    if (!this.#isOpen) return false
    if (!hasNeighbour) this.#toldSinceMs = undefined
    else this.#toldSinceMs ??= nowMs
    if (this.#toldSinceMs === undefined || nowMs - this.#toldSinceMs < GAPS_CLOSED_MS) return false
    this.#isOpen = false
    return true
  }
}
