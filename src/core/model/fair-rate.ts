// Shares one rate among those that use it: each of them gets an equal share, and one that is alone gets nine tenths. A
// greedy one cannot take from the others. app/paths shares the rate of a relay among clusters with it.
// Invariants
//   1. In no window more bytes pass than the rate has for it.
//   2. Nine tenths of a window are divided equally among the users that were active in the previous window. A user gets its
//      part also when others send more than theirs. The last tenth is for new users, so the handshake with which a tunnel
//      begins is not lost.

/** Short enough that a newcomer waits for its share no longer than TCP waits for a lost packet. */
const WINDOW_MS = 250
const NEWCOMERS = 0.1

/** See the head of this file. The users are the caller's: it bounds their number. */
export class FairRate<User> {
  readonly #windowBytes: number
  #windowEndMs = -Infinity
  /** Who was active in the window before. */
  #before: ReadonlySet<User> = new Set()
  #used = new Map<User, number>()
  #newcomersBytes = 0
  #totalBytes = 0

  constructor(bytesPerSecond: number) {
    this.#windowBytes = (bytesPerSecond * WINDOW_MS) / 1000
  }

  /** Takes so many bytes for a user; false: they are above its share. `nowMs` must never decrease from call to call. */
  take(user: User, bytes: number, nowMs: number): boolean {
    if (nowMs >= this.#windowEndMs) this.#next(nowMs)
    const used = this.#used.get(user) ?? 0
    this.#used.set(user, used) // it is active, also where it gets nothing
    if (this.#totalBytes + bytes > this.#windowBytes) return false
    const isNewcomer = !this.#before.has(user)
    // A share may be smaller than one datagram, so the first one of a window passes.
    if (!this.#hasShare({ isNewcomer, used, bytes }) && (isNewcomer || used > 0)) return false
    if (isNewcomer) this.#newcomersBytes += bytes
    this.#totalBytes += bytes
    this.#used.set(user, used + bytes)
    return true
  }

  #hasShare(wanted: {
    readonly isNewcomer: boolean
    readonly used: number
    readonly bytes: number
  }): boolean {
    const regulars = this.#before.size
    if (regulars === 0) return true
    if (wanted.isNewcomer) return this.#newcomersBytes + wanted.bytes <= this.#windowBytes * NEWCOMERS
    return wanted.used + wanted.bytes <= (this.#windowBytes * (1 - NEWCOMERS)) / regulars
  }

  #next(nowMs: number): void {
    this.#before = new Set(nowMs < this.#windowEndMs + WINDOW_MS ? this.#used.keys() : [])
    this.#used = new Map()
    this.#newcomersBytes = 0
    this.#totalBytes = 0
    this.#windowEndMs = nowMs + WINDOW_MS
  }
}
