// The handshakes that are under way, and why the latest one with a member was refused.
// Invariant 1 of control.ts: before both sides have proved their certificates, only handshake messages are exchanged.
import type { Crypto } from '../../core/model/crypto.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import type { Book } from '../../core/trust/book.ts'
import {
  createHandshake,
  type Handshake,
  type HandshakeOutcome as Verdict
} from '../../core/trust/handshake.ts'
import { monotonicMs } from '../observe/clock.ts'

// Handshakes are tried again within minutes; a member that is not dialled any more leaves no reason behind.
const REFUSAL_MS = 600_000
const REFUSED_MAX = 256

export type HandshakeOutcome =
  | { readonly kind: 'accepted'; readonly peer: Origin; readonly cluster: ClusterName }
  | {
      readonly kind: 'refused'
      readonly peer: Origin
      readonly code: string
      readonly detail: string
      readonly byPeer: boolean
    }

export interface HandshakeRefusal {
  readonly code: string
  readonly detail: string
  readonly byPeer: boolean
  /** Monotonic. */
  readonly atMs: number
}

export interface ConnectionInfo {
  readonly inbound: boolean
  /** Multiaddr of the peer. */
  readonly address: string
}

export interface HandshakesOptions {
  readonly crypto: Crypto
  readonly origin: Origin
  readonly nodeSeed: Uint8Array
  readonly meshId: Uint8Array
  readonly software: string
  readonly book: Book
  readonly send: (peer: Origin, frame: Uint8Array) => void
  readonly onVerdict: (peer: Origin, info: ConnectionInfo, verdict: Verdict) => void
}

interface Met {
  readonly handshake: Handshake
  readonly info: ConnectionInfo
}

/** The handshakes in progress, and for REFUSAL_MS the reason of each member's latest refusal. */
export class Handshakes {
  readonly #options: HandshakesOptions
  readonly #met = new Map<Origin, Met>()
  readonly #refused = new Map<Origin, HandshakeRefusal>()

  constructor(options: HandshakesOptions) {
    this.#options = options
  }

  /** `chain`: the encoded Chain down to this agent's certificate. */
  begin(peer: Origin, info: ConnectionInfo, chain: Uint8Array): void {
    const { crypto, origin, nodeSeed, meshId, software, book, send } = this.#options
    const handshake = createHandshake({
      crypto,
      self: { origin, seed: nodeSeed, meshId, chain, software },
      remote: peer,
      book,
      initiator: !info.inbound,
      nowMs: Date.now()
    })
    this.#met.set(peer, { handshake, info })
    for (const frame of handshake.start()) send(peer, frame)
  }

  /** False: no handshake with this peer is under way, so the frame is one of the protocol. */
  receive(peer: Origin, frame: Uint8Array): boolean {
    const met = this.#met.get(peer)
    if (met === undefined) return false
    const { send: replies, outcome } = met.handshake.receive(frame, Date.now())
    for (const reply of replies) this.#options.send(peer, reply)
    if (outcome === undefined) return true
    this.#met.delete(peer)
    this.#options.onVerdict(peer, met.info, outcome)
    return true
  }

  /** The connection has ended. */
  end(peer: Origin): void {
    this.#met.delete(peer)
  }

  accepted(peer: Origin): void {
    this.#refused.delete(peer)
  }

  refused(peer: Origin, refusal: Omit<HandshakeRefusal, 'atMs'>): void {
    this.#refused.delete(peer) // so that the oldest stands first
    this.#refused.set(peer, { ...refusal, atMs: monotonicMs() })
    for (const oldest of this.#refused.keys()) {
      if (this.#refused.size <= REFUSED_MAX) break
      this.#refused.delete(oldest)
    }
  }

  /** Why the latest handshake with this member ended; undefined: it was accepted, or there was none lately. */
  refusal(origin: Origin): HandshakeRefusal | undefined {
    const found = this.#refused.get(origin)
    return found === undefined || monotonicMs() - found.atMs > REFUSAL_MS ? undefined : found
  }
}
