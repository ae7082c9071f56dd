// The neighbours of this agent: the members whose control connection has passed the handshake. control.ts adds and
// removes them.
import type { Origin } from '../../core/model/values.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { ConnectionInfo } from './handshakes.ts'

/** A neighbour with its connection. */
export interface Neighbour extends ConnectionInfo {
  readonly origin: Origin
  /** The last measured round trip of a ping in milliseconds; undefined before the first pong. */
  readonly rttMs: number | undefined
  /** Monotonic time of its last frame, in ms. */
  readonly heardMs: number | undefined
  /** Seconds by which its clock is ahead of this host's; below 0: behind. */
  readonly skewSeconds: number
}

/** The set of neighbours, and the time since when it has not been empty, or has been empty. */
export class Neighbourhood {
  readonly #members = new Map<Origin, ConnectionInfo>()
  readonly #skews = new Map<Origin, { readonly seconds: number; readonly stepMs: number }>()
  /** Monotonic time, in ms, since when there has been at least one neighbour; undefined when there is none. */
  #connectedMs: number | undefined
  // Monotonic time of the start, or of the end of the latest neighbour. It counts while there is no neighbour.
  #aloneMs = monotonicMs()

  get size(): number {
    return this.#members.size
  }

  /** Returns the neighbour; undefined when this origin is none. */
  get(origin: Origin): Omit<Neighbour, 'rttMs' | 'heardMs'> | undefined {
    const info = this.#members.get(origin)
    return info && { origin, ...info, skewSeconds: this.#skewOf(origin) }
  }

  origins(): readonly Origin[] {
    return [...this.#members.keys()]
  }

  /** How far the clock of each neighbour is ahead of this host's, in seconds. */
  skews(): ReadonlyMap<Origin, number> {
    return new Map([...this.#skews.keys()].map((origin) => [origin, this.#skewOf(origin)]))
  }

  /** As at the handshake, less what this host's clock was stepped since. */
  #skewOf(origin: Origin): number {
    const { seconds, stepMs } = this.#skews.get(origin) ?? { seconds: 0, stepMs: clockStepMs() }
    return seconds - Math.round((clockStepMs() - stepMs) / 1000)
  }

  /** Adds a neighbour, or replaces the connection of a known one. */
  add(origin: Origin, info: ConnectionInfo, skewSeconds: number): void {
    this.#connectedMs ??= monotonicMs()
    this.#skews.set(origin, { seconds: skewSeconds, stepMs: clockStepMs() })
    this.#members.set(origin, info)
  }

  /**
   * Removes a neighbour. Returns false when the origin was none: its connection ended before or during the handshake.
   */
  remove(origin: Origin): boolean {
    this.#skews.delete(origin)
    if (!this.#members.delete(origin)) return false
    if (this.#members.size === 0) {
      this.#connectedMs = undefined
      this.#aloneMs = monotonicMs()
    }
    return true
  }

  /**
   * Returns the milliseconds since a neighbour was last known to have the latest records of this agent (`heldMs`, monotonic),
   * counted from the first neighbour at the earliest; 0 without neighbours.
   */
  unheldMs(heldMs = -Infinity): number {
    const since = this.#connectedMs
    return since === undefined ? 0 : monotonicMs() - Math.max(since, heldMs)
  }

  /**
   * Milliseconds without any neighbour, counted from the start of the agent at the earliest; 0 while there is one.
   */
  aloneMs(): number {
    return this.#members.size > 0 ? 0 : monotonicMs() - this.#aloneMs
  }
}

/** The time of day less the monotonic time, in milliseconds. A difference of two of these is what the clock was stepped. */
function clockStepMs(): number {
  return Date.now() - monotonicMs()
}
