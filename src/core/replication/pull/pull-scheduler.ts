// The origins of which this agent lacks newer states, and the pulls under way. Decides when to pull; puller.ts decides from which neighbour.
// Invariants
//   Q1. At most one pull per origin is under way, at most `pullsMax` in total, and at most an even share from each neighbour, so
//       a slow neighbour does not use up the pulls of the others.
//   Q2. Every failure doubles the wait before the next attempt, so that a state that no neighbour can deliver costs little.
//   Q3. The bytes in flight of all answers of one neighbour are bounded. The answers share this window: a single answer has all
//       of it, and its part shrinks by withheld credit when others start.
import { backoffMs } from '../../model/backoff.ts'
import type { ProtocolLimits } from '../limits.ts'
import type { Choice } from './choose-peer.ts'
import type { Origin } from '../../model/values.ts'

interface Want {
  notBeforeMs: number
  failures: number
  /** The held state did not lead to the signed hash, so the whole state is pulled. */
  fromZero: boolean
  active: { readonly peer: Origin; windowBytes: number; progressMs: number; takenBytes: number } | undefined
  /** The neighbour whose answer failed last; another one is preferred. */
  avoid: Origin | undefined
}

export interface DuePull {
  readonly origin: Origin
  readonly fromZero: boolean
  readonly avoid: Origin | undefined
}

interface Load {
  pulls: number
  windowsBytes: number
}

export class PullScheduler {
  readonly #limits: ProtocolLimits
  readonly #wants = new Map<Origin, Want>()
  readonly #perPeer = new Map<Origin, Load>()
  #active = 0
  /** True when a pull may start that could not before; otherwise none can start before `#dueMs`. */
  #stirred = false
  #dueMs = Infinity

  constructor(limits: ProtocolLimits) {
    this.#limits = limits
  }

  get active(): number {
    return this.#active
  }

  want(origin: Origin, notBeforeMs: number): void {
    this.#stirred = true
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

  /** Makes the next `start` examine all wanted origins. */
  wake(): void {
    this.#stirred = true
  }

  /** The origin is up to date: forgets it and the pull under way. */
  settle(origin: Origin): void {
    this.#idle(this.#wants.get(origin))
    this.#wants.delete(origin)
  }

  /** Calls `choose` for every pull that may start now, and `ask` with the bytes that the answer may have on its way. */
  start(
    nowMs: number,
    choose: (pull: DuePull) => Choice,
    ask: (pull: DuePull, peer: Origin, windowBytes: number) => void
  ): void {
    if (!this.#stirred && nowMs < this.#dueMs) return
    this.#stirred = false
    this.#dueMs = Infinity
    for (const [origin, want] of this.#wants) {
      if (this.#active >= this.#limits.pullsMax) return // Q1
      if (want.active) continue
      if (want.notBeforeMs > nowMs) {
        this.#dueMs = Math.min(this.#dueMs, want.notBeforeMs)
        continue
      }
      const pull = { origin, fromZero: want.fromZero, avoid: want.avoid }
      const choice = choose(pull)
      if (choice === 'busy') continue
      if (choice === 'nobody') {
        if (want.failures === 0) this.#wants.delete(origin) // Q2: a failure is remembered until we are in step
        continue
      }
      const { peer } = choice
      const load = this.#perPeer.get(peer) ?? { pulls: 0, windowsBytes: 0 }
      this.#perPeer.set(peer, load)
      this.#active++
      load.pulls++
      const windowBytes = this.#windowBytes(load, 0)
      load.windowsBytes += windowBytes
      want.active = { peer, windowBytes, progressMs: nowMs, takenBytes: 0 }
      ask(pull, peer, windowBytes)
    }
  }

  isAsked(origin: Origin, peer: Origin): boolean {
    return this.#wants.get(origin)?.active?.peer === peer
  }

  isFromZero(origin: Origin): boolean {
    return this.#wants.get(origin)?.fromZero ?? false
  }

  /**
   * A part came. Answers the credit that is due for it: once for each quarter of the window, so that the line never waits. What
   * answers as versions before do (`isOld`: or this is the first part) sends all unasked, and gets credit only if it may be stuck.
   */
  progress(
    origin: Origin,
    taken: { readonly peer: Origin; readonly bytes: number; readonly nowMs: number; readonly isOld: boolean }
  ): number {
    const active = this.#wants.get(origin)?.active
    const load = this.#perPeer.get(taken.peer)
    if (!load || active?.peer !== taken.peer) return 0
    active.progressMs = taken.nowMs
    active.takenBytes += taken.bytes
    if (active.takenBytes < active.windowBytes / (taken.isOld ? 1 : 4)) return 0
    const wantedBytes = this.#windowBytes(load, active.windowBytes)
    const grownBytes = Math.max(wantedBytes - active.windowBytes, -active.takenBytes)
    const creditBytes = active.takenBytes + grownBytes
    active.windowBytes += grownBytes
    load.windowsBytes += grownBytes
    active.takenBytes = 0
    return creditBytes
  }

  /** Of one among so many neighbours: all of them together may be asked for all that is asked for at a time (Q1). */
  isBusy(peer: Origin, neighbours: number): boolean {
    return this.activeWith(peer) >= Math.ceil(this.#limits.pullsMax / Math.max(1, neighbours))
  }

  activeWith(peer: Origin): number {
    return this.#perPeer.get(peer)?.pulls ?? 0
  }

  /** An answer is complete, but a neighbour holds a newer state: pulls again. */
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
    want.notBeforeMs = options.nowMs + (firstMismatch ? 0 : backoffMs(want.failures - 1, BACKOFF)) // Q2
  }

  expire(nowMs: number): void {
    for (const [origin, { active }] of this.#wants) {
      if (!active || nowMs - active.progressMs < this.#limits.pullTimeoutMs) continue
      this.fail(origin, { peer: active.peer, nowMs, fromZero: false })
    }
  }

  /** Ends the pulls from a neighbour that has disconnected. */
  peerDown(peer: Origin): void {
    this.#stirred = true // the shares of the others have grown
    for (const want of this.#wants.values()) {
      if (want.active?.peer === peer) this.#idle(want)
    }
  }

  #idle(want: Want | undefined): void {
    if (!want?.active) return
    this.#stirred = true
    const { peer, windowBytes } = want.active
    want.active = undefined
    this.#active--
    const load = this.#perPeer.get(peer)
    if (!load) return
    load.pulls--
    load.windowsBytes -= windowBytes
    if (load.pulls === 0) this.#perPeer.delete(peer)
  }

  /** An even share of what this neighbour's answers may have on their way, as far as it is free; one part always (Q3). */
  #windowBytes(load: Load, heldBytes: number): number {
    const { windowsBytesMax, partBytes } = this.#limits
    const free = windowsBytesMax - load.windowsBytes + heldBytes
    return Math.max(partBytes, Math.min(Math.floor(windowsBytesMax / load.pulls), free))
  }
}

const BACKOFF = { minMs: 250, maxMs: 30_000 } as const
