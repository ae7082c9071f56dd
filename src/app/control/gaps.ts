// Whether something may be missing in the replica only because this agent's disk has lost it. Then it is no reason to delete anything.

// Any neighbour tells of every origin at once and again each second; pulling what it told of takes a few round trips.
const GAPS_CLOSED_MS = 5000

export class Gaps {
  #isOpen: boolean
  #toldSinceMs: number | undefined

  constructor(isOpen: boolean) {
    this.#isOpen = isOpen
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  open(): void {
    this.#isOpen = true
  }

  /** To be called with each tick. Returns true once, when a neighbour has had the time to tell all again. */
  tick(nowMs: number, hasNeighbour: boolean): boolean {
    if (!this.#isOpen) return false
    if (!hasNeighbour) this.#toldSinceMs = undefined
    else this.#toldSinceMs ??= nowMs
    if (this.#toldSinceMs === undefined || nowMs - this.#toldSinceMs < GAPS_CLOSED_MS) return false
    this.#isOpen = false
    return true
  }
}
