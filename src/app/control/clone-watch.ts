// Detects whether another agent signs states with this agent's key, for example because a virtual machine was cloned
// together with its state folder. The result is shown as the fault IDENTITY_CLONED (session/path-faults.ts).
import { monotonicMs } from '../observe/clock.ts'

// A lost disk causes one rollback, which costs one new epoch. A second agent with the same key causes a rollback for
// nearly each state that either of the two signs. So three within a minute tell a clone from a lost disk.
const CLONE_ROLLBACKS = 3
const CLONE_MS = 60_000

/**
 * Counts the rollbacks of this agent's own origin during the last CLONE_MS. A rollback is a head that this agent's
 * key has signed and that its store does not have.
 */
export class CloneWatch {
  /** Monotonic times of the latest rollbacks, at most CLONE_ROLLBACKS. */
  readonly #seenMs: number[] = []

  /** Counts one rollback. Called for each effect `ownRollback` of the protocol. */
  rolledBack(): void {
    this.#seenMs.push(monotonicMs())
    if (this.#seenMs.length > CLONE_ROLLBACKS) this.#seenMs.shift()
  }

  /**
   * Whether there were CLONE_ROLLBACKS within the last CLONE_MS. False again a minute after the other agent has
   * stopped.
   */
  get isCloned(): boolean {
    const sinceMs = monotonicMs() - CLONE_MS
    return this.#seenMs.filter((atMs) => atMs > sinceMs).length >= CLONE_ROLLBACKS
  }
}
