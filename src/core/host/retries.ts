// This file decides when a failed step may be tried again. Each step, and each part of the host, has a backoff of its
// own. The caller passes the time, and the only state is that of the class. Memory is bounded by the operations of
// the latest plan and by the parts of a host.
import { codeOf } from '../model/coded-error.ts'
import { backoffMs } from '../model/backoff.ts'
import { sameData } from '../model/equal.ts'
import type { HostOp, HostPart, OpFailure } from './host-state.ts'
import { opKey, partOf } from './host-ops.ts'

/** The least delay before another attempt, in milliseconds. */
export const RETRY_MS_MIN = 500
/** The greatest delay before another attempt, in milliseconds. */
export const RETRY_MS_MAX = 15_000

interface Failed {
  readonly error: unknown
  /** Number of failures in a row before this one. */
  readonly failures: number
  readonly dueMs: number
}

/** An operation that failed, with the time of its next attempt. */
export interface FailedStep extends Failed {
  readonly op: HostOp
}

/** A part of the host that failed, with the time of its next attempt. */
export interface FailedPart extends Failed {
  readonly part: HostPart
}

interface Due {
  /**
   * Operations that have not failed. They go first and in bundles of their own, so that known failures do not affect
   * them.
   */
  readonly fresh: readonly HostOp[]
  /** Operations that failed before and may be tried now. */
  readonly again: readonly HostOp[]
  /** Operations that wait for the time of their next attempt. */
  readonly held: readonly HostOp[]
}

/**
 * Retries remembers the failed operations and parts, and sorts the operations of a plan by whether they may be tried.
 */
export class Retries {
  readonly #steps = new Map<string, FailedStep>()
  readonly #parts = new Map<HostPart, FailedPart>()

  /** Returns whether no operation of this part may be tried yet. */
  isHeld(part: HostPart, nowMs: number): boolean {
    return nowMs < (this.#parts.get(part)?.dueMs ?? -Infinity)
  }

  /**
   * Sorts the operations of a plan. An operation that is no longer planned is forgotten: it was done by another
   * program or is no longer wanted.
   */
  sort(ops: readonly HostOp[], nowMs: number): Due {
    if (this.#steps.size > 0) this.#forget(ops)
    const due: { fresh: HostOp[]; again: HostOp[]; held: HostOp[] } = { fresh: [], again: [], held: [] }
    for (const op of ops) {
      const before = this.#steps.size === 0 ? undefined : this.#steps.get(opKey(op))
      if (this.isHeld(partOf(op), nowMs)) due.held.push(op)
      else if (before === undefined) due.fresh.push(op)
      // A step whose value has changed may succeed at once, so it does not wait.
      else if (nowMs < before.dueMs && sameData(before.op, op)) due.held.push(op)
      else due.again.push(op)
    }
    return due
  }

  #forget(ops: readonly HostOp[]): void {
    const planned = new Set(ops.map(opKey))
    for (const key of this.#steps.keys()) if (!planned.has(key)) this.#steps.delete(key)
  }

  /** Records the results of a pass: each operation of `tried` succeeded unless it is in `failures`. */
  settle(tried: readonly HostOp[], failures: readonly OpFailure[], nowMs: number): void {
    const failed = new Map(failures.map((failure) => [opKey(failure.op), failure]))
    for (const op of tried) {
      const key = opKey(op)
      const failure = failed.get(key)
      if (failure?.scope === 'operation')
        this.#steps.set(key, { op, ...this.#later(this.#steps.get(key), failure.error, nowMs) })
      else if (failure === undefined) this.#steps.delete(key)
    }
    for (const part of new Set(failures.map(({ op }) => partOf(op)))) {
      const whole = failures.find((failure) => failure.scope === 'part' && partOf(failure.op) === part)
      if (whole !== undefined) this.partFailed(part, whole.error, nowMs)
    }
  }

  /** Records that a part could not be read or changed. */
  partFailed(part: HostPart, error: unknown, nowMs: number): void {
    this.#parts.set(part, { part, ...this.#later(this.#parts.get(part), error, nowMs) })
  }

  /** Forgets the failure of a part. */
  partWorks(part: HostPart): void {
    this.#parts.delete(part)
  }

  /** Returns the operations that failed and are still planned. */
  steps(): readonly FailedStep[] {
    return [...this.#steps.values()]
  }

  /** Returns the parts that have failed. */
  parts(): readonly FailedPart[] {
    return [...this.#parts.values()]
  }

  /** Returns the time of the earliest attempt that is due; Infinity when nothing has failed. */
  nextMs(): number {
    let next = Infinity
    for (const { dueMs } of this.#steps.values()) next = Math.min(next, dueMs)
    for (const { dueMs } of this.#parts.values()) next = Math.min(next, dueMs)
    return next
  }

  #later(before: Failed | undefined, error: unknown, nowMs: number): Failed {
    // A tool that hung may answer the next moment, and one attempt costs only one process, so the delay does not
    // grow.
    const failures = before === undefined || hangs(error) ? 0 : before.failures + 1
    const delayMs = backoffMs(failures, { minMs: RETRY_MS_MIN, maxMs: RETRY_MS_MAX })
    return { error, failures, dueMs: nowMs + delayMs }
  }
}

/** Returns whether the error says that a tool did not end in time. */
export function hangs(error: unknown): boolean {
  return codeOf(error) === 'TOOL_TIMEOUT'
}
