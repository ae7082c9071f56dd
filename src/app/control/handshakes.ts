// The handshakes that are under way, and why the latest handshake with a member was refused. The handshake itself is
// core/trust/handshake.ts; this file gives it the time of day and sends its frames.
// This file upholds invariant 1 of control.ts: before both sides have proved their certificates, only handshake
// messages are exchanged.
import type { Crypto } from '../../core/model/crypto.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import type { TrustStore } from '../../core/trust/trust-store.ts'
import {
  createHandshake,
  type Handshake,
  type HandshakeOutcome as Verdict
} from '../../core/trust/handshake.ts'
import { monotonicMs } from '../observe/clock.ts'

// Milliseconds (10 min). A refused member is dialled again within minutes, so an older refusal belongs to a member that
// is not dialled any more.
const REFUSAL_MS = 600_000
// Number of refusals that are kept. It bounds the memory: a stranger can make any number of PeerIds.
const REFUSED_MAX = 256

/** The result of a handshake with `peer`, for the parts outside the control plane: `join` waits for it. */
export type HandshakeOutcome =
  | { readonly kind: 'accepted'; readonly peer: Origin; readonly cluster: ClusterName }
  | {
      readonly kind: 'refused'
      readonly peer: Origin
      readonly code: string
      readonly detail: string
      readonly byPeer: boolean
    }

/** The refusal of a handshake, with its reason. */
export interface HandshakeRefusal {
  /** A HandshakeCode (core/trust/handshake.ts), for example `clock` or `nameTaken`. */
  readonly code: string
  /** A text for the operator; texts of the peer are cleaned before. */
  readonly detail: string
  /** True: the peer refused this agent. False: this agent refused the peer. */
  readonly byPeer: boolean
  /** Monotonic time of the refusal, milliseconds. */
  readonly atMs: number
}

/** The facts of a connection that the transport has opened. */
export interface ConnectionInfo {
  /** True: the peer dialled this agent. */
  readonly inbound: boolean
  /**
   * Multiaddr of the peer as this host sees it: for an inbound connection the port is not the one that it listens on.
   */
  readonly address: string
}

/** The identity of this agent, and the parts that the handshakes use. */
interface HandshakesOptions {
  readonly crypto: Crypto
  readonly origin: Origin
  /** Ed25519 seed of this agent's key, 32 bytes. */
  readonly nodeSeed: Uint8Array
  readonly meshId: Uint8Array
  /** Version of this agent, which the peer shows. */
  readonly software: string
  readonly trustStore: TrustStore
  readonly send: (peer: Origin, frame: Uint8Array) => void
  /**
   * Called once for each handshake that ended, after it was removed from the list: the callee may disconnect the
   * peer.
   */
  readonly onVerdict: (peer: Origin, info: ConnectionInfo, verdict: Verdict) => void
}

/** A handshake under way, with its connection. */
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

  /**
   * Starts the handshake of a connection that the transport has opened, and sends the first frames. `chain`: the
   * encoded Chain down to this agent's certificate.
   */
  begin(peer: Origin, info: ConnectionInfo, chain: Uint8Array): void {
    const { crypto, origin, nodeSeed, meshId, software, trustStore, send } = this.#options
    const handshake = createHandshake({
      crypto,
      self: { origin, seed: nodeSeed, meshId, chain, software },
      remote: peer,
      trustStore,
      initiator: !info.inbound,
      nowMs: Date.now()
    })
    this.#met.set(peer, { handshake, info })
    for (const frame of handshake.start()) send(peer, frame)
  }

  /**
   * Takes a frame. Returns false when no handshake with this peer is under way: then the frame belongs to the
   * protocol.
   */
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

  /** Forgets the handshake of a connection that has ended. */
  end(peer: Origin): void {
    this.#met.delete(peer)
  }

  /** Forgets the refusal of a member that is accepted now. */
  accepted(peer: Origin): void {
    this.#refused.delete(peer)
  }

  /** Remembers the refusal. Of more than REFUSED_MAX peers the oldest refusals are dropped. */
  refused(peer: Origin, refusal: Omit<HandshakeRefusal, 'atMs'>): void {
    this.#refused.delete(peer) // A Map keeps the order of insertion: a new entry belongs at the end.
    this.#refused.set(peer, { ...refusal, atMs: monotonicMs() })
    for (const oldest of this.#refused.keys()) {
      if (this.#refused.size <= REFUSED_MAX) break
      this.#refused.delete(oldest)
    }
  }

  /**
   * Returns why the latest handshake with this member was refused. undefined: it was accepted, or the latest refusal
   * is older than REFUSAL_MS, or there was none.
   */
  refusal(origin: Origin): HandshakeRefusal | undefined {
    const found = this.#refused.get(origin)
    return found === undefined || monotonicMs() - found.atMs > REFUSAL_MS ? undefined : found
  }
}
