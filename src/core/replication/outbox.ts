// The outbox collects the effects of one call of the protocol, in the order in which the caller carries them out. All
// parts of the protocol share it and add to it, and each method of Protocol returns its content at the end. The order
// matters: a batch is persisted before it is sent (S1 of protocol.ts).
import type { Effect } from './effects.ts'
import type { Origin } from '../model/values.ts'

/** The outbox of one protocol instance. */
export class Outbox {
  #effects: Effect[] = []

  add(effect: Effect): void {
    this.#effects.push(effect)
  }

  send(to: Origin, frame: Uint8Array): void {
    this.add({ kind: 'send', to, frame })
  }

  /** Adds the effect `refused` for what may be the fault of another agent than the sender. */
  refuse(from: Origin, reason: string): void {
    this.add({ kind: 'refused', from, reason })
  }

  /**
   * Adds the effect `refused` for an offence of the sender itself: a malformed frame, or a bad signature that every
   * honest relay would have found (offences.ts).
   */
  offend(from: Origin, reason: string): void {
    this.add({ kind: 'refused', from, reason, isOffence: true })
  }

  /** Returns all effects and empties the outbox. */
  take(): readonly Effect[] {
    const effects = this.#effects
    this.#effects = []
    return effects
  }
}
