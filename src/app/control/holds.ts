// Neighbours that are not read from for a while. Several parts of the control plane may hold one neighbour at a time,
// each for a reason of its own; the neighbour is read from again when the last reason has gone.
import type { Origin } from '../../core/model/values.ts'
import type { Transport } from '../../io/p2p/transport.ts'

/** Why a neighbour is held: its data waits for the disk, it has committed offences, or its checks cost too much. */
type HoldReason = 'disk' | 'offences' | 'checks'

/** The part of the transport that stops and continues the reading of one neighbour. */
type Reading = Pick<Transport, 'pause' | 'resume'>

/** The holds of one control plane. */
export class Holds {
  readonly #reading: () => Reading
  readonly #reasons = new Map<Origin, Set<HoldReason>>()
  /** The ends of holds that have one, on the monotonic clock, in milliseconds. */
  readonly #untilMs = new Map<string, { peer: Origin; reason: HoldReason; endMs: number }>()

  constructor(reading: () => Reading) {
    this.#reading = reading
  }

  /** The holds for one reason, in the form of the transport. */
  for(reason: HoldReason): Reading {
    return {
      pause: (peer) => this.#hold(peer, reason),
      resume: (peer) => this.#release(peer, reason)
    }
  }

  /** Holds a neighbour until a `tick` at or after this monotonic time. */
  holdUntil(peer: Origin, reason: HoldReason, endMs: number): void {
    this.#untilMs.set(`${reason} ${peer}`, { peer, reason, endMs })
    this.#hold(peer, reason)
  }

  /** Releases the neighbours whose time has come. */
  tick(nowMs: number): void {
    for (const [key, { peer, reason, endMs }] of this.#untilMs) {
      if (endMs > nowMs) continue
      this.#untilMs.delete(key)
      this.#release(peer, reason)
    }
  }

  /** The connection of a neighbour has ended; a new one begins without holds. */
  forget(peer: Origin): void {
    this.#reasons.delete(peer)
    for (const [key, held] of this.#untilMs) if (held.peer === peer) this.#untilMs.delete(key)
  }

  #hold(peer: Origin, reason: HoldReason): void {
    const reasons = this.#reasons.get(peer) ?? new Set()
    this.#reasons.set(peer, reasons.add(reason))
    this.#reading().pause(peer)
  }

  #release(peer: Origin, reason: HoldReason): void {
    const reasons = this.#reasons.get(peer)
    if (!reasons?.delete(reason) || reasons.size > 0) return
    this.#reasons.delete(peer)
    this.#reading().resume(peer) // may deliver frames, and so hold the neighbour again
  }
}
