// When a failed step may be tried again. Each step, and each part of the host, has a backoff of its own. Pure but for its own state; the
// caller passes the time. Bounded by the operations of the latest plan and by the parts of a host.
import { codeOf } from '../model/coded-error.ts'
import { backoffMs } from '../model/backoff.ts'
import { sameData } from '../model/equal.ts'
import type { HostOp, HostPart, OpFailure } from './host-state.ts'
import { opKey, partOf } from './host-ops.ts'

export const RETRY_MS_MIN = 500
export const RETRY_MS_MAX = 15_000

interface Failed {
  readonly error: unknown
  /** In a row, before this one. */
  readonly failures: number
  readonly dueMs: number
}

export interface FailedStep extends Failed {
  readonly op: HostOp
}

export interface FailedPart extends Failed {
  readonly part: HostPart
}

interface Due {
  /** Never failed in this form: these go first and in bundles of their own, so that known failures do not touch them. */
  readonly fresh: readonly HostOp[]
  readonly again: readonly HostOp[]
  /** Wait for their time. */
  readonly held: readonly HostOp[]
}

export class Retries {
  readonly #steps = new Map<string, FailedStep>()
  readonly #parts = new Map<HostPart, FailedPart>()

  /** Whether nothing of this part may be tried yet. */
  isHeld(part: HostPart, nowMs: number): boolean {
    return nowMs < (this.#parts.get(part)?.dueMs ?? -Infinity)
  }

  /** What is no longer planned is forgotten: it was done by others or is not wanted any more. */
  sort(ops: readonly HostOp[], nowMs: number): Due {
    if (this.#steps.size > 0) this.#forget(ops)
    const due: { fresh: HostOp[]; again: HostOp[]; held: HostOp[] } = { fresh: [], again: [], held: [] }
    for (const op of ops) {
      const before = this.#steps.size === 0 ? undefined : this.#steps.get(opKey(op))
      if (this.isHeld(partOf(op), nowMs)) due.held.push(op)
      else if (before === undefined) due.fresh.push(op)
      // A step that sets something else now may succeed at once.
      else if (nowMs < before.dueMs && sameData(before.op, op)) due.held.push(op)
      else due.again.push(op)
    }
    return due
  }

  #forget(ops: readonly HostOp[]): void {
    const planned = new Set(ops.map(opKey))
    for (const key of this.#steps.keys()) if (!planned.has(key)) this.#steps.delete(key)
  }

  /** Of `tried`, all but the failures succeeded. */
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

  partFailed(part: HostPart, error: unknown, nowMs: number): void {
    this.#parts.set(part, { part, ...this.#later(this.#parts.get(part), error, nowMs) })
  }

  partWorks(part: HostPart): void {
    this.#parts.delete(part)
  }

  steps(): readonly FailedStep[] {
    return [...this.#steps.values()]
  }

  parts(): readonly FailedPart[] {
    return [...this.#parts.values()]
  }

  /** When the first of them is due; Infinity: nothing has failed. */
  nextMs(): number {
    let next = Infinity
    for (const { dueMs } of this.#steps.values()) next = Math.min(next, dueMs)
    for (const { dueMs } of this.#parts.values()) next = Math.min(next, dueMs)
    return next
  }

  #later(before: Failed | undefined, error: unknown, nowMs: number): Failed {
    // A tool that hung may answer the next moment, and asking it costs one process.
    const failures = before === undefined || hangs(error) ? 0 : before.failures + 1
    const delayMs = backoffMs(failures, { minMs: RETRY_MS_MIN, maxMs: RETRY_MS_MAX })
    return { error, failures, dueMs: nowMs + delayMs }
  }
}

/** Whether a tool did not end in time. */
export function hangs(error: unknown): boolean {
  return codeOf(error) === 'TOOL_TIMEOUT'
}
