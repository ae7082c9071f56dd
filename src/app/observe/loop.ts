// Work that is done again and again: at intervals, and soon after an event has marked it.
// Invariants
//   1. Passes never overlap. A mark during a pass makes one more pass after it, however many marks there were.
//   2. A pass that fails is reported, and the next one comes all the same.
//   3. Once `stop` has resolved, no pass runs and none will begin.

export interface LoopOptions {
  /** One pass. A number that it resolves to is the milliseconds until the next one, in place of the interval. */
  readonly act: (signal: AbortSignal) => Promise<number | void>
  /** Milliseconds between the end of a pass and the next that comes of itself. */
  readonly intervalMs: number
  /** Milliseconds between `start` and the first pass, unless a mark asks for it. Default 0: it begins before `start` returns. */
  readonly firstMs?: number
  /** The same after a pass that failed; as the interval if left out. */
  readonly retryMs?: number
  /** Milliseconds between a pass and the next that a mark asks for: frequent events share a pass. Default 0. */
  readonly gapMs?: number
  /** Not called for a pass that `stop` has ended. */
  readonly onError: (error: unknown) => void
  /** Whether the process stays alive for the next pass. Default true. */
  readonly keepsProcess?: boolean
}

export class Loop {
  readonly #options: LoopOptions
  readonly #stopping = new AbortController()
  #running: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #isStarted = false
  #isMarked = false
  /** Since the end of a pass, for `gapMs`. */
  #isResting = false

  constructor(options: LoopOptions) {
    this.#options = options
  }

  /** Something has come since the latest pass began. */
  get isMarked(): boolean {
    return this.#isMarked
  }

  /** The first pass comes after `firstMs`; a second call is as `mark`. */
  start(): void {
    const { firstMs = 0 } = this.#options
    const isFirst = !this.#isStarted
    this.#isStarted = true
    if (!isFirst || firstMs === 0) this.mark()
    else if (!this.#stopping.signal.aborted) this.#wait(firstMs, () => this.#begin())
  }

  /** A pass as soon as may be. Before `start` and after `stop` nothing happens. */
  mark(): void {
    if (!this.#isStarted || this.#stopping.signal.aborted) return
    this.#isMarked = true
    if (this.#running === undefined && !this.#isResting) this.#begin()
  }

  /** Ends the loop; resolves after the pass that is under way, whose signal is aborted. */
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
      if (!this.#stopping.signal.aborted) this.#rest(waitMs)
    })
  }

  async #pass(): Promise<number> {
    const { act, intervalMs, retryMs = intervalMs, onError } = this.#options
    try {
      return (await act(this.#stopping.signal)) ?? intervalMs
    } catch (error) {
      if (!this.#stopping.signal.aborted) onError(error)
      return retryMs
    }
  }

  #rest(waitMs: number): void {
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
