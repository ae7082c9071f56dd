// Bounds the inbound connections that are not authenticated yet ("strangers"), in number and in time, so that hosts
// outside the mesh cannot use up sockets and memory. A connection counts from the accepted socket on, so that peers
// which never begin a handshake are bounded, too. transport.ts asks it for each accepted socket.
import type { TransportLimits } from './limits.ts'

/** The part of a socket that the budget needs. */
interface InboundSocket {
  /** Address and port of the remote end, which name the socket uniquely (`socketKey`). */
  readonly key: string
  /** IPv4 address or /64 of the remote end (`hostOf`). */
  readonly host: string
  abort(error: Error): void
  onClose(listener: () => void): void
}

/** The strangers of one transport. */
export class InboundBudget {
  readonly #limits: TransportLimits
  readonly #strangers = new Map<string, { host: string; deadline: NodeJS.Timeout }>()
  readonly #perHost = new Map<string, number>()

  constructor(limits: TransportLimits) {
    this.#limits = limits
  }

  /** The number of inbound connections that are not authenticated. */
  get strangers(): number {
    return this.#strangers.size
  }

  /**
   * Returns false when the limit in all or of this host is reached; the caller then refuses the socket. Otherwise the
   * socket counts until it closes, is authenticated (`release`), or is aborted after `authenticationMs`.
   */
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

  /**
   * Ends the deadline, and the socket still counts. Called when its stream is open: the stream has the same deadline
   * (neighbours.ts), which ends it with a more exact reason.
   */
  handOver(key: string): void {
    clearTimeout(this.#strangers.get(key)?.deadline)
  }

  /**
   * The socket counts no more: it has closed, or its peer is authenticated. Further calls for the same key do nothing.
   */
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
