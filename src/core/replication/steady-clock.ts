// The caller's clock may be set back, by a second or by a year. Waits and deadlines must not notice: what was a moment ago stays a
// moment ago.
export class SteadyClock {
  #offsetMs = 0
  #lastMs = -Infinity

  /** The caller's time as one that never goes back. */
  at(callerMs: number): number {
    const ms = callerMs + this.#offsetMs
    if (ms < this.#lastMs) this.#offsetMs += this.#lastMs - ms
    this.#lastMs = Math.max(this.#lastMs, ms)
    return this.#lastMs
  }

  /** A time of ours as the caller's clock has it now. */
  toCaller(ms: number): number {
    return ms - this.#offsetMs
  }
}
