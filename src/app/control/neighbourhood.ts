// The neighbours are the members whose control connection has passed the handshake.
import type { Origin } from '../../core/model/values.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { ConnectionInfo } from './handshakes.ts'

export interface Neighbour extends ConnectionInfo {
  readonly origin: Origin
  /** The last measured round trip, milliseconds. */
  readonly rttMs: number | undefined
}

export class Neighbourhood {
  readonly #members = new Map<Origin, ConnectionInfo>()
  /** Monotonic time, in ms, since when there has been at least one neighbour; undefined when there is none. */
  #connectedMs: number | undefined
  #aloneMs = monotonicMs()

  get size(): number {
    return this.#members.size
  }

  get(origin: Origin): (ConnectionInfo & { readonly origin: Origin }) | undefined {
    const info = this.#members.get(origin)
    return info && { origin, ...info }
  }

  origins(): readonly Origin[] {
    return [...this.#members.keys()]
  }

  add(origin: Origin, info: ConnectionInfo): void {
    this.#connectedMs ??= monotonicMs()
    this.#members.set(origin, info)
  }

  /** Returns whether it was a neighbour. */
  remove(origin: Origin): boolean {
    if (!this.#members.delete(origin)) return false
    if (this.#members.size === 0) {
      this.#connectedMs = undefined
      this.#aloneMs = monotonicMs()
    }
    return true
  }

  /** Monotonic; undefined: there is no neighbour. */
  get connectedMs(): number | undefined {
    return this.#connectedMs
  }

  /** Milliseconds without any control connection. */
  aloneMs(): number {
    return this.#members.size > 0 ? 0 : monotonicMs() - this.#aloneMs
  }
}
