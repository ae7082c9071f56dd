// A bounded memory of ids that are not to be asked for again for a while.
import type { ShortId } from '../set/ids.ts'

/** Remembers up to `max` ids for `forMs` milliseconds each. The oldest is forgotten first. */
export class Memory {
  readonly #max: number
  readonly #forMs: number
  /** When each id is forgotten, in the order in which they were remembered. */
  readonly #until = new Map<ShortId, number>()

  constructor({ max, forMs }: { readonly max: number; readonly forMs: number }) {
    this.#max = max
    this.#forMs = forMs
  }

  get size(): number {
    return this.#until.size
  }

  add(id: ShortId, nowMs: number): void {
    this.#until.delete(id)
    this.#until.set(id, nowMs + this.#forMs)
    if (this.#until.size <= this.#max) return
    const [oldest] = this.#until.keys()
    if (oldest !== undefined) this.#until.delete(oldest)
  }

  has(id: ShortId, nowMs: number): boolean {
    const until = this.#until.get(id)
    if (until === undefined) return false
    if (nowMs < until) return true
    this.#until.delete(id)
    return false
  }

  delete(id: ShortId): void {
    this.#until.delete(id)
  }
}
