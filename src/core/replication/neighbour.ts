// The state of one connected agent, for all parts of the protocol: which heads it claims to hold, its round-trip time,
// and when it was last heard. protocol.ts makes it when the handshake has passed and drops it when the connection ends.
import { comparePositions } from './head.ts'
import type { Claim } from './pull/claim.ts'
import type { Origin } from '../model/values.ts'

/** One neighbour. All times are in milliseconds on the protocol's steady clock. */
export class Neighbour {
  readonly origin: Origin
  /**
   * What the neighbour claims to hold; an origin without a claim is one whose state is equal here, or was never told.
   */
  readonly #claims = new Map<Origin, Claim>()
  /** When each unanswered ping was sent, by its id. */
  readonly #pings = new Map<number, number>()
  #heardMs: number
  #excusedMs = -Infinity
  #rttMs: number | undefined
  #nextPing = 1
  /** True after the effect `abort` was given, so that it is given once for each silence. */
  givenUp = false
  /**
   * Origins whose batches this neighbour does not want to be pushed (Prune). Only origins that are held here are added.
   */
  readonly pruned = new Set<Origin>()
  /** Origins whose head has changed since the neighbour was last told. */
  readonly untold = new Set<Origin>()
  /** Pings in a row whose digest differed from this agent's. */
  mismatches = 0
  /** When the next ping is due, when the last one was sent, and when the neighbour last pinged this agent. */
  pingDueMs: number
  pingSentMs = -Infinity
  pingedMs = -Infinity
  /** The index at which the next slice of heads begins, and when the last slice was sent. */
  cursor = 0
  sliceMs = -Infinity

  constructor(origin: Origin, nowMs: number) {
    this.origin = origin
    this.#heardMs = nowMs
    this.pingDueMs = nowMs
  }

  get claims(): ReadonlyMap<Origin, Claim> {
    return this.#claims
  }

  /**
   * Replaces the claim for an origin. Returns false when the neighbour has claims for `claimsMax` other origins
   * already.
   */
  claim(origin: Origin, claim: Claim, claimsMax: number): boolean {
    if (!this.#claims.has(origin) && this.#claims.size >= claimsMax) return false
    this.#claims.set(origin, claim)
    return true
  }

  /** Raises the claim for an origin: the neighbour has sent this state, so it holds it or a later one. */
  claimAtLeast(origin: Origin, claim: Claim, claimsMax: number): void {
    const known = this.#claims.get(origin)
    if (!known || comparePositions(known, claim) < 0) this.claim(origin, claim, claimsMax)
  }

  /**
   * The neighbour holds the same state of this origin as this agent, so there is nothing to pull and nothing to tell.
   * No claim is kept, because that is so for nearly all origins at nearly all times.
   */
  setInStep(origin: Origin): void {
    this.#claims.delete(origin)
    this.untold.delete(origin)
  }

  /** Forgets a claim that proved to be false; nothing is pulled for it until the neighbour makes a new one. */
  unclaim(origin: Origin): void {
    this.#claims.delete(origin)
  }

  /** A frame of this neighbour has arrived. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs
    this.givenUp = false
  }

  /**
   * Does not count the silence until now, because this agent itself was stalled or the neighbour was heard by others
   * (S7).
   */
  excuse(nowMs: number): void {
    this.#excusedMs = nowMs
  }

  /** Milliseconds since the last frame, or since the last excuse. */
  silentMs(nowMs: number): number {
    return Math.max(0, nowMs - Math.max(this.#heardMs, this.#excusedMs))
  }

  /** When the last frame arrived; the time of the connection before the first one. */
  get heardMs(): number {
    return this.#heardMs
  }

  /**
   * The round-trip time in milliseconds, smoothed as TCP does (RFC 6298, alpha 1/8); undefined before the first pong.
   */
  get rttMs(): number | undefined {
    return this.#rttMs
  }

  /** Returns the id of a ping that is sent now. Of unanswered pings, the PINGS_MAX latest are remembered. */
  ping(nowMs: number): number {
    this.pingSentMs = nowMs
    const id = this.#nextPing++
    this.#pings.set(id, nowMs)
    for (const oldest of this.#pings.keys()) {
      if (this.#pings.size <= PINGS_MAX) break
      this.#pings.delete(oldest)
    }
    return id
  }

  /** Measures a round trip. A pong to an unknown or forgotten ping is ignored. */
  pong(id: number, nowMs: number): void {
    const sentMs = this.#pings.get(id)
    if (sentMs === undefined) return
    this.#pings.delete(id)
    const sample = Math.max(0, nowMs - sentMs)
    this.#rttMs = this.#rttMs === undefined ? sample : this.#rttMs + (sample - this.#rttMs) / 8
  }
}

// Pings are sent once a second, and the connection is aborted after 10 s of silence, so at most about 10 are
// unanswered.
const PINGS_MAX = 16
