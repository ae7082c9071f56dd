// The budget before authentication: how many strangers may hold a connection, and for how long. It counts from the accepted
// socket on, so that bytes that never become a handshake are bounded too.
import type { TransportLimits } from './limits.ts'

/** The part of a socket that the budget needs. `key` names it uniquely: address and port of the remote end. */
interface InboundSocket {
  readonly key: string
  readonly host: string
  abort(error: Error): void
  onClose(listener: () => void): void
}

export class InboundBudget {
  readonly #limits: TransportLimits
  readonly #strangers = new Map<string, { host: string; deadline: NodeJS.Timeout }>()
  readonly #perHost = new Map<string, number>()

  constructor(limits: TransportLimits) {
    this.#limits = limits
  }

  get strangers(): number {
    return this.#strangers.size
  }

  /** False: over budget, refuse it. Else it is counted until it closes, is authenticated, or its time is up. */
  admit(socket: InboundSocket): boolean {
    const { unauthenticatedMax, unauthenticatedPerAddressMax, authenticationMs } = this.#limits
    const ofHost = this.#perHost.get(socket.host) ?? 0
    if (this.#strangers.size >= unauthenticatedMax || ofHost >= unauthenticatedPerAddressMax) return false
    const deadline = setTimeout(() => {
      this.release(socket.key)
      socket.abort(new Error('not authenticated in time'))
    }, authenticationMs)
    this.#strangers.set(socket.key, { host: socket.host, deadline })
    this.#perHost.set(socket.host, ofHost + 1)
    socket.onClose(() => this.release(socket.key))
    return true
  }

  /** Its stream is open and has a deadline of its own, which gives the better reason; it stays counted. */
  handOver(key: string): void {
    clearTimeout(this.#strangers.get(key)?.deadline)
  }

  /** No longer a stranger. */
  release(key: string): void {
    const stranger = this.#strangers.get(key)
    if (stranger === undefined) return
    clearTimeout(stranger.deadline)
    this.#strangers.delete(key)
    const left = (this.#perHost.get(stranger.host) ?? 1) - 1
    if (left === 0) this.#perHost.delete(stranger.host)
    else this.#perHost.set(stranger.host, left)
  }
}
