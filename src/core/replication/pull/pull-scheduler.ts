// The origins of which this agent lacks newer states, and the pulls under way. Decides when to pull; puller.ts decides
// from which neighbour.
// Invariants
//   Q1. At most one pull per origin is under way, at most `pullsMax` in total, and at most an even share from each
//       neighbour, so a slow neighbour does not use up the pulls of the others.
//   Q2. Every failure doubles the wait before the same neighbour is asked for the same origin again (demotions.ts), so
//       that a state that no neighbour can deliver costs little, and no neighbour delays the answers of the others.
//   Q3. The bytes in flight of all answers of one neighbour are bounded. The answers share this window: a single answer
//       has all of it, and its part shrinks by withheld credit when others start.
//   Q4. A pull from a neighbour that has failed gives way to one from a neighbour that has failed less. An answer that
//       trickles counts as failed, like none.
import type { ProtocolLimits } from '../limits.ts'
import type { Choice } from './choose-peer.ts'
import { Demotions, type Standing } from './demotions.ts'
import type { Origin } from '../../model/values.ts'

/** An origin of which a newer state is wanted. */
interface Want {
  notBeforeMs: number
  /** Failed pulls in a row (Q2). */
  failures: number
  /** The held state did not lead to the signed hash, so the whole state is pulled. */
  fromZero: boolean
  /**
   * The pull under way: the bytes that its answer may have in flight, when its last part arrived, and the bytes that
   * arrived since credit was last granted.
   */
  active:
    | {
        readonly peer: Origin
        windowBytes: number
        progressMs: number
        takenBytes: number
        /** Bytes since `progressMs`. */
        trickleBytes: number
      }
    | undefined
}

/** A pull that may start. */
export interface DuePull {
  readonly origin: Origin
  readonly fromZero: boolean
}

/** The pulls under way from one neighbour, and the sum of their windows (Q3). */
interface Load {
  pulls: number
  windowsBytes: number
}

/** The scheduler of one protocol instance. Times are in milliseconds. */
export class PullScheduler {
  readonly #limits: ProtocolLimits
  readonly #wants = new Map<Origin, Want>()
  readonly #perPeer = new Map<Origin, Load>()
  readonly #demotions: Demotions
  #active = 0
  /**
   * True when something has changed since the last `start`, so that a pull may be able to start. While it is false,
   * no pull can start before `#dueMs`.
   */
  #stirred = false
  #dueMs = Infinity

  constructor(limits: ProtocolLimits) {
    this.#limits = limits
    this.#demotions = new Demotions(limits)
  }

  /** The number of pulls under way. */
  get active(): number {
    return this.#active
  }

  /**
   * Wants a newer state of an origin. The pull starts with the next `start` after `notBeforeMs`, unless all neighbours
   * that claim it have failed and must wait (Q2).
   */
  want(origin: Origin, notBeforeMs: number): void {
    this.#stirred = true
    const want = this.#wants.get(origin)
    if (!want) {
      this.#wants.set(origin, {
        notBeforeMs,
        failures: 0,
        fromZero: false,
        active: undefined
      })
    } else want.notBeforeMs = Math.min(want.notBeforeMs, notBeforeMs)
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

  /**
   * Calls `choose` for every pull that may start now, then `ask` for the chosen neighbour. `windowBytes` is the
   * number of bytes that the answer may have in flight (Q3).
   */
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
      const pull = { origin, fromZero: want.fromZero }
      const choice = choose(pull)
      if (choice === 'busy') continue
      if (choice === 'none') {
        // Q2: failures are remembered until the origin is up to date.
        if (want.failures === 0) this.#wants.delete(origin)
        continue
      }
      if ('notBeforeMs' in choice) {
        want.notBeforeMs = choice.notBeforeMs
        this.#dueMs = Math.min(this.#dueMs, want.notBeforeMs)
        continue
      }
      const { peer } = choice
      const load = this.#perPeer.get(peer) ?? { pulls: 0, windowsBytes: 0 }
      this.#perPeer.set(peer, load)
      this.#active++
      load.pulls++
      const windowBytes = this.#windowBytes(load, 0)
      load.windowsBytes += windowBytes
      want.active = { peer, windowBytes, progressMs: nowMs, takenBytes: 0, trickleBytes: 0 }
      ask(pull, peer, windowBytes)
    }
  }

  /** True when this neighbour is asked for the state of this origin. */
  isAsked(origin: Origin, peer: Origin): boolean {
    return this.#wants.get(origin)?.active?.peer === peer
  }

  /** True when the whole state of this origin is pulled. */
  isFromZero(origin: Origin): boolean {
    return this.#wants.get(origin)?.fromZero ?? false
  }

  /**
   * Takes note of a part that has arrived. Returns the bytes of credit to grant now, 0 for none. Credit is granted for
   * each quarter of the window, so that the sender never has to wait for it. With `isOld` (the first part, or an older
   * version, which needs no credit) it is granted only for a whole window.
   */
  progress(
    origin: Origin,
    taken: { readonly peer: Origin; readonly bytes: number; readonly nowMs: number; readonly isOld: boolean }
  ): number {
    const active = this.#wants.get(origin)?.active
    const load = this.#perPeer.get(taken.peer)
    if (!load || active?.peer !== taken.peer) return 0
    active.trickleBytes += taken.bytes
    if (active.trickleBytes >= this.#limits.partBytes / TRICKLE_SHARE) {
      active.progressMs = taken.nowMs
      active.trickleBytes = 0
    }
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

  /**
   * True when a neighbour has its even share of `pullsMax` under way (Q1). A demoted neighbour has one pull while there
   * are others.
   */
  isBusy(peer: Origin, neighbours: readonly Origin[], nowMs: number): boolean {
    const isDemoted = (each: Origin) => this.#demotions.isDemoted(each, nowMs)
    const share = Math.ceil(this.#limits.pullsMax / Math.max(1, neighbours.length))
    const isLast = this.activeWith(peer) > 0 && isDemoted(peer) && !neighbours.every(isDemoted)
    return isLast || this.activeWith(peer) >= share
  }

  /** How a neighbour stands for an origin, by its failures. */
  standing(peer: Origin, origin: Origin, nowMs: number): Standing {
    return this.#demotions.standing(peer, origin, nowMs)
  }

  /** A neighbour claims a newer state: the pull under way gives way when its neighbour has failed more often (Q4). */
  prefer(peer: Origin, origin: Origin, nowMs: number): void {
    const want = this.#wants.get(origin)
    if (!want?.active || want.active.peer === peer) return
    const [asked, other] = [want.active.peer, peer].map((each) => this.standing(each, origin, nowMs))
    if (!asked || !other || other.rank >= asked.rank || other.notBeforeMs > nowMs) return
    this.#demotions.putOff(want.active.peer, origin, nowMs)
    this.#idle(want)
  }

  /** An answer is complete; `isShort`: it leads to an older state than the neighbour claimed. */
  answered(
    origin: Origin,
    answer: { readonly peer: Origin; readonly isShort: boolean; readonly nowMs: number }
  ): void {
    if (answer.isShort) this.#demotions.failed(answer.peer, origin, answer.nowMs)
    else this.#demotions.delivered(answer.peer, origin)
  }

  /** The number of pulls under way from this neighbour. */
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

  /**
   * A pull has failed. The next attempt asks another neighbour, or waits (Q2). With `fromZero` for the first time, it
   * may ask the same neighbour at once for the whole state, because the fault may be in the state that is held here.
   */
  fail(origin: Origin, options: { peer: Origin; nowMs: number; fromZero: boolean }): void {
    this.want(origin, options.nowMs)
    const want = this.#wants.get(origin)
    if (!want || (want.active && want.active.peer !== options.peer)) return
    this.#idle(want)
    want.failures++
    const firstMismatch = options.fromZero && !want.fromZero
    want.fromZero ||= options.fromZero
    want.notBeforeMs = options.nowMs
    if (!firstMismatch) this.#demotions.failed(options.peer, origin, options.nowMs)
  }

  /** Fails all pulls of which no part arrived for `pullTimeoutMs`. */
  expire(nowMs: number): void {
    for (const [origin, { active }] of this.#wants) {
      if (!active || nowMs - active.progressMs < this.#limits.pullTimeoutMs) continue
      this.fail(origin, { peer: active.peer, nowMs, fromZero: false })
    }
  }

  /** Ends the pulls from a neighbour that has disconnected; they have failed. */
  peerDown(peer: Origin, nowMs: number): void {
    this.#stirred = true // the shares of the others have grown
    for (const [origin, want] of this.#wants) {
      if (want.active?.peer !== peer) continue
      this.#demotions.failed(peer, origin, nowMs)
      this.#idle(want)
    }
  }

  /** Ends the pull under way, if there is one, and frees its share of the window. */
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

  /** Returns an even share of the neighbour's window as far as it is free, but one part at least (Q3). */
  #windowBytes(load: Load, heldBytes: number): number {
    const { windowsBytesMax, partBytes } = this.#limits
    const free = windowsBytesMax - load.windowsBytes + heldBytes
    return Math.max(partBytes, Math.min(Math.floor(windowsBytesMax / load.pulls), free))
  }
}

// Every part but the last has nearly `partBytes`, so an honest answer brings a quarter of that with each part or two.
const TRICKLE_SHARE = 4
