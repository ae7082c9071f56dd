// The redial loop: keeps a connection to each target and dials it again, with exponential backoff, as long as it is a
// target. libp2p's keep-alive is not used because it gives up after five retries. The session sets the targets; the
// transport dials.
import { backoffMs, jittered } from '../../core/model/backoff.ts'
import { DialBudget, IMPOSTOR_COST } from '../../core/model/dial-budget.ts'
import type { Origin } from '../../core/model/values.ts'
import type { TransportLimits } from './limits.ts'
import { originOf, peerIdIn } from './origin.ts'
import { ImpostorError, unprovenOf, type Target } from './unproven.ts'

export type { Target } from './unproven.ts'

/** The state of one target, for `meshctl status`. */
export interface DialState extends Target {
  readonly state: 'connected' | 'dialling' | 'waiting'
  /** Attempts since the delay was last reset: failed dials and connections that ended soon. */
  readonly attempts: number
  /** Reason of the latest failed dial; undefined when it succeeded. */
  readonly lastError?: string
  /** Milliseconds until the next dial; 0 while connected or dialling. */
  readonly nextDialInMs: number
}

/** Given to the transport with each dial. */
export interface DialOptions {
  /** Aborted after `dialMs`, and when the target is removed or the network has changed. */
  readonly signal: AbortSignal
  /** True when the attempt before this one failed, or its connection has ended. */
  readonly hasFailed: boolean
}

interface RedialOptions {
  readonly limits: TransportLimits
  /** Resolves with the peer once it is a neighbour; rejects with the reason. */
  readonly dial: (target: Target, options: DialOptions) => Promise<Origin>
  /** Returns whether this peer is a neighbour now. */
  readonly connected: (peer: Origin) => boolean
  /** Returns a number in [0, 1), for the jitter. */
  readonly random: () => number
}

interface Entry {
  target: Target
  /** The peer that answered the latest dial, for a target without an origin. */
  answered: Origin | undefined
  attempts: number
  lastError: string | undefined
  /** Index of the address of `others` that is tried next, in a target whose budget does not suffice for all. */
  turn: number
  /** Set while an attempt runs. */
  controller: AbortController | undefined
  timer: NodeJS.Timeout | undefined
  /** When the next attempt is due, on the monotonic clock. */
  dueMs: number
  /**
   * True when the next attempt must start right after the present one: it has a new address, or the network has
   * changed.
   */
  again: boolean
}

/** The redial loop of one transport. */
export class Redialer {
  readonly #options: RedialOptions
  readonly #entries = new Map<string, Entry>()
  readonly #budget = new DialBudget()
  #stopped = false

  constructor(options: RedialOptions) {
    this.#options = options
  }

  /**
   * Replaces the targets. A new target is dialled at once. A target that stays keeps its delay, unless it has a new
   * address: then it is dialled at once. A dial to a target that is removed is aborted; a connection is kept.
   */
  setTargets(targets: readonly Target[]): void {
    const wanted = new Map(targets.map((target) => [keyOf(target), target]))
    for (const [key, entry] of this.#entries) {
      if (wanted.has(key)) continue
      this.#entries.delete(key)
      clearTimeout(entry.timer)
      entry.controller?.abort()
    }
    for (const [key, target] of wanted) {
      const entry = this.#entries.get(key)
      if (entry === undefined) this.#add(key, target)
      else this.#update(entry, target)
    }
  }

  /**
   * Schedules the next dial to a neighbour that has ended after `livedMs`. The delay keeps growing after short
   * connections, so that a peer which refuses this agent is not dialled in quick succession.
   */
  ended(peer: Origin, livedMs: number): void {
    for (const entry of this.#entries.values()) {
      if (peerOf(entry) !== peer || entry.controller !== undefined) continue
      if (livedMs >= this.#options.limits.redialResetMs) entry.attempts = 0
      this.#schedule(entry)
      entry.attempts += 1
    }
  }

  /**
   * The addresses of this host changed. Targets that are not connected are dialled now; attempts that run are aborted
   * and repeated.
   */
  hurry(): void {
    for (const entry of this.#entries.values()) {
      if (this.#connected(entry)) continue
      entry.attempts = Math.min(entry.attempts, 1)
      entry.again = true
      entry.controller?.abort()
      void this.#attempt(entry)
    }
  }

  state(): readonly DialState[] {
    return Array.from(this.#entries.values(), (entry) => {
      const connected = this.#connected(entry)
      const dialling = !connected && entry.controller !== undefined
      return {
        ...entry.target,
        state: connected ? 'connected' : dialling ? 'dialling' : 'waiting',
        attempts: entry.attempts,
        ...(entry.lastError === undefined ? {} : { lastError: entry.lastError }),
        nextDialInMs: connected || dialling ? 0 : Math.max(0, Math.ceil(entry.dueMs - performance.now()))
      } as const
    })
  }

  /** Ends the loop for good; dials that run are aborted, and connections are kept. */
  stop(): void {
    this.#stopped = true
    this.setTargets([])
  }

  #add(key: string, target: Target): void {
    const entry: Entry = {
      target,
      answered: undefined,
      attempts: 0,
      lastError: undefined,
      turn: 0,
      controller: undefined,
      timer: undefined,
      dueMs: 0,
      again: false
    }
    this.#entries.set(key, entry)
    void this.#attempt(entry)
  }

  #update(entry: Entry, target: Target): void {
    const news = target.addresses.some((address) => !entry.target.addresses.includes(address))
    entry.target = target
    if (!news) return
    entry.attempts = 0
    entry.again = true
    void this.#attempt(entry)
  }

  /**
   * Dials an entry once and schedules the next attempt when that failed. One attempt at a time runs for each entry.
   * Never rejects.
   */
  async #attempt(entry: Entry): Promise<void> {
    if (this.#stopped || entry.controller !== undefined || this.#connected(entry)) return
    clearTimeout(entry.timer)
    entry.again = false
    const { group } = entry.target
    const addresses = this.#affordable(entry)
    if (addresses.length === 0) {
      this.#schedule(entry, this.#budget.waitMs(group ?? '', performance.now()))
      return
    }
    entry.controller = new AbortController()
    try {
      entry.answered = await this.#options.dial(
        { ...entry.target, addresses },
        {
          signal: AbortSignal.any([
            entry.controller.signal,
            AbortSignal.timeout(this.#options.limits.dialMs)
          ]),
          hasFailed: entry.attempts > 0
        }
      )
      entry.lastError = undefined
    } catch (error) {
      entry.lastError = describe(error)
      if (error instanceof ImpostorError && group !== undefined)
        this.#budget.charge(group, IMPOSTOR_COST, performance.now())
    }
    entry.controller = undefined
    // Without a connection, the next attempt is scheduled below. This also covers a connection that came up and ended
    // again during the attempt, because `ended` does nothing for an entry while its attempt runs.
    if (this.#connected(entry) || !this.#held(entry)) return
    if (entry.again) {
      void this.#attempt(entry)
      return
    }
    this.#schedule(entry)
    entry.attempts += 1
  }

  /** Returns the addresses to try now: those that are proven, and as many others as the budget of the group allows. */
  #affordable(entry: Entry): readonly string[] {
    const { group, addresses } = entry.target
    if (group === undefined) return addresses
    const others = unprovenOf(entry.target)
    const granted = this.#budget.take(group, others.length, performance.now())
    const turn = Array.from(
      { length: granted },
      (_, index) => others[(entry.turn + index) % others.length] ?? ''
    )
    entry.turn = others.length === 0 ? 0 : (entry.turn + granted) % others.length
    return [...addresses.filter((address) => !others.includes(address)), ...turn]
  }

  /** Schedules the next attempt after the delay of the target, and after `leastMs` at the earliest. */
  #schedule(entry: Entry, leastMs = 0): void {
    if (this.#stopped) return
    const delayMs = Math.max(leastMs, redialDelayMs(entry.attempts, this.#options))
    clearTimeout(entry.timer)
    entry.dueMs = performance.now() + delayMs
    entry.timer = setTimeout(() => void this.#attempt(entry), delayMs)
  }

  #connected(entry: Entry): boolean {
    const peer = peerOf(entry)
    return peer !== undefined && this.#options.connected(peer)
  }

  /** False when the entry was removed, or its target replaced, while its attempt ran. */
  #held(entry: Entry): boolean {
    return !this.#stopped && this.#entries.get(keyOf(entry.target)) === entry
  }
}

/**
 * Returns the delay in milliseconds after this many attempts. It doubles from `redialMinMs` to `redialMaxMs`; the
 * result is a random value between half of it and all of it, so that the agents of a mesh do not redial at the same
 * moment.
 */
export function redialDelayMs(attempts: number, options: Pick<RedialOptions, 'limits' | 'random'>): number {
  const { redialMinMs, redialMaxMs } = options.limits
  return jittered(backoffMs(attempts, { minMs: redialMinMs, maxMs: redialMaxMs }), options.random)
}

/** Returns the peer that an entry leads to; undefined when no PeerId is known and none has answered yet. */
function peerOf(entry: Entry): Origin | undefined {
  if (entry.target.origin !== undefined) return entry.target.origin
  return (
    entry.answered ??
    entry.target.addresses.map((address) => originOf(peerIdIn(address) ?? '')).find(isDefined)
  )
}

function isDefined<T>(value: T | undefined): value is T {
  return value !== undefined
}

/** Returns the identity of a target over time: its origin, or its addresses when it has none. */
function keyOf(target: Target): string {
  return target.origin ?? [...target.addresses].sort().join(' ')
}

/** Returns the message of an error, at most 300 characters for each; libp2p throws one error for each address. */
function describe(error: unknown): string {
  if (error instanceof AggregateError) return [...new Set(error.errors.map(describe))].join('; ')
  const text = error instanceof Error ? error.message || error.name : String(error)
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}
