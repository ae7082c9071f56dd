// What changed in a catalogue and is not published yet: of each key the last value, so that it never holds more than the catalogue.
import type { Change } from './catalog.ts'
import type { Value } from '../model/values.ts'

export class Outbox {
  readonly #values = new Map<string, Value | undefined>()

  get size(): number {
    return this.#values.size
  }

  add(changes: readonly Change[]): void {
    for (const { key, value } of changes) this.#values.set(key, value)
  }

  /** Empties it. Endpoints come before their service and go after it, so that no reader sees a service without. */
  take(): readonly Change[] {
    const changes = Array.from(this.#values, ([key, value]): Change => ({ key, value }))
    this.#values.clear()
    return changes.sort((left, right) => rankOf(left) - rankOf(right))
  }

  clear(): void {
    this.#values.clear()
  }
}

function rankOf({ key, value }: Change): number {
  const isSlice = key.startsWith('eps/')
  if (value !== undefined) return isSlice ? 0 : 1
  return isSlice ? 3 : 2
}
