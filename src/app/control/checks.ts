// The signature checks that frames of neighbours cause. A neighbour that has used up its budget
// (core/replication/check-budget.ts) is not read from for a while.
import type { Crypto } from '../../core/model/crypto.ts'
import type { Origin } from '../../core/model/values.ts'
import { CheckBudget } from '../../core/replication/check-budget.ts'
import type { Holds } from './holds.ts'

/** Counts the checks of one agent, and holds neighbours. */
export class Checks {
  /** The given crypto; its checks are counted. */
  readonly crypto: Crypto
  readonly #holds: Holds
  readonly #budget = new CheckBudget()
  #count = 0

  constructor(crypto: Crypto, holds: Holds) {
    this.#holds = holds
    this.crypto = {
      ...crypto,
      verify: (...parts) => {
        this.#count++
        return crypto.verify(...parts)
      }
    }
  }

  /** Does the work of a frame of this neighbour, and charges its checks. `nowMs` is monotonic. */
  charge(peer: Origin, nowMs: number, work: () => void): void {
    const before = this.#count
    work()
    const waitMs = this.#budget.spend(peer, this.#count - before, nowMs)
    if (waitMs > 0) this.#holds.holdUntil(peer, 'checks', nowMs + waitMs)
  }

  /** Called with each tick: forgets the budgets that are whole again. */
  tick(nowMs: number): void {
    this.#budget.sweep(nowMs)
  }
}
