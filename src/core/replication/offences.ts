// What follows from offences. An offence is a frame that no honest agent sends, not even as a relay: a malformed one, or
// one with a signature that every relay would have found to be bad. The caller (app/control/offenders.ts) notes each
// offence and carries out the verdict. Pure: times go in, verdicts come out.
// Invariants
//   O1. A neighbour is banned by its own offences only, and only when it commits more than OFFENCES_MAX of them within
//       about a minute.
//   O2. A ban lasts BAN_MIN_MS at first and twice as long each further time, but never longer than BAN_MAX_MS.
//   O3. A ban leaves at least KEPT_MIN connected neighbours that this agent would keep. When it would not, the offender
//       is spared: it stays connected, and is read only slowly. So no number of attackers cuts this agent off.
//   O4. Good behaviour for FORGOTTEN_MS after the end of a ban makes the next ban as short as the first one.
//   O5. Memory is bounded: at most OFFENDERS_MAX agents are remembered, those that are banned last of all forgotten.
import type { Origin } from '../model/values.ts'

/**
 * What to do with an offender. `noted`: nothing yet. `banned`: end the connection, and accept none for `ms`. `spared`:
 * read nothing from it for `ms`.
 */
type OffenceVerdict = { readonly kind: 'noted' } | { readonly kind: 'banned' | 'spared'; readonly ms: number }

/** One agent that has committed offences. Times are in milliseconds on a monotonic clock. */
interface Offender {
  /** The offences of the last minute: each counts one, and OFFENCES_PER_MS of them are forgotten. */
  points: number
  atMs: number
  /** Bans since the last forgotten one (O4). */
  bans: number
  /** The end of the latest ban; -Infinity before the first one. */
  bannedUntilMs: number
  /** True until the end of the ban was told by `ended`. */
  isBanned: boolean
}

/** The offenders that one agent knows. */
export class Offences {
  readonly #offenders = new Map<Origin, Offender>()

  /** Notes an offence of `peer`. `neighbours`: all connected members, `peer` among them. */
  note(peer: Origin, neighbours: readonly Origin[], nowMs: number): OffenceVerdict {
    const offender = this.#of(peer, nowMs)
    offender.points = Math.min(OFFENCES_MAX + 1, this.#points(peer, nowMs) + 1)
    offender.atMs = nowMs
    if (offender.points <= OFFENCES_MAX) return { kind: 'noted' } // O1
    const kept = neighbours.filter((other) => other !== peer && this.#isKept(other, nowMs))
    if (kept.length < KEPT_MIN) return { kind: 'spared', ms: SPARED_MS } // O3
    if (nowMs - offender.bannedUntilMs >= FORGOTTEN_MS) offender.bans = 0 // O4
    const ms = Math.min(BAN_MAX_MS, BAN_MIN_MS * 2 ** offender.bans) // O2
    Object.assign(offender, { points: 0, bans: offender.bans + 1, bannedUntilMs: nowMs + ms, isBanned: true })
    return { kind: 'banned', ms }
  }

  isBanned(peer: Origin, nowMs: number): boolean {
    return (this.#offenders.get(peer)?.bannedUntilMs ?? -Infinity) > nowMs
  }

  /** The number of agents that are banned. */
  banned(nowMs: number): number {
    return [...this.#offenders.keys()].filter((peer) => this.isBanned(peer, nowMs)).length
  }

  /** Returns each agent whose ban has ended since the last call, once. */
  ended(nowMs: number): readonly Origin[] {
    const ended: Origin[] = []
    for (const [peer, offender] of this.#offenders) {
      if (!offender.isBanned || offender.bannedUntilMs > nowMs) continue
      offender.isBanned = false
      ended.push(peer)
    }
    return ended
  }

  /** True for a neighbour that is far from being banned. */
  #isKept(peer: Origin, nowMs: number): boolean {
    return !this.isBanned(peer, nowMs) && this.#points(peer, nowMs) < OFFENCES_MAX / 3
  }

  #points(peer: Origin, nowMs: number): number {
    const offender = this.#offenders.get(peer)
    return offender ? Math.max(0, offender.points - (nowMs - offender.atMs) * OFFENCES_PER_MS) : 0
  }

  #of(peer: Origin, nowMs: number): Offender {
    const known = this.#offenders.get(peer)
    if (known) return known
    if (this.#offenders.size >= OFFENDERS_MAX) this.#forgetOne(nowMs) // O5
    const offender = { points: 0, atMs: nowMs, bans: 0, bannedUntilMs: -Infinity, isBanned: false }
    this.#offenders.set(peer, offender)
    return offender
  }

  /** Forgets the offender that matters least: not banned before banned ones, then the one with the oldest offence. */
  #forgetOne(nowMs: number): void {
    const rank = ([peer, { atMs }]: [Origin, Offender]) => (this.isBanned(peer, nowMs) ? 2 ** 53 : 0) + atMs
    const [least] = [...this.#offenders].reduce((one, other) => (rank(other) < rank(one) ? other : one))
    this.#offenders.delete(least)
  }
}

// Offences that are forgiven at once, and the pace at which they are forgotten: all of them within a minute. A fault in
// one program may cause a few bad frames; a flood causes thousands each second.
const OFFENCES_MAX = 30
const OFFENCES_PER_MS = OFFENCES_MAX / 60_000
// With two neighbours, this agent still gets every change when one of them holds something back.
const KEPT_MIN = 2
const BAN_MIN_MS = 10_000
const BAN_MAX_MS = 600_000
const FORGOTTEN_MS = 600_000
// A spared neighbour may send one bad frame in this time, as many as are forgotten.
const SPARED_MS = 1 / OFFENCES_PER_MS
// As many as agents of one hostile cluster could be connected here (connectionsMax of io/p2p/limits.ts is 2,048).
const OFFENDERS_MAX = 2048
