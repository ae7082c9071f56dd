// One loop that makes the host what the mesh says: want → drain → plan → apply. Events only mark; passes never overlap.
// Invariants:
//  1. Between passes that observe, `have` is what the last pass made; any failure, any hint of the kernel and every
//     OBSERVE_INTERVAL_MS makes the next pass read the kernel.
//  2. A failed pass is tried again with growing patience; what it applied stays applied (each op is idempotent).
import { drain, type Drains, NO_DRAINS } from '../core/drain.ts'
import type { Host, HostOp, HostState } from '../core/host.ts'
import { applyOps } from '../core/model-host.ts'
import { plan } from '../core/plan.ts'
import { monotonicMs } from './clock.ts'
import { sentence } from './errors.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'

const OBSERVE_INTERVAL_MS = 10_000
const RETRY_MS_MIN = 500
const RETRY_MS_MAX = 15_000
// A pass of 10,000 services takes about 2 s here; one that takes this long hangs on a tool.
const PASS_DEADLINE_MS = 60_000

export interface Wish {
  readonly want: HostState
  /** False until every catalogue is whole: add only, never delete. */
  readonly deletes: boolean
}

export interface ReconcilerOptions {
  readonly host: Host
  /** undefined: nothing is known yet; the host is left alone. */
  readonly wish: () => Wish | undefined
  readonly drainMs: number
  readonly log: Log
  readonly metrics: Metrics
}

export interface LastPass {
  readonly at: string
  readonly ops: number
  readonly ms: number
  readonly error?: string
}

export class Reconciler {
  readonly #options: ReconcilerOptions
  readonly #stopping = new AbortController()
  #have: HostState | undefined
  #stale = true
  #observedMs = -Infinity
  #drains: Drains = NO_DRAINS
  #dirty = false
  #running: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #retryMs = RETRY_MS_MIN
  #last: LastPass | undefined
  #inStep = false

  constructor(options: ReconcilerOptions) {
    this.#options = options
  }

  get last(): LastPass | undefined {
    return this.#last
  }

  /** The latest pass ended well and nothing has come since. */
  get inStep(): boolean {
    return this.#inStep && !this.#dirty
  }

  /** Something may have changed. `observe`: the kernel may have, too. */
  mark(options: { observe: boolean } = { observe: false }): void {
    if (this.#stopping.signal.aborted) return
    if (options.observe) this.#stale = true
    this.#dirty = true
    this.#running ??= this.#loop().finally(() => {
      this.#running = undefined
      if (this.#dirty) this.mark() // marked between the loop's last look and here
    })
  }

  /** Ends after the pass that is under way. The host keeps what it has. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    clearTimeout(this.#timer)
    this.#dirty = false
    await this.#running
  }

  /** What a pass would do now, from a fresh look at the kernel. */
  async preview(): Promise<readonly HostOp[]> {
    const wish = this.#options.wish()
    if (wish === undefined) return []
    const have = await this.#options.host.observe(AbortSignal.timeout(PASS_DEADLINE_MS))
    return plan(this.#drained(wish.want, have, monotonicMs()).want, have, { deletes: wish.deletes })
  }

  async #loop(): Promise<void> {
    while (this.#dirty && !this.#stopping.signal.aborted) {
      this.#dirty = false
      clearTimeout(this.#timer)
      const waitMs = await this.#pass()
      if (this.#stopping.signal.aborted) return
      this.#timer = setTimeout(() => this.mark(), waitMs)
    }
  }

  /** Returns the milliseconds until the next pass is due of itself. */
  async #pass(): Promise<number> {
    const { host, metrics, log } = this.#options
    const wish = this.#options.wish()
    if (wish === undefined) return OBSERVE_INTERVAL_MS
    const started = performance.now()
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(PASS_DEADLINE_MS)])
    let ops: readonly HostOp[] = []
    try {
      const nowMs = monotonicMs()
      const have = await this.#known(nowMs, signal)
      const drained = this.#drained(wish.want, have, nowMs)
      ops = plan(drained.want, have, { deletes: wish.deletes })
      if (ops.length > 0) await host.apply(ops, signal)
      this.#have = applyOps(have, ops)
      this.#drains = drained.drains
      this.#settle(started, ops)
      const untilDrained =
        drained.nextDeadlineMs === undefined ? Infinity : drained.nextDeadlineMs - monotonicMs()
      return Math.max(10, Math.min(OBSERVE_INTERVAL_MS, untilDrained))
    } catch (error) {
      this.#stale = true
      if (this.#stopping.signal.aborted) return OBSERVE_INTERVAL_MS
      this.#inStep = false
      this.#last = { ...this.#summary(started, ops), error: sentence(error) }
      metrics.passes.inc({ result: 'failed' })
      log.error({ err: error, retryMs: this.#retryMs }, 'pass failed; the host keeps what it has')
      const waitMs = this.#retryMs
      this.#retryMs = Math.min(RETRY_MS_MAX, this.#retryMs * 2)
      return waitMs
    }
  }

  async #known(nowMs: number, signal: AbortSignal): Promise<HostState> {
    if (this.#have !== undefined && !this.#stale && nowMs - this.#observedMs < OBSERVE_INTERVAL_MS)
      return this.#have
    this.#stale = false // before the look: a hint that comes during it counts for the next pass
    this.#have = await this.#options.host.observe(signal)
    this.#observedMs = nowMs
    return this.#have
  }

  #settle(started: number, ops: readonly HostOp[]): void {
    const { metrics, log } = this.#options
    this.#retryMs = RETRY_MS_MIN
    this.#inStep = true
    metrics.passes.inc({ result: 'ok' })
    metrics.passSeconds.observe((performance.now() - started) / 1000)
    if (ops.length === 0 && this.#last !== undefined && this.#last.error === undefined) return
    this.#last = this.#summary(started, ops)
    if (ops.length === 0) return
    const kinds: Record<string, number> = {}
    for (const op of ops) kinds[op.kind] = (kinds[op.kind] ?? 0) + 1
    for (const [kind, count] of Object.entries(kinds)) metrics.hostOps.inc({ kind }, count)
    log.info({ ops: kinds, ms: this.#last.ms }, 'host changed')
  }

  #summary(started: number, ops: readonly HostOp[]): LastPass {
    return { at: new Date().toISOString(), ops: ops.length, ms: Math.round(performance.now() - started) }
  }

  #drained(want: HostState, have: HostState, nowMs: number) {
    return drain({ want, have, drains: this.#drains, nowMs, drainMs: this.#options.drainMs })
  }
}
