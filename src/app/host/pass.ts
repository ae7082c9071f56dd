// One pass over the host: look → drain → plan → apply, so that one failure stays one failure.
// Invariants:
//  1. What fails (one operation, or one part of the host that cannot be read or whose tool hangs) is left out, remembered and tried
//     again with a backoff of its own. Everything that does not need it is done in the same pass.
//  2. Between looks, `have` is what the passes have made: an operation counts as done when it is not among the failures.
//  3. Operations that have failed before are tried after all others, so that they can neither delay nor spoil them.
//  4. A pass that was interrupted by a newer wish has made progress, and the next one goes on where it ended.
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
import { plan, sameVirtualServer } from '../../core/host/plan.ts'
import { adopted } from '../../core/host/server-list.ts'
import { Retries, RETRY_MS_MIN, type FailedPart, type FailedStep } from '../../core/host/retries.ts'

export interface Wish {
  readonly want: HostState
  /** False until every catalogue is whole: add only, never delete. */
  readonly deletes: boolean
  /** Which cluster an operation is for; left out: all are for one. */
  readonly clusterOf?: (op: HostOp) => ClusterName | undefined
}

export interface PassOptions {
  readonly host: Pick<Host, 'look' | 'apply'>
  readonly drainMs: number
  readonly now: () => number
}

export interface PassResult {
  /** That were carried out. */
  readonly done: readonly HostOp[]
  /** Operations that are still to be done: failed, waiting for another one, or interrupted. */
  readonly left: number
  readonly isInterrupted: boolean
  /** Milliseconds until something is due of itself; Infinity: nothing. */
  readonly dueInMs: number
}

export interface HostFailures {
  readonly steps: readonly FailedStep[]
  readonly parts: readonly FailedPart[]
}

export class Pass {
  readonly #options: PassOptions
  readonly #retries = new Retries()
  readonly #stale = new Set<HostPart>(HOST_PARTS)
  /** Parts that were never read: `have` has nothing of them. */
  readonly #unread = new Set<HostPart>(HOST_PARTS)
  #have: HostState = EMPTY_HOST
  #drains: Drains = NO_DRAINS

  constructor(options: PassOptions) {
    this.#options = options
  }

  /** As far as it is known: what the last look found, and what the passes have made since. */
  get have(): HostState {
    return this.#have
  }

  /** Whether this part has never been read. */
  isUnread(part: HostPart): boolean {
    return this.#unread.has(part)
  }

  get failures(): HostFailures {
    return { steps: this.#retries.steps(), parts: this.#retries.parts() }
  }

  /** The kernel may have changed there. */
  markStale(parts: readonly HostPart[] = HOST_PARTS): void {
    for (const part of parts) this.#stale.add(part)
  }

  /**
   * `interrupted` is asked between slices: true ends the pass there. Errors: only those of our own making; then everything is read
   * again by the next pass.
   */
  async run(wish: Wish, signal: AbortSignal, interrupted: () => boolean = () => false): Promise<PassResult> {
    try {
      await this.#look(signal)
      return await this.#apply(wish, signal, interrupted)
    } catch (error) {
      this.markStale()
      throw error
    }
  }

  drained(want: HostState, have: HostState): DrainResult {
    const { drainMs, now } = this.#options
    return drain({ want, have, drains: this.#drains, nowMs: now(), drainMs })
  }

  async #look(signal: AbortSignal): Promise<void> {
    const nowMs = this.#options.now()
    const parts = [...this.#stale].filter((part) => !this.#retries.isHeld(part, nowMs))
    if (parts.length === 0) return
    for (const part of parts) this.#stale.delete(part) // before the look: a hint that comes during it counts for the next pass
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

  async #apply(wish: Wish, signal: AbortSignal, interrupted: () => boolean): Promise<PassResult> {
    const nowMs = this.#options.now()
    // What was read is made of other objects than the wish: compared once, and by identity in the passes until the next look.
    const virtualServers = adopted(this.#have.virtualServers, wish.want.virtualServers, sameVirtualServer)
    if (virtualServers !== this.#have.virtualServers) this.#have = { ...this.#have, virtualServers }
    const drained = this.drained(wish.want, this.#have)
    // Until a stale part has been read again, its plan would be a guess.
    const skip = new Set(
      [...this.#unread, ...this.#stale].filter((part) => this.#retries.isHeld(part, nowMs))
    )
    const ops = plan(drained.want, this.#have, { deletes: wish.deletes, skip })
    const due = this.#retries.sort(ops, nowMs)
    const clusterOf = wish.clusterOf ?? (() => undefined)
    const done: HostOp[] = []
    const broken = new Set(due.held.map(opKey))
    const context: SliceContext = {
      want: wish.want,
      skip,
      broken,
      undone: due.held.filter(isRoute),
      done,
      signal,
      untried: false
    }
    const rounds = [...slices(due.fresh, clusterOf), ...slices(due.again, clusterOf)]
    // What has failed before may be what the others wait for.
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
      left: ops.length - done.length,
      isInterrupted: next < order.length,
      dueInMs: context.untried ? RETRY_MS_MIN : nextMs - this.#options.now()
    }
  }

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

  /** A device that could not be set up whole may be there all the same, and whatever was half done must be read before it is trusted. */
  async #after(failures: readonly OpFailure[], signal: AbortSignal): Promise<void> {
    for (const { op } of failures) this.#stale.add(partOf(op))
    if (!failures.some(({ op, scope }) => op.kind === 'setTunnel' && scope === 'operation')) return
    const { found } = await this.#options.host.look(['tunnel'], signal)
    this.#have = { ...this.#have, ...found }
  }

  #lacks(want: HostState, skip: ReadonlySet<HostPart>, broken: ReadonlySet<string>): Lacking {
    return lacking(
      { want, have: this.#have },
      (kind) => broken.has(kind) || skip.has(kind === 'setTunnel' ? 'tunnel' : 'filter')
    )
  }
}

interface SliceContext {
  readonly want: HostState
  readonly skip: ReadonlySet<HostPart>
  /** opKeys of what has failed, or waits for its time. */
  readonly broken: Set<string>
  /** Routes and service prefixes that have failed, or wait for their time. */
  readonly undone: HostOp[]
  readonly done: HostOp[]
  readonly signal: AbortSignal
  /** Some operations were refused with others of their bundle, and were not tried by themselves. */
  untried: boolean
}

function isBasis(op: HostOp): boolean {
  const stage = stageOf(op)
  return stage === 'shared' || stage === 'exceptions'
}

function isRoute(op: HostOp): boolean {
  return 'route' in op || 'vip' in op
}
