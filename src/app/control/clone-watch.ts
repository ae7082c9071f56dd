// Detects whether another agent signs states with this agent's key.
import { monotonicMs } from '../observe/clock.ts'

// A lost disk costs one new epoch, a second agent with this key one for nearly each state that either of them signs.
const CLONE_ROLLBACKS = 3
const CLONE_MS = 60_000

/** Counts the rollbacks of this agent's own origin during the last CLONE_MS. */
export class CloneWatch {
  /** When others' signatures in our name were last seen; the latest few. Monotonic. */
  readonly #seenMs: number[] = []

  rolledBack(): void {
    this.#seenMs.push(monotonicMs())
    if (this.#seenMs.length > CLONE_ROLLBACKS) this.#seenMs.shift()
  }

  get isCloned(): boolean {
    const sinceMs = monotonicMs() - CLONE_MS
    return this.#seenMs.filter((atMs) => atMs > sinceMs).length >= CLONE_ROLLBACKS
  }
}
