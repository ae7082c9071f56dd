// Waits before a request to a Kubernetes API is tried again. The waits grow exponentially between two bounds and have a
// random part of up to one half (core/model/backoff.ts), so that agents which lost one server at the same time do not
// all come back at the same time. Used by reflector.ts.
import { setTimeout as sleep } from 'node:timers/promises'
import { backoffMs, jittered, type BackoffBounds } from '../../core/model/backoff.ts'

/** Counts failures in a row. `limits` are in milliseconds. */
export class Backoff {
  readonly #limits: BackoffBounds
  readonly #random: () => number
  #failures = 0

  constructor(limits: BackoffBounds, random: () => number = Math.random) {
    this.#limits = limits
    this.#random = random
  }

  /** The number of failures since the last `reset`. */
  get failures(): number {
    return this.#failures
  }

  /** Call after a success: the next wait is a short one again. */
  reset(): void {
    this.#failures = 0
  }

  /**
   * Counts a failure and waits. `atLeastMs` is the wait that the server asked for (Retry-After); it counts up to the
   * upper bound, so that a wrong header cannot stop the agent for long. Resolves early when `signal` is aborted. Never
   * rejects.
   */
  async wait(signal: AbortSignal, atLeastMs = 0): Promise<void> {
    const ceilingMs = backoffMs(this.#failures, this.#limits)
    this.#failures += 1
    const delayMs = Math.max(jittered(ceilingMs, this.#random), Math.min(atLeastMs, this.#limits.maxMs))
    await sleep(delayMs, undefined, { signal, ref: false }).catch((error: unknown) => {
      if (!signal.aborted) throw error
    })
  }
}
