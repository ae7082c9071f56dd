// Changes of a catalogue that are not published yet. For each key it holds only the last value, so it never grows
// larger than the catalogue. The publisher of a session adds the changes of the source, and takes them all when this
// agent publishes.
import type { Change } from './catalog.ts'
import type { Value } from '../model/values.ts'

/** Changes wait here while this agent is not the speaker of its cluster. */
export class Outbox {
  readonly #values = new Map<string, Value | undefined>()

  /** The number of keys with a change. */
  get size(): number {
    return this.#values.size
  }

  /** Takes in changes. A later change of a key replaces an earlier one. */
  add(changes: readonly Change[]): void {
    for (const { key, value } of changes) this.#values.set(key, value)
  }

  /**
   * Returns all changes and empties the outbox. Endpoints come before their service and are withdrawn after it, so
   * that no reader sees a service without its endpoints.
   */
  take(): readonly Change[] {
    const changes = Array.from(this.#values, ([key, value]): Change => ({ key, value }))
    this.#values.clear()
    return changes.sort((left, right) => rankOf(left) - rankOf(right))
  }

  clear(): void {
    this.#values.clear()
  }
}

/** The position of a change: slices set, services set, services withdrawn, slices withdrawn. */
function rankOf({ key, value }: Change): number {
  const isSlice = key.startsWith('eps/')
  if (value !== undefined) return isSlice ? 0 : 1
  return isSlice ? 3 : 2
}
