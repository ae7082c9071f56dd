// Joins all events of one turn of the event loop into one action. A frame of a peer can change many records; the view
// and what follows from it are then made once.

/** Calls `act` once after any number of marks. `act` must not throw: it runs in a callback of setImmediate. */
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

  /** From this call on, marks have an effect. */
  start(): void {
    this.#isRunning = true
  }

  /** Asks for the action in the next turn of the event loop. Without effect before `start` and after `stop`. */
  mark(): void {
    if (this.#isDue || !this.#isRunning) return
    this.#isDue = true
    setImmediate(() => {
      this.#isDue = false
      if (this.#isRunning) this.#act()
    })
  }

  /** Drops a mark that has not been acted on. */
  stop(): void {
    this.#isRunning = false
  }
}
