// Effects in the order in which the caller carries them out. Each part of the protocol adds to the outbox; each call of the
// protocol takes all of it.
import type { Effect } from './effects.ts'
import type { Origin } from '../model/values.ts'

export class Outbox {
  #effects: Effect[] = []

  add(effect: Effect): void {
    this.#effects.push(effect)
  }

  send(to: Origin, frame: Uint8Array): void {
    this.add({ kind: 'send', to, frame })
  }

  refuse(from: Origin, reason: string): void {
    this.add({ kind: 'refused', from, reason })
  }

  take(): readonly Effect[] {
    const effects = this.#effects
    this.#effects = []
    return effects
  }
}
