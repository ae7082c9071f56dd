// Bounds the signature checks that each neighbour can cause. A check takes about as long as all other work on a frame,
// so a flood of well-formed frames with good or bad signatures costs this agent most by its checks. The caller
// (app/control) counts them and reads nothing from a neighbour that has used up its budget.
import type { Origin } from '../model/values.ts'

/** The budgets of one agent's neighbours. Times are in milliseconds on a monotonic clock. */
export class CheckBudget {
  /** Unused checks of each neighbour; negative when it has caused more than it may. */
  readonly #left = new Map<Origin, { checks: number; atMs: number }>()

  /**
   * Takes note of checks that frames of `peer` have caused. Returns the milliseconds for which nothing should be read
   * from it; 0 while it is within its budget.
   */
  spend(peer: Origin, checks: number, nowMs: number): number {
    if (checks === 0) return 0
    const known = this.#left.get(peer) ?? { checks: CHECKS_BURST, atMs: nowMs }
    const earned = ((nowMs - known.atMs) / 1000) * CHECKS_PER_SECOND
    const left = Math.min(CHECKS_BURST, known.checks + Math.max(0, earned)) - checks
    this.#left.set(peer, { checks: left, atMs: nowMs })
    return left >= 0 ? 0 : (-left / CHECKS_PER_SECOND) * 1000
  }

  /**
   * Forgets the budgets that are whole again, so that memory is bounded by the neighbours of a few seconds. A neighbour
   * that connects anew has no new budget before.
   */
  sweep(nowMs: number): void {
    for (const [peer, { checks, atMs }] of this.#left)
      if (checks + ((nowMs - atMs) / 1000) * CHECKS_PER_SECOND >= CHECKS_BURST) this.#left.delete(peer)
  }
}

// A neighbour passes on batches of all origins. In a mesh of 1,000 agents that is some hundred checks in a busy second; a
// first join costs five checks for each origin, and has most of them at once. 1,000 checks take about 0.1 s.
const CHECKS_PER_SECOND = 1000
const CHECKS_BURST = 4000
