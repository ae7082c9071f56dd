// How long to wait before trying again: exponential, with full jitter (so that agents which lost one server together do not come
// back together), and cut short by `wake`.
import { setTimeout as sleep } from 'node:timers/promises'

export interface BackoffLimits {
  readonly minMs: number
  readonly maxMs: number
}

export class Backoff {
  readonly #limits: BackoffLimits
  readonly #random: () => number
  #failures = 0

  constructor(limits: BackoffLimits, random: () => number = Math.random) {
    this.#limits = limits
    this.#random = random
  }

  get failures(): number {
    return this.#failures
  }

  reset(): void {
    this.#failures = 0
  }

  /** Counts a failure and waits. `atLeastMs`: what the server asked for. Resolves early when `signal` aborts. */
  async wait(signal: AbortSignal, atLeastMs = 0): Promise<void> {
    const { minMs, maxMs } = this.#limits
    const ceiling = Math.min(maxMs, minMs * 2 ** Math.min(this.#failures, 30))
    this.#failures += 1
    // Half is fixed: a pause of nothing would make a busy loop of an error that comes at once.
    const delayMs = Math.max(ceiling * (0.5 + this.#random() / 2), Math.min(atLeastMs, maxMs))
    await sleep(delayMs, undefined, { signal, ref: false }).catch((error: unknown) => {
      if (!signal.aborted) throw error
    })
  }
}
