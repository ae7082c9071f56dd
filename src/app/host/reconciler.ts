// The loop that brings the host to the state that the mesh asks for. An event only marks the loop, which then makes a
// pass (pass.ts); passes never overlap.
// Invariants:
//  1. A pass reads the kernel every OBSERVE_INTERVAL_MS, after a failure, and on a hint of the kernel.
//  2. What fails is a fault in the registry of health until it is done, and is tried again with a backoff of its own;
//     everything else goes on.
//  3. A long pass ends between two slices when a newer desired state waits, and the next one begins with the small
//     clusters again.
import type { Host, HostOp, HostPart, HostState } from '../../core/host/host-state.ts'
import { HOST_PARTS } from '../../core/host/host-state.ts'
import { EMPTY_HOST } from '../../core/host/normalize.ts'
import { plan } from '../../core/host/plan.ts'
import { monotonicMs } from '../observe/clock.ts'
import { sentence } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'
import { reportHostFaults } from './host-faults.ts'
import type { Log } from '../observe/log.ts'
import { Loop } from '../../io/timing/loop.ts'
import type { Metrics } from '../observe/metrics.ts'
import { Pass, type HostFailures, type PassResult, type Desired } from './pass.ts'

export type { Desired } from './pass.ts'

const OBSERVE_INTERVAL_MS = 10_000
// The least pause between two passes that were not asked for.
const WAIT_MS_MIN = 10
// A pass goes on at least this long before a newer desired state interrupts it, so that a large cluster makes
// progress beside many small changes.
const PASS_MS_MIN = 500
// Pause after a pass that ended with an error of this program.
const RETRY_MS = 2_000
// After this time a pass ends between two slices even when nothing newer waits, so that the kernel is read again.
const PASS_MS_MAX = 20_000
// Deadline of a pass in milliseconds. No tool has a longer deadline, so it is reached only when code of src/io does not
// keep its own deadline.
const PASS_DEADLINE_MS = 300_000

/** The host, and the source of its desired state. */
interface ReconcilerOptions {
  readonly host: Host
  /** Returns the desired state. undefined: not enough is known yet, so nothing on the host is changed. */
  readonly desired: () => Desired | undefined
  /** Milliseconds for which flows to a removed backend may go on. */
  readonly drainMs: number
  readonly log: Log
  readonly metrics: Metrics
  readonly health: Pick<Health, 'replace'>
}

/**
 * The latest pass that changed something, or whose error differs from that of the pass before; for `meshctl status`.
 */
interface LastPass {
  /** Its end, as an ISO 8601 time. */
  readonly at: string
  /** Number of operations that were carried out. */
  readonly ops: number
  /** Duration in milliseconds. */
  readonly ms: number
  /** The first of the failures; the registry of health has all of them. Left out: nothing failed. */
  readonly error?: string
}

/** What a pass would do, and the host from which this follows. */
interface Preview {
  readonly ops: readonly HostOp[]
  readonly have: HostState
}

/** Owns the passes over one host. It lives as long as a session. */
export class Reconciler {
  readonly #options: ReconcilerOptions
  readonly #loop: Loop
  readonly #pass: Pass
  /** Monotonic time of the last pass that read all parts because OBSERVE_INTERVAL_MS had passed. */
  #lookedMs = -Infinity
  #last: LastPass | undefined
  #fault: string | undefined
  /** True when the desired state may have changed since the pass that is under way began. */
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

  /** The state of the host, as far as it is known. */
  get have(): Pass['have'] {
    return this.#pass.have
  }

  /** The operations and the parts of the host that have failed and will be tried again. */
  get failures(): HostFailures {
    return this.#pass.failures
  }

  /** The last pass that changed something or failed (LastPass); undefined until the first pass has ended. */
  get last(): LastPass | undefined {
    return this.#last
  }

  /**
   * The error of this program that ended the last pass; undefined: it ended normally. agent/part-watch.ts reports it
   * as HOST_PASS.
   */
  get fault(): string | undefined {
    return this.#fault
  }

  /**
   * Asks for a pass. Without `observe`, the desired state may have changed. `observe`: the kernel may have changed in
   * these parts (true: in all), and the pass reads them. The first call starts the loop.
   */
  mark(options: { observe: boolean | readonly HostPart[] } = { observe: false }): void {
    const { observe } = options
    if (observe === false) this.#isNewer = true
    else this.#pass.markStale(observe === true ? HOST_PARTS : observe)
    this.#loop.start()
  }

  /** Resolves after the pass that is under way, whose tools are told to end. The host keeps what it has. */
  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /**
   * Returns what a pass would do now, after reading the kernel, for `meshctl plan` and `meshctl drift`. Parts that cannot be read have no
   * operations. Changes nothing; but when it finds a difference that no hint had reported, it asks for a pass.
   */
  async preview(): Promise<Preview> {
    const desired = this.#options.desired()
    if (desired === undefined) return { ops: [], have: this.have }
    const { found, failures } = await this.#options.host.look(
      HOST_PARTS,
      AbortSignal.timeout(PASS_DEADLINE_MS)
    )
    const have = { ...EMPTY_HOST, ...found }
    const skip = new Set(failures.map(({ part }) => part))
    const ops = plan(this.#pass.drained(desired.want, have).want, have, { keeps: desired.keeps, skip })
    // The kernel differs from what the last pass left, and no hint has reported it.
    if (ops.length > 0) this.mark({ observe: true })
    return { ops, have }
  }

  /**
   * Makes one pass. Returns the milliseconds until the next one, unless a mark comes before: 0 after an interrupted
   * pass.
   */
  async #once(stopping: AbortSignal): Promise<number> {
    this.#isNewer = false
    const { propagation } = this.#options.metrics
    propagation.begin('plan')
    propagation.begin('kernel')
    const desired = this.#options.desired()
    if (desired === undefined) return OBSERVE_INTERVAL_MS
    propagation.done('plan')
    const started = performance.now()
    const elapsedMs = () => performance.now() - started
    const nowMs = monotonicMs()
    if (nowMs - this.#lookedMs >= OBSERVE_INTERVAL_MS) {
      this.#lookedMs = nowMs
      this.#pass.markStale()
    }
    const signal = AbortSignal.any([stopping, AbortSignal.timeout(PASS_DEADLINE_MS)])
    const result = await this.#pass.run(
      desired,
      signal,
      () => (this.#isNewer && elapsedMs() > PASS_MS_MIN) || elapsedMs() > PASS_MS_MAX
    )
    this.#fault = undefined
    this.#settle(result, desired, elapsedMs())
    if (result.isInterrupted) return 0
    propagation.done('kernel')
    return Math.max(WAIT_MS_MIN, Math.min(OBSERVE_INTERVAL_MS, result.dueInMs))
  }

  /** Handles an error that a pass has thrown. It is an error of this program: failures of the host are results. */
  #failed(error: unknown): void {
    const { metrics, log } = this.#options
    this.#fault = sentence(error)
    this.#last = { ...summary([], 0), error: this.#fault }
    metrics.passes.inc({ result: 'failed' })
    log.error({ err: error }, 'the pass ended with an unexpected error; the host keeps its state')
  }

  /** Reports the result of a pass: faults, metrics, and one line of the log for a pass that changed something. */
  #settle({ done }: PassResult, desired: Desired, ms: number): void {
    const { metrics, log, health } = this.#options
    const { failures } = this.#pass
    const [failed] = [...failures.parts, ...failures.steps]
    reportHostFaults(health, failures, desired.clusterOf ?? (() => undefined))
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
