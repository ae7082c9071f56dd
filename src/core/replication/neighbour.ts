// One connected agent: what it says it holds, how far away it is, when it was last heard.
import { comparePositions } from './head.ts'
import type { Claim } from './pull/claim.ts'
import type { Origin } from '../model/values.ts'

export class Neighbour {
  readonly origin: Origin
  readonly #claims = new Map<Origin, Claim>()
  readonly #pings = new Map<number, number>()
  #heardMs: number
  #excusedMs = -Infinity
  #rttMs: number | undefined
  #nextPing = 1
  /** An abort was asked for; say it once. */
  givenUp = false
  /** Origins whose batches it asked us not to push. Bounded by the origins of the mesh: others are not added. */
  readonly pruned = new Set<Origin>()
  /** Origins whose head has changed since it was last told. */
  readonly untold = new Set<Origin>()
  /** Pings in a row whose digest was not ours. */
  mismatches = 0
  /** When it is pinged next, when it last was, and when it last pinged us. */
  pingDueMs: number
  pingSentMs = -Infinity
  pingedMs = -Infinity
  /** Where the next slice of heads begins, and when it last got one. */
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

  /** False when it names more origins than a mesh may have. */
  claim(origin: Origin, claim: Claim, claimsMax: number): boolean {
    if (!this.#claims.has(origin) && this.#claims.size >= claimsMax) return false
    this.#claims.set(origin, claim)
    return true
  }

  /** It sent a state: so much it holds at least. */
  claimAtLeast(origin: Origin, claim: Claim, claimsMax: number): void {
    const known = this.#claims.get(origin)
    if (!known || comparePositions(known, claim) < 0) this.claim(origin, claim, claimsMax)
  }

  /** It holds what we hold: there is nothing to ask it for and nothing to tell it. Nearly all claims are of this kind. */
  setInStep(origin: Origin): void {
    this.#claims.delete(origin)
    this.untold.delete(origin)
  }

  unclaim(origin: Origin): void {
    this.#claims.delete(origin)
  }

  heard(nowMs: number): void {
    this.#heardMs = nowMs
    this.givenUp = false
  }

  /** We were stalled ourselves until now: its silence is not its fault. */
  excuse(nowMs: number): void {
    this.#excusedMs = nowMs
  }

  silentMs(nowMs: number): number {
    return Math.max(0, nowMs - Math.max(this.#heardMs, this.#excusedMs))
  }

  get heardMs(): number {
    return this.#heardMs
  }

  /** Milliseconds, smoothed as TCP does (RFC 6298, alpha 1/8). */
  get rttMs(): number | undefined {
    return this.#rttMs
  }

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

  pong(id: number, nowMs: number): void {
    const sentMs = this.#pings.get(id)
    if (sentMs === undefined) return
    this.#pings.delete(id)
    const sample = Math.max(0, nowMs - sentMs)
    this.#rttMs = this.#rttMs === undefined ? sample : this.#rttMs + (sample - this.#rttMs) / 8
  }
}

// One a second, and after ten seconds of silence the connection is given up.
const PINGS_MAX = 16
