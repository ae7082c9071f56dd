// The handshakes that are under way, and why the latest handshake with a member was refused. The handshake itself is
// core/trust/door; this file gives it the time of day and sends its frames.
// This file upholds invariant 1 of control.ts: before both sides have proved their certificates, only handshake
// messages are exchanged. A newcomer knocks at one member at a time, so that it is not admitted twice without need.
import type { Crypto } from '../../core/model/crypto.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import { createHandshake, type Handshake, type HandshakeSelf } from '../../core/trust/door/handshake.ts'
import type {
  Answer,
  DoorPort,
  GatewayAnswer,
  HandshakeOutcome as Verdict
} from '../../core/trust/door/port.ts'
import { monotonicMs } from '../observe/clock.ts'

// Milliseconds (10 min). A refused member is dialled again within minutes, so an older refusal belongs to a member that
// is not dialled any more.
const REFUSAL_MS = 600_000
// Number of refusals that are kept. It bounds the memory: a stranger can make any number of PeerIds.
const REFUSED_MAX = 256

/** The result of a handshake with `peer`, for the parts outside the control plane: `join` waits for it. */
export type HandshakeOutcome =
  /** The peer is told records: it stands, and so does this agent in the eyes of the peer. */
  | { readonly kind: 'accepted'; readonly peer: Origin; readonly cluster: ClusterName }
  | {
      readonly kind: 'refused'
      readonly peer: Origin
      readonly code: string
      readonly detail: string
      readonly byPeer: boolean
      /** True when the peer had proved before that it is a member of this mesh. */
      readonly proved: boolean
    }

/** The refusal of a handshake, with its reason. */
export interface HandshakeRefusal {
  /** A HandshakeCode (core/trust/door/codes.ts), for example `clock` or `nameTaken`. */
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
  readonly door: DoorPort
  /** What this agent shows of itself now. */
  readonly shows: () => HandshakeSelf['shows']
  readonly send: (peer: Origin, frame: Uint8Array) => void
  /**
   * Called once for each handshake that ended or waits for a decision. One that ended was removed from the list before:
   * the callee may disconnect the peer.
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
  /** Connections of a newcomer that wait until the knock before has been answered, or its connection has ended. */
  readonly #queue = new Map<Origin, ConnectionInfo>()
  #knocking: Origin | undefined

  constructor(options: HandshakesOptions) {
    this.#options = options
  }

  /** Starts the handshake of a connection that the transport has opened, and sends the first frames. */
  begin(peer: Origin, info: ConnectionInfo): void {
    const shows = this.#options.shows()
    if (shows.kind === 'newcomer' && !info.inbound) {
      if (this.#knocking !== undefined && this.#knocking !== peer) return void this.#queue.set(peer, info)
      this.#knocking = peer
    }
    this.#start(peer, info, shows)
  }

  #start(peer: Origin, info: ConnectionInfo, shows: HandshakeSelf['shows']): void {
    const { crypto, origin, nodeSeed, meshId, software, door, send } = this.#options
    const handshake = createHandshake({
      crypto,
      self: { origin, seed: nodeSeed, meshId, software, shows },
      remote: peer,
      door,
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
    if (met === undefined) return this.#queue.has(peer)
    const { send: replies, outcome } = met.handshake.receive(frame, Date.now())
    for (const reply of replies) this.#options.send(peer, reply)
    if (outcome === undefined) return true
    if (outcome.kind !== 'knock' && outcome.kind !== 'gatewayKnock') this.#ended(peer)
    this.#options.onVerdict(peer, met.info, outcome)
    return true
  }

  /** Answers a knock. After an admission the newcomer begins again, as a member; a refusal is the caller's to end. */
  answer(peer: Origin, answer: Answer | GatewayAnswer): void {
    const met = this.#met.get(peer)
    if (met === undefined) return // The connection has ended while the sponsor decided.
    for (const reply of met.handshake.answer(answer).send) this.#options.send(peer, reply)
    this.#met.delete(peer)
    if (answer.kind === 'admitted') this.begin(peer, met.info)
  }

  /** Forgets the handshake of a connection that has ended. */
  end(peer: Origin): void {
    this.#queue.delete(peer)
    this.#ended(peer)
  }

  /** Of a newcomer, the next connection may knock now. */
  #ended(peer: Origin): void {
    this.#met.delete(peer)
    if (this.#knocking !== peer) return
    this.#knocking = undefined
    const [next] = this.#queue
    if (next === undefined) return
    this.#queue.delete(next[0])
    // Not at once: the outcome that has just come may make this agent a member.
    setImmediate(() => this.begin(...next))
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
