// Work that is repeated: at intervals, and soon after an event has marked it (docs/decisions/0064). The reconciler of
// the host, the tick of the protocol, the watched folder of manifests and others use it. A timer of another kind, such
// as a deadline or a fixed rhythm of packets, is none of its work.
// Invariants:
//  1. Passes never overlap. Any number of marks during a pass causes one more pass after it.
//  2. A pass that fails is reported, and the next one is made all the same.
//  3. Once `stop` has resolved, no pass runs and none will begin.

/** The work of a loop and its times. All times are milliseconds. */
export interface LoopOptions {
  /**
   * One pass. The signal is aborted by `stop`. A number that the pass resolves to is used once instead of
   * `intervalMs`.
   */
  readonly act: (signal: AbortSignal) => Promise<number | void>
  /** Time between the end of a pass and the start of the next one, when no mark comes before. */
  readonly intervalMs: number
  /**
   * Time between `start` and the first pass, unless a mark comes before. Default 0: the first pass begins before
   * `start` returns.
   */
  readonly firstMs?: number
  /** Used instead of `intervalMs` after a pass that failed. Default: `intervalMs`. */
  readonly retryMs?: number
  /**
   * The least time between the end of a pass and a pass that a mark asks for, so that frequent events share one pass.
   * Default 0.
   */
  readonly gapMs?: number
  /**
   * Called with the error of a pass that failed. It is not called for a pass that `stop` has ended. Without it an error
   * is a fault of the program: the rejection is unhandled, so the process ends (app/agent/last-resort.ts).
   */
  readonly onError?: (error: unknown) => void
  /** Whether the timer for the next pass keeps the process alive. Default true. */
  readonly keepsProcess?: boolean
}

/** A loop that is started once and stopped once. It cannot be started again after `stop`. */
export class Loop {
  readonly #options: LoopOptions
  readonly #stopping = new AbortController()
  #running: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #isStarted = false
  #isMarked = false
  /** True between the end of a pass and the end of `gapMs` after it. A mark is kept until then. */
  #isResting = false

  constructor(options: LoopOptions) {
    this.#options = options
  }

  /** Starts the loop; the first pass comes after `firstMs`. A second call has the effect of `mark`. */
  start(): void {
    const { firstMs = 0 } = this.#options
    const isFirst = !this.#isStarted
    this.#isStarted = true
    if (!isFirst || firstMs === 0) this.mark()
    else if (!this.#stopping.signal.aborted) this.#wait(firstMs, () => this.#begin())
  }

  /** Asks for a pass as soon as possible. Before `start` and after `stop` it does nothing. */
  mark(): void {
    if (!this.#isStarted || this.#stopping.signal.aborted) return
    this.#isMarked = true
    if (this.#running === undefined && !this.#isResting) this.#begin()
  }

  /** Aborts the signal of the pass that is under way, and resolves once that pass has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    clearTimeout(this.#timer)
    await this.#running
  }

  #begin(): void {
    clearTimeout(this.#timer)
    this.#isMarked = false
    this.#running = this.#pass().then((waitMs) => {
      this.#running = undefined
      if (!this.#stopping.signal.aborted) this.#pause(waitMs)
    })
  }

  async #pass(): Promise<number> {
    const { act, intervalMs, retryMs = intervalMs, onError } = this.#options
    try {
      return (await act(this.#stopping.signal)) ?? intervalMs
    } catch (error) {
      if (this.#stopping.signal.aborted) return retryMs
      if (onError === undefined) throw error
      onError(error)
      return retryMs
    }
  }

  #pause(waitMs: number): void {
    const { gapMs = 0 } = this.#options
    if (gapMs === 0) {
      this.#wait(this.#isMarked ? 0 : waitMs, () => this.#begin())
      return
    }
    this.#isResting = true
    this.#wait(Math.min(gapMs, waitMs), () => {
      this.#isResting = false
      if (this.#isMarked || waitMs <= gapMs) this.#begin()
      else this.#wait(waitMs - gapMs, () => this.#begin())
    })
  }

  #wait(ms: number, then: () => void): void {
    this.#timer = setTimeout(then, ms)
    if (this.#options.keepsProcess === false) this.#timer.unref()
  }
}
