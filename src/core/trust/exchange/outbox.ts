// Collects the effects of one call, in the order in which the caller carries them out.
import type { Origin } from '../../model/values.ts'
import type { ExchangeEffect } from './effects.ts'

/** The outbox of one exchange. */
export class Outbox {
  #effects: ExchangeEffect[] = []

  add(effect: ExchangeEffect): void {
    this.#effects.push(effect)
  }

  send(to: Origin, frame: Uint8Array): void {
    this.add({ kind: 'send', to, frame })
  }

  /** Counts something that is no fault of the neighbour. */
  refuse(peer: Origin, reason: string): void {
    this.add({ kind: 'refused', peer, reason })
  }

  /** Reports what no honest agent sends. */
  blame(peer: Origin, reason: string): void {
    this.add({ kind: 'offence', peer, reason })
  }

  /** Returns all effects and empties the outbox. */
  take(): readonly ExchangeEffect[] {
    const effects = this.#effects
    this.#effects = []
    return effects
  }
}
