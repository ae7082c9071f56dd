// Whom to keep a connection to. libp2p's own keep-alive gives up after five retries, so this loop is ours: it never does.
import { backoffMs, jittered } from '../../core/model/backoff.ts'
import type { Origin } from '../../core/model/values.ts'
import type { TransportLimits } from './limits.ts'
import { originOf, peerIdIn } from './origin.ts'

export interface Target {
  /** Undefined: whoever answers at these addresses (a bootstrap address without a PeerId). */
  readonly origin?: Origin | undefined
  /** Multiaddrs, best first; may end in /p2p/<PeerId>. */
  readonly addresses: readonly string[]
}

export interface DialState extends Target {
  readonly state: 'connected' | 'dialling' | 'waiting'
  /** Failures in a row. */
  readonly attempts: number
  readonly lastError?: string
  /** 0 while connected or dialling. */
  readonly nextDialInMs: number
}

export interface DialOptions {
  readonly signal: AbortSignal
  /** The attempt before this one failed. */
  readonly hasFailed: boolean
}

interface RedialOptions {
  readonly limits: TransportLimits
  /** Resolves with the peer once it is a neighbour; rejects with the reason. */
  readonly dial: (target: Target, options: DialOptions) => Promise<Origin>
  readonly connected: (peer: Origin) => boolean
  /** In [0, 1). */
  readonly random: () => number
}

interface Entry {
  target: Target
  /** Who answered last time, for targets without an origin. */
  answered: Origin | undefined
  attempts: number
  lastError: string | undefined
  controller: AbortController | undefined
  timer: NodeJS.Timeout | undefined
  dueMs: number
  /** A new address arrived during the attempt: the next one starts at once. */
  again: boolean
}

export class Redialer {
  readonly #options: RedialOptions
  readonly #entries = new Map<string, Entry>()
  #stopped = false

  constructor(options: RedialOptions) {
    this.#options = options
  }

  /** Replaces the wish. A target that stays keeps its backoff, unless it has a new address: then it is dialled at once. */
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

  /** A neighbour ended. Short lives keep growing the delay, so that a peer that rejects us is not hammered. */
  ended(peer: Origin, livedMs: number): void {
    for (const entry of this.#entries.values()) {
      if (peerOf(entry) !== peer || entry.controller !== undefined) continue
      if (livedMs >= this.#options.limits.redialResetMs) entry.attempts = 0
      this.#schedule(entry)
      entry.attempts += 1
    }
  }

  /** The own network changed: whatever is not connected is dialled now, and what is under way began in the network before. */
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

  /** Never rejects; at most one at a time per entry. */
  async #attempt(entry: Entry): Promise<void> {
    if (this.#stopped || entry.controller !== undefined || this.#connected(entry)) return
    clearTimeout(entry.timer)
    entry.again = false
    entry.controller = new AbortController()
    try {
      entry.answered = await this.#options.dial(entry.target, {
        signal: AbortSignal.any([entry.controller.signal, AbortSignal.timeout(this.#options.limits.dialMs)]),
        hasFailed: entry.attempts > 0
      })
      entry.lastError = undefined
    } catch (error) {
      entry.lastError = describe(error)
    }
    entry.controller = undefined
    // Also where it came up and ended again before we looked: `ended` was not listening then.
    if (this.#connected(entry) || !this.#held(entry)) return
    if (entry.again) {
      void this.#attempt(entry)
      return
    }
    this.#schedule(entry)
    entry.attempts += 1
  }

  #schedule(entry: Entry): void {
    if (this.#stopped) return
    const delayMs = redialDelayMs(entry.attempts, this.#options)
    clearTimeout(entry.timer)
    entry.dueMs = performance.now() + delayMs
    entry.timer = setTimeout(() => void this.#attempt(entry), delayMs)
  }

  #connected(entry: Entry): boolean {
    const peer = peerOf(entry)
    return peer !== undefined && this.#options.connected(peer)
  }

  #held(entry: Entry): boolean {
    return !this.#stopped && this.#entries.get(keyOf(entry.target)) === entry
  }
}

/** Doubles from redialMinMs to redialMaxMs; between half and all of it, so that a mesh does not redial in step. */
export function redialDelayMs(attempts: number, options: Pick<RedialOptions, 'limits' | 'random'>): number {
  const { redialMinMs, redialMaxMs } = options.limits
  return jittered(backoffMs(attempts, { minMs: redialMinMs, maxMs: redialMaxMs }), options.random)
}

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

function keyOf(target: Target): string {
  return target.origin ?? [...target.addresses].sort().join(' ')
}

function describe(error: unknown): string {
  if (error instanceof AggregateError) return [...new Set(error.errors.map(describe))].join('; ')
  const text = error instanceof Error ? error.message || error.name : String(error)
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}
