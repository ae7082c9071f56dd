// Which origins we are behind on, and whom we have asked. Decides when; the protocol knows whom and what.
// Invariants
//   Q1. At most one pull per origin is under way, and at most `pullsMax` in all.
//   Q3. What all answers together may have on their way is bounded; each gets credit for what of it was taken.
//   Q2. Every failure doubles the wait before the next attempt, so that a state nobody can deliver costs little.
import type { ProtocolLimits } from './limits.ts'
import type { Origin } from './model.ts'

interface Want {
  notBeforeMs: number
  failures: number
  /** The state held did not lead to the signed hash: ask for everything. */
  fromZero: boolean
  active:
    | { readonly peer: Origin; readonly windowBytes: number; progressMs: number; takenBytes: number }
    | undefined
  /** The last one that failed; another is asked if there is one. */
  avoid: Origin | undefined
}

export interface DuePull {
  /** Bytes that its answer may have on its way. */
  readonly windowBytes: number
  readonly origin: Origin
  readonly fromZero: boolean
  readonly avoid: Origin | undefined
}

export class Pulls {
  readonly #limits: ProtocolLimits
  readonly #wants = new Map<Origin, Want>()
  readonly #perPeer = new Map<Origin, number>()
  #active = 0
  #windowsBytes = 0

  constructor(limits: ProtocolLimits) {
    this.#limits = limits
  }

  get active(): number {
    return this.#active
  }

  want(origin: Origin, notBeforeMs: number): void {
    const want = this.#wants.get(origin)
    if (!want) {
      this.#wants.set(origin, {
        notBeforeMs,
        failures: 0,
        fromZero: false,
        active: undefined,
        avoid: undefined
      })
    } else if (want.failures === 0) want.notBeforeMs = Math.min(want.notBeforeMs, notBeforeMs)
  }

  /** In step: whatever is under way does not matter any more. */
  settle(origin: Origin): void {
    this.#idle(this.#wants.get(origin))
    this.#wants.delete(origin)
  }

  /** Calls `ask` for every pull that may start now; it answers whom it asked, or undefined when nobody has it. */
  start(nowMs: number, ask: (pull: DuePull) => Origin | undefined): void {
    for (const [origin, want] of this.#wants) {
      if (this.#active >= this.#limits.pullsMax) return // Q1
      if (want.active || want.notBeforeMs > nowMs) continue
      const windowBytes = this.#windowBytes()
      const peer = ask({ origin, fromZero: want.fromZero, avoid: want.avoid, windowBytes })
      if (peer === undefined) {
        if (want.failures === 0) this.#wants.delete(origin) // Q2: a failure is remembered until we are in step
        continue
      }
      want.active = { peer, windowBytes, progressMs: nowMs, takenBytes: 0 }
      this.#active++
      this.#windowsBytes += windowBytes
      this.#perPeer.set(peer, this.activeWith(peer) + 1)
    }
  }

  isAsked(origin: Origin, peer: Origin): boolean {
    return this.#wants.get(origin)?.active?.peer === peer
  }

  isFromZero(origin: Origin): boolean {
    return this.#wants.get(origin)?.fromZero ?? false
  }

  /** A part came. Answers the credit that is due for it: once for every half of the window. */
  progress(origin: Origin, taken: { peer: Origin; bytes: number; nowMs: number }): number {
    const active = this.#wants.get(origin)?.active
    if (active?.peer !== taken.peer) return 0
    active.progressMs = taken.nowMs
    active.takenBytes += taken.bytes
    if (active.takenBytes < active.windowBytes / 2) return 0
    const creditBytes = active.takenBytes
    active.takenBytes = 0
    return creditBytes
  }

  activeWith(peer: Origin): number {
    return this.#perPeer.get(peer) ?? 0
  }

  /** The answer came but there is more to want. */
  again(origin: Origin, peer: Origin): void {
    const want = this.#wants.get(origin)
    if (want?.active?.peer !== peer) return
    this.#idle(want)
    want.failures = 0
    want.fromZero = false
  }

  /** `fromZero`: with the same peer, for the whole state, since the fault may be in ours. */
  fail(origin: Origin, options: { peer: Origin; nowMs: number; fromZero: boolean }): void {
    this.want(origin, options.nowMs)
    const want = this.#wants.get(origin)
    if (!want || (want.active && want.active.peer !== options.peer)) return
    this.#idle(want)
    want.failures++
    const firstMismatch = options.fromZero && !want.fromZero
    want.fromZero ||= options.fromZero
    want.avoid = firstMismatch ? undefined : options.peer
    want.notBeforeMs = options.nowMs + (firstMismatch ? 0 : backoffMs(want.failures)) // Q2
  }

  expire(nowMs: number): void {
    for (const [origin, { active }] of this.#wants) {
      if (!active || nowMs - active.progressMs < this.#limits.pullTimeoutMs) continue
      this.fail(origin, { peer: active.peer, nowMs, fromZero: false })
    }
  }

  /** Its answers will not come. */
  peerDown(peer: Origin): void {
    for (const want of this.#wants.values()) {
      if (want.active?.peer === peer) this.#idle(want)
    }
  }

  #idle(want: Want | undefined): void {
    if (!want?.active) return
    const { peer, windowBytes } = want.active
    want.active = undefined
    this.#active--
    this.#windowsBytes -= windowBytes
    const left = this.activeWith(peer) - 1
    if (left > 0) this.#perPeer.set(peer, left)
    else this.#perPeer.delete(peer)
  }

  /** Half of what is free, so that many at once come near the bound and never far beyond it. */
  #windowBytes(): number {
    const { windowBytes, windowsBytesMax, partBytes } = this.#limits
    const free = Math.max(0, windowsBytesMax - this.#windowsBytes)
    return Math.max(partBytes, Math.min(windowBytes, Math.floor(free / 2))) // Q3
  }
}

const BACKOFF_FIRST_MS = 250
const BACKOFF_MAX_MS = 30_000

function backoffMs(failures: number): number {
  return Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** (failures - 1))
}
