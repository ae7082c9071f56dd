// Runs the operations on small files of the state folder one after the other: `mend` of the store could otherwise write a
// file again that `forget` is removing.
// Invariant: after `end` no operation begins. So an agent that has stopped writes nothing into a folder that the next
// agent has opened, whose newer identity it would undo.
import { storeClosed } from './errors.ts'

/** The turns of one store, or of one file beside it. */
export class Turns {
  readonly #path: string
  #last: Promise<unknown> = Promise.resolve()
  #isEnded = false

  /** `path`: for the error after the end. */
  constructor(path: string) {
    this.#path = path
  }

  /** Runs the work after all earlier work, also after work that failed. Rejects with its error; STORE_CLOSED after `end`. */
  run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isEnded) return Promise.reject(storeClosed(this.#path))
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
