// A clock that never goes back, made from the times that the caller passes in. The caller's clock may be set back, by a
// second or by a year; waits and deadlines of a protocol must not notice it. protocol.ts converts each time on its
// way in and out.

/** The clock of one protocol instance. Times are in milliseconds. */
export class SteadyClock {
  /** Sum of all steps back of the caller's clock. */
  #offsetMs = 0
  #lastMs = -Infinity

  /**
   * Converts a time of the caller. The result never decreases; a step back of the caller's clock counts as no time at
   * all.
   */
  at(callerMs: number): number {
    const ms = callerMs + this.#offsetMs
    if (ms < this.#lastMs) this.#offsetMs += this.#lastMs - ms
    this.#lastMs = Math.max(this.#lastMs, ms)
    return this.#lastMs
  }

  /** The latest time of this clock; -Infinity before the first one. */
  get now(): number {
    return this.#lastMs
  }

  /** Converts a time of this clock to what the caller's clock, as it is set now, would have shown then. */
  toCaller(ms: number): number {
    return ms - this.#offsetMs
  }
}
