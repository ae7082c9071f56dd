// Something that is done once for all events of a turn of the event loop.
export class PerTurn {
  readonly #act: () => void
  #isDue = false
  #isRunning = false

  constructor(act: () => void) {
    this.#act = act
  }

  get isRunning(): boolean {
    return this.#isRunning
  }

  /** Marks count from now on. */
  start(): void {
    this.#isRunning = true
  }

  /** Before `start` and after `stop` nothing happens. */
  mark(): void {
    if (this.#isDue || !this.#isRunning) return
    this.#isDue = true
    setImmediate(() => {
      this.#isDue = false
      if (this.#isRunning) this.#act()
    })
  }

  stop(): void {
    this.#isRunning = false
  }
}
