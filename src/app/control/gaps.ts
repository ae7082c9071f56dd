// Tracks whether records may be missing in the replica only because this agent's disk has lost them. Until then nothing may be deleted.

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

  /** Call with each tick. Returns true once, when a neighbour has been connected for GAPS_CLOSED_MS and the gaps count as closed. */
  tick(nowMs: number, hasNeighbour: boolean): boolean {
    if (!this.#isOpen) return false
    if (!hasNeighbour) this.#toldSinceMs = undefined
    else this.#toldSinceMs ??= nowMs
    if (this.#toldSinceMs === undefined || nowMs - this.#toldSinceMs < GAPS_CLOSED_MS) return false
    this.#isOpen = false
    return true
  }
}
