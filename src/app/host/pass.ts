// One pass over the host: look → drain → plan → apply. A failure of one operation, or of one part of the host, does
// not stop the others (docs/decisions/0026).
// Invariants:
//  1. What fails (one operation, or one part of the host that cannot be read or whose tool hangs) is left out,
//     remembered and tried again with a backoff of its own. Everything that does not need it is done in the same
//     pass.
//  2. `have` is the state that was read from the kernel last, with the operations that passes have made since. An
//     operation counts as done when it is not among the failures.
//  3. Operations that have failed before are tried after all others, so that they neither delay the others nor cause
//     their bundle to be refused.
//  4. A pass that was interrupted by a newer desired state has made progress, and the next one goes on where it
//     ended.
import { drain, type DrainResult, type Drains, NO_DRAINS } from '../../core/host/drain.ts'
import {
  HOST_PARTS,
  type Host,
  type HostOp,
  type HostPart,
  type HostState,
  type OpFailure
} from '../../core/host/host-state.ts'
import {
  lacking,
  mustWait,
  opKey,
  partOf,
  slices,
  stageOf,
  wouldTakeOwnNetwork,
  type Lacking
} from '../../core/host/host-ops.ts'
import { EMPTY_HOST } from '../../core/host/normalize.ts'
import { applyOps } from '../../core/host/model-host.ts'
import type { ClusterName } from '../../core/model/values.ts'
import { plan, sameVirtualServer, type Keeps } from '../../core/host/plan.ts'
import { adopted } from '../../core/host/server-list.ts'
import { Retries, RETRY_MS_MIN, type FailedPart, type FailedStep } from '../../core/host/retries.ts'

/** The desired state of the host, which a pass works towards. */
export interface Desired {
  readonly want: HostState
  /** The prefixes of clusters of which records may be missing: there the pass only adds. */
  readonly keeps: Keeps
  /**
   * Returns the cluster that an operation is for. Left out: the pass treats all operations as those of one cluster.
   */
  readonly clusterOf?: (op: HostOp) => ClusterName | undefined
}

/** The host, and how long a drain takes. */
interface PassOptions {
  readonly host: Pick<Host, 'look' | 'apply'>
  /** Milliseconds for which flows to a removed backend may go on. */
  readonly drainMs: number
  /** Monotonic milliseconds. */
  readonly now: () => number
}

/** The result of a pass. */
export interface PassResult {
  /** Operations that were carried out. */
  readonly done: readonly HostOp[]
  readonly isInterrupted: boolean
  /** Milliseconds until a retry or the end of a drain is due; Infinity: nothing is. */
  readonly dueInMs: number
}

/** The operations and the parts of the host that have failed and will be tried again. */
export interface HostFailures {
  readonly steps: readonly FailedStep[]
  readonly parts: readonly FailedPart[]
}

/**
 * Makes the passes over one host, and keeps the known state of the host between them. Passes must not overlap; the
 * reconciler's loop ensures it.
 */
export class Pass {
  readonly #options: PassOptions
  readonly #retries = new Retries()
  /** Parts that the next pass reads from the kernel. */
  readonly #stale = new Set<HostPart>(HOST_PARTS)
  /** Parts that were never read: `have` has nothing of them. */
  readonly #unread = new Set<HostPart>(HOST_PARTS)
  #have: HostState = EMPTY_HOST
  /** Real servers that drain, with their deadlines. */
  #drains: Drains = NO_DRAINS

  constructor(options: PassOptions) {
    this.#options = options
  }

  /** The state of the host as far as it is known: what the last look found, and what the passes have made since. */
  get have(): HostState {
    return this.#have
  }

  get failures(): HostFailures {
    return { steps: this.#retries.steps(), parts: this.#retries.parts() }
  }

  /** Makes the next pass read these parts, because the kernel may have changed there. */
  markStale(parts: readonly HostPart[] = HOST_PARTS): void {
    for (const part of parts) this.#stale.add(part)
  }

  /**
   * Makes a pass. The operations are applied in slices (core/host/host-ops.ts). `interrupted` is called after each
   * slice but the last: when it returns true, the pass ends there.
   * Errors: only errors of this program itself, and the abort of `signal`. Failures of the host are in `failures`.
   * After an error the next pass reads all parts again.
   */
  async run(
    desired: Desired,
    signal: AbortSignal,
    interrupted: () => boolean = () => false
  ): Promise<PassResult> {
    try {
      await this.#look(signal)
      return await this.#apply(desired, signal, interrupted)
    } catch (error) {
      this.markStale()
      throw error
    }
  }

  /**
   * Returns `want` with the real servers that still drain. Also used for a preview, so it does not change the drains.
   */
  drained(want: HostState, have: HostState): DrainResult {
    const { drainMs, now } = this.#options
    return drain({ want, have, drains: this.#drains, nowMs: now(), drainMs })
  }

  /** Reads the stale parts, except those that wait for their retry. */
  async #look(signal: AbortSignal): Promise<void> {
    const nowMs = this.#options.now()
    const parts = [...this.#stale].filter((part) => !this.#retries.isHeld(part, nowMs))
    if (parts.length === 0) return
    // The marks are deleted before the reading, so that a hint during the reading counts for the next pass.
    for (const part of parts) this.#stale.delete(part)
    const { found, failures } = await this.#options.host.look(parts, signal)
    signal.throwIfAborted()
    this.#have = { ...this.#have, ...found }
    const failed = new Map(failures.map(({ part, error }) => [part, error]))
    for (const part of parts) {
      if (failed.has(part)) {
        this.#stale.add(part)
        this.#retries.partFailed(part, failed.get(part), this.#options.now())
      } else {
        this.#unread.delete(part)
        this.#retries.partWorks(part)
      }
    }
  }

  /** Plans and applies, slice by slice. */
  async #apply(desired: Desired, signal: AbortSignal, interrupted: () => boolean): Promise<PassResult> {
    const nowMs = this.#options.now()
    // The kernel's virtual servers are read into new objects. Where they equal the desired ones, the desired objects
    // take their place, so the passes until the next look compare identities only.
    const virtualServers = adopted(this.#have.virtualServers, desired.want.virtualServers, sameVirtualServer)
    if (virtualServers !== this.#have.virtualServers) this.#have = { ...this.#have, virtualServers }
    const drained = this.drained(desired.want, this.#have)
    // A stale part that waits for its retry is skipped: a plan for it would be a guess.
    const skip = new Set(
      [...this.#unread, ...this.#stale].filter((part) => this.#retries.isHeld(part, nowMs))
    )
    const ops = plan(drained.want, this.#have, { keeps: desired.keeps, skip })
    const due = this.#retries.sort(ops, nowMs)
    const clusterOf = desired.clusterOf ?? (() => undefined)
    const done: HostOp[] = []
    const broken = new Set(due.held.map(opKey))
    const context: SliceContext = {
      want: desired.want,
      skip,
      broken,
      undone: due.held.filter(isRoute),
      done,
      signal,
      untried: false
    }
    const rounds = [...slices(due.fresh, clusterOf), ...slices(due.again, clusterOf)]
    // Slices on which other slices depend (device, filter, sysctls, exceptions) are applied first, also if they failed
    // in an earlier pass.
    const first = rounds.filter(({ ops: [op] }) => op !== undefined && isBasis(op))
    const order = [...first, ...rounds.filter((each) => !first.includes(each))]
    let next = 0
    while (next < order.length && !(next > 0 && interrupted()))
      await this.#slice(order[next++]?.ops ?? [], context)
    if (done.length > 0) this.#have = applyOps(this.#have, done)
    this.#drains = drained.drains
    const nextMs = Math.min(drained.nextDeadlineMs ?? Infinity, this.#retries.nextMs())
    return {
      done,
      isInterrupted: next < order.length,
      dueInMs: context.untried ? RETRY_MS_MIN : nextMs - this.#options.now()
    }
  }

  /**
   * Applies one slice, without the operations that must wait for something that is missing. Records which of them
   * failed.
   */
  async #slice(ops: readonly HostOp[], context: SliceContext): Promise<void> {
    const { want, skip, broken, done, signal } = context
    const lacks = this.#lacks(want, skip, broken)
    const device = want.tunnel?.device
    const ready = ops.filter((op) => !mustWait(op, lacks, device) && !wouldTakeOwnNetwork(op, context.undone))
    const nowMs = this.#options.now()
    const allowed = ready.filter((op) => !this.#retries.isHeld(partOf(op), nowMs))
    if (allowed.length === 0) return
    const failures = await this.#options.host.apply(allowed, signal)
    signal.throwIfAborted()
    this.#retries.settle(allowed, failures, this.#options.now())
    const failed = new Set(failures.map(({ op }) => opKey(op)))
    for (const key of failed) broken.add(key)
    for (const { op } of failures) if (isRoute(op)) context.undone.push(op)
    for (const op of allowed) if (!failed.has(opKey(op))) done.push(op)
    context.untried ||= failures.some(({ scope }) => scope === 'untried')
    await this.#after(failures, signal)
  }

  /**
   * Marks the parts of failed operations as stale, since such an operation may be half done. After a failure to set up
   * the device, the tunnel is read at once: the device may exist all the same, and that may be enough for the peers and
   * routes that follow.
   */
  async #after(failures: readonly OpFailure[], signal: AbortSignal): Promise<void> {
    for (const { op } of failures) this.#stale.add(partOf(op))
    if (!failures.some(({ op, scope }) => op.kind === 'setTunnel' && scope === 'operation')) return
    const { found } = await this.#options.host.look(['tunnel'], signal)
    this.#have = { ...this.#have, ...found }
  }

  /** Returns what is missing on the host, so that other operations must wait. */
  #lacks(want: HostState, skip: ReadonlySet<HostPart>, broken: ReadonlySet<string>): Lacking {
    return lacking(
      { want, have: this.#have },
      (kind) => broken.has(kind) || skip.has(kind === 'setTunnel' ? 'tunnel' : 'filter')
    )
  }
}

/** The data that all slices of one pass read and write. */
interface SliceContext {
  readonly want: HostState
  readonly skip: ReadonlySet<HostPart>
  /** The opKeys of operations that have failed, or wait for their retry. */
  readonly broken: Set<string>
  /** Routes and service prefixes that have failed, or wait for their retry. */
  readonly undone: HostOp[]
  readonly done: HostOp[]
  readonly signal: AbortSignal
  /**
   * True: some operations were refused together with others of their bundle and were not tried alone. The next pass
   * comes soon.
   */
  untried: boolean
}

/** Returns whether later operations depend on this one. */
function isBasis(op: HostOp): boolean {
  const stage = stageOf(op)
  return stage === 'shared' || stage === 'exceptions'
}

/** Returns whether the operation adds or removes a route or a service prefix. */
function isRoute(op: HostOp): boolean {
  return 'route' in op || 'vip' in op
}
