// Bounds what one cluster can make this agent send to addresses at which none of its members has answered yet. A member
// chooses its outer addresses freely, so each of them may be that of a third party. The time is an argument.
// Invariant: within any t seconds, a group gets at most DIAL_BURST + t × DIALS_PER_SECOND attempts.

/**
 * Attempts that a group has at first, and the most that it can save up: three gateways with two addresses each are tried
 * at once.
 */
export const DIAL_BURST = 6
/**
 * Attempts per second after that. One attempt is one SYN (io/p2p/reach.ts), so dials stay below half a packet per
 * second; the handshakes of WireGuard (core/host/handshake-slots.ts) take what is left of one.
 */
export const DIALS_PER_SECOND = 0.4
/**
 * Further attempts that an address costs where something answers that is not the member: the connection and its end are
 * about ten packets.
 */
export const IMPOSTOR_COST = 10

// Each cluster of a mesh is a group. A group that has saved up all its attempts is forgotten.
const GROUPS_MAX = 1024

/** The attempts that are left to each group. A group is the name of a cluster. */
export class DialBudget {
  readonly #groups = new Map<string, { left: number; atMs: number }>()

  /** Takes up to `wanted` attempts. Returns the number of those that are granted; 0: wait for `waitMs`. */
  take(group: string, wanted: number, nowMs: number): number {
    const account = this.#at(group, nowMs)
    const granted = Math.max(0, Math.min(wanted, Math.floor(account.left)))
    account.left -= granted
    return granted
  }

  /** Charges attempts that were not asked for, so that the group has to wait longer. */
  charge(group: string, attempts: number, nowMs: number): void {
    this.#at(group, nowMs).left -= attempts
  }

  /** Returns the milliseconds until the group has an attempt again. */
  waitMs(group: string, nowMs: number): number {
    return Math.max(0, ((1 - this.#at(group, nowMs).left) / DIALS_PER_SECOND) * 1000)
  }

  #at(group: string, nowMs: number): { left: number; atMs: number } {
    const account = this.#groups.get(group) ?? { left: DIAL_BURST, atMs: nowMs }
    const earned = (Math.max(0, nowMs - account.atMs) / 1000) * DIALS_PER_SECOND
    account.left = Math.min(DIAL_BURST, account.left + earned)
    account.atMs = nowMs
    if (!this.#groups.has(group) && this.#groups.size >= GROUPS_MAX) this.#forget(nowMs)
    this.#groups.set(group, account)
    return account
  }

  #forget(nowMs: number): void {
    for (const [group, { left, atMs }] of this.#groups)
      if (left + ((nowMs - atMs) / 1000) * DIALS_PER_SECOND >= DIAL_BURST) this.#groups.delete(group)
  }
}
