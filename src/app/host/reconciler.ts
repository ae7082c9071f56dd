// One loop that makes the host what the mesh says. Events only mark; passes never overlap. A pass itself is in pass.ts.
// Invariants:
//  1. Every OBSERVE_INTERVAL_MS, after a failure, and on a hint of the kernel a pass reads the kernel.
//  2. What fails is a fault in the registry until it has been done, and is tried again with a backoff of its own; all else goes on.
//  3. A long pass ends between two slices when something newer waits, and the next one begins with the small clusters again.
import type { Host, HostOp, HostPart } from '../../core/host/host-state.ts'
import { HOST_PARTS } from '../../core/host/host-state.ts'
import { EMPTY_HOST } from '../../core/host/normalize.ts'
import { plan } from '../../core/host/plan.ts'
import { monotonicMs } from '../observe/clock.ts'
import { sentence } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'
import { reportHostFaults } from './host-faults.ts'
import type { Log } from '../observe/log.ts'
import { Loop } from '../observe/loop.ts'
import type { Metrics } from '../observe/metrics.ts'
import { Pass, type HostFailures, type PassResult, type Wish } from './pass.ts'

export type { Wish } from './pass.ts'

const OBSERVE_INTERVAL_MS = 10_000
const WAIT_MS_MIN = 10
// A pass goes on for so long before it makes way for something newer: a large cluster makes progress beside many small changes.
const PASS_MS_MIN = 500
const RETRY_MS = 2_000
// Then the kernel is read again, even when nothing newer waits.
const PASS_MS_MAX = 20_000
// No tool has a longer deadline. Reached only when an edge does not keep to its own.
const PASS_DEADLINE_MS = 300_000

export interface ReconcilerOptions {
  readonly host: Host
  /** undefined: nothing is known yet; the host is left alone. */
  readonly wish: () => Wish | undefined
  readonly drainMs: number
  readonly log: Log
  readonly metrics: Metrics
  readonly health: Pick<Health, 'replace'>
}

export interface LastPass {
  readonly at: string
  readonly ops: number
  readonly ms: number
  /** The first of the failures; all of them are in the health registry. */
  readonly error?: string
}

export class Reconciler {
  readonly #options: ReconcilerOptions
  readonly #loop: Loop
  readonly #pass: Pass
  #lookedMs = -Infinity
  #last: LastPass | undefined
  #inStep = false
  #fault: string | undefined
  /** The wish may have changed since the pass that is under way began. */
  #isNewer = false

  constructor(options: ReconcilerOptions) {
    this.#options = options
    this.#pass = new Pass({ host: options.host, drainMs: options.drainMs, now: monotonicMs })
    this.#loop = new Loop({
      act: (signal) => this.#once(signal),
      intervalMs: OBSERVE_INTERVAL_MS,
      retryMs: RETRY_MS,
      onError: (error) => this.#failed(error)
    })
  }

  /** What the host has, as far as it is known. */
  get have(): Pass['have'] {
    return this.#pass.have
  }

  get failures(): HostFailures {
    return this.#pass.failures
  }

  get last(): LastPass | undefined {
    return this.#last
  }

  /** The latest pass ended well and nothing has come since. */
  get inStep(): boolean {
    return this.#inStep && !this.#loop.isMarked
  }

  /** An error of our own that ended the last pass; undefined: it ended as it should. */
  get fault(): string | undefined {
    return this.#fault
  }

  /** Why this host carries no traffic of the mesh at all; undefined: it does, whatever else may be wrong. */
  get blocked(): string | undefined {
    const { steps, parts } = this.#pass.failures
    const failed =
      steps.find(({ op }) => op.kind === 'setTunnel' || op.kind === 'setFilter') ??
      parts.find(({ part }) => this.#pass.isUnread(part))
    return failed === undefined ? undefined : sentence(failed.error)
  }

  /** Something may have changed. `observe`: the kernel may have, too, in these parts (true: in all). */
  mark(options: { observe: boolean | readonly HostPart[] } = { observe: false }): void {
    const { observe } = options
    if (observe === false) this.#isNewer = true
    else this.#pass.markStale(observe === true ? HOST_PARTS : observe)
    this.#loop.start()
  }

  /** Ends after the pass that is under way. The host keeps what it has. */
  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /** What a pass would do now, from a fresh look at the kernel. Parts that cannot be read have no steps. */
  async preview(): Promise<readonly HostOp[]> {
    const wish = this.#options.wish()
    if (wish === undefined) return []
    const { found, failures } = await this.#options.host.look(
      HOST_PARTS,
      AbortSignal.timeout(PASS_DEADLINE_MS)
    )
    const have = { ...EMPTY_HOST, ...found }
    const skip = new Set(failures.map(({ part }) => part))
    const ops = plan(this.#pass.drained(wish.want, have).want, have, { deletes: wish.deletes, skip })
    // The edge knows now what it did not tell the pass.
    if (ops.length > 0) this.mark({ observe: true })
    return ops
  }

  /** Returns the milliseconds until the next pass is due of itself. */
  async #once(stopping: AbortSignal): Promise<number> {
    this.#isNewer = false
    const wish = this.#options.wish()
    if (wish === undefined) return OBSERVE_INTERVAL_MS
    const started = performance.now()
    const elapsedMs = () => performance.now() - started
    const nowMs = monotonicMs()
    if (nowMs - this.#lookedMs >= OBSERVE_INTERVAL_MS) {
      this.#lookedMs = nowMs
      this.#pass.markStale()
    }
    const signal = AbortSignal.any([stopping, AbortSignal.timeout(PASS_DEADLINE_MS)])
    const result = await this.#pass.run(
      wish,
      signal,
      () => (this.#isNewer && elapsedMs() > PASS_MS_MIN) || elapsedMs() > PASS_MS_MAX
    )
    this.#fault = undefined
    this.#settle(result, wish, elapsedMs())
    if (result.isInterrupted) return 0
    return Math.max(WAIT_MS_MIN, Math.min(OBSERVE_INTERVAL_MS, result.dueInMs))
  }

  #failed(error: unknown): void {
    const { metrics, log } = this.#options
    this.#inStep = false
    this.#fault = sentence(error)
    this.#last = { ...summary([], 0), error: this.#fault }
    metrics.passes.inc({ result: 'failed' })
    log.error({ err: error }, 'the pass ended with an error of our own; the host keeps what it has')
  }

  #settle({ done, left }: PassResult, wish: Wish, ms: number): void {
    const { metrics, log, health } = this.#options
    const { failures } = this.#pass
    const [failed] = [...failures.parts, ...failures.steps]
    reportHostFaults(health, failures, wish.clusterOf ?? (() => undefined))
    this.#inStep = left === 0 && failed === undefined
    metrics.passes.inc({ result: failed === undefined ? 'ok' : 'failed' })
    metrics.passSeconds.observe(ms / 1000)
    const error = failed === undefined ? undefined : sentence(failed.error)
    if (done.length === 0 && this.#last !== undefined && this.#last.error === error) return
    this.#last = { ...summary(done, ms), ...(error === undefined ? {} : { error }) }
    if (done.length === 0) return
    const kinds: Record<string, number> = {}
    for (const op of done) kinds[op.kind] = (kinds[op.kind] ?? 0) + 1
    for (const [kind, count] of Object.entries(kinds)) metrics.hostOps.inc({ kind }, count)
    log.info({ ops: kinds, ms: this.#last.ms }, 'host changed')
  }
}

function summary(done: readonly HostOp[], ms: number): LastPass {
  return { at: new Date().toISOString(), ops: done.length, ms: Math.round(ms) }
}
