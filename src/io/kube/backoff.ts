// How long to wait before trying again: exponential, with full jitter (so that agents which lost one server together do not come
// back together), and cut short by `wake`.
import { setTimeout as sleep } from 'node:timers/promises'
import { backoffMs, jittered, type BackoffBounds } from '../../core/model/backoff.ts'

export class Backoff {
  readonly #limits: BackoffBounds
  readonly #random: () => number
  #failures = 0

  constructor(limits: BackoffBounds, random: () => number = Math.random) {
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
    const ceilingMs = backoffMs(this.#failures, this.#limits)
    this.#failures += 1
    const delayMs = Math.max(jittered(ceilingMs, this.#random), Math.min(atLeastMs, this.#limits.maxMs))
    await sleep(delayMs, undefined, { signal, ref: false }).catch((error: unknown) => {
      if (!signal.aborted) throw error
    })
  }
}
