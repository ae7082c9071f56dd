// Runs the operations on the small files of the store one after the other: `mend` could otherwise write a file again that
// `forget` is removing.
// Invariant: after `end` no operation begins. So an agent that has stopped writes nothing into a folder that the next
// agent has opened, whose newer identity it would undo.
import { storeClosed } from './errors.ts'

/** The turns of one folder. */
export class Turns {
  readonly #folder: string
  #last: Promise<unknown> = Promise.resolve()
  #isEnded = false

  constructor(folder: string) {
    this.#folder = folder
  }

  /** Runs the work after all earlier work, also after work that failed. Rejects with its error; STORE_CLOSED after `end`. */
  run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isEnded) return Promise.reject(storeClosed(this.#folder))
    const result = this.#last.then(work)
    this.#last = result.catch(() => undefined)
    return result
  }

  /** Resolves when the work that was asked for before has ended. */
  async end(): Promise<void> {
    this.#isEnded = true
    await this.#last
  }
}
