// Carries out a bundle of operations and finds the ones that the kernel refuses, because many tools reject a bundle
// without saying which operation is wrong. The reason is in docs/decisions/0027-refused-bundles-halved.md.
// Invariants
//   1. A refused bundle is halved until the refused operations stand alone; the others are carried out. Operations are
//      idempotent, so a repeated operation that has succeeded before does no harm.
//   2. All good operations are carried out in one call, unless the tries take longer than HALVING_MS. Each call finds
//      at least one refused operation, so the next calls, which leave it out, come to an end.
//   3. A tool that hangs or is missing fails all operations of the bundle at once, because each further attempt would
//      cost its deadline again.
import type { HostOp, OpFailure } from '../../core/host/host-state.ts'
import { HostError } from './errors.ts'

/**
 * Carries out some operations of one kind. Returns the operations that failed where the tool names them; rejects where
 * the tool only says that the bundle was refused.
 */
type Act = (ops: readonly HostOp[]) => Promise<readonly OpFailure[]>

// Bound of the time for halving, because the other operations of the pass wait meanwhile. In this time a tool makes 500
// tries of 20 ms. Among 2,000 operations (the most in one slice of a pass) they find 30 refused ones in any places, or
// 100 and more that are neighbours. A half that is refused after this time is not halved: its operations are reported
// as `untried`, and the next pass begins again.
const HALVING_MS = 10_000
// Number of tries that are made even after HALVING_MS. With a tool that takes 2 s for a try, the time would otherwise
// end after 5 tries, but to find one refused operation among 2,000 takes 12 tries.
const TRIES_MIN = 30

/**
 * Runs `act` on all operations, and on ever smaller halves where it rejects. `nowMs`: a monotonic clock in
 * milliseconds; tests replace it. Returns the operations that were not carried out, with the scope of each failure (see
 * OpFailure). Never rejects.
 */
export async function attempt(
  ops: readonly HostOp[],
  act: Act,
  nowMs: () => number = () => performance.now()
): Promise<readonly OpFailure[]> {
  const beganMs = nowMs()
  const failures: OpFailure[] = []
  let tries = 0
  /** The error of a tool that hangs or is missing: nothing is tried after it. */
  let ended: Refusal | undefined

  const fail = (some: readonly HostOp[], scope: OpFailure['scope'], { error }: Refusal): boolean => {
    failures.push(...some.map((op): OpFailure => ({ op, error, scope })))
    return false
  }

  /** Returns undefined where the tool has accepted the operations. */
  async function refusalOf(some: readonly HostOp[]): Promise<Refusal | undefined> {
    tries += 1
    try {
      failures.push(...(await act(some)))
      return undefined
    } catch (error) {
      if (endsPart(error)) ended = { error }
      return { error }
    }
  }

  /**
   * Carries out all but the refused ones. Returns whether the tool has accepted `some` as a whole. `known`: why at
   * least one of them will be refused; undefined: nothing is known. The order of the operations is kept.
   */
  async function carryOut(some: readonly HostOp[], known?: Refusal): Promise<boolean> {
    if (some.length === 0) return true
    if (ended !== undefined) return fail(some, 'part', ended)
    // A single operation is always tried, so that it is reported with its own error.
    const refusal = known !== undefined && some.length > 1 ? known : await refusalOf(some)
    if (refusal === undefined) return true
    if (ended !== undefined) return fail(some, 'part', ended)
    if (some.length === 1) return fail(some, 'operation', refusal)
    if (tries >= TRIES_MIN && nowMs() - beganMs >= HALVING_MS) return fail(some, 'untried', refusal)
    const half = some.length >> 1
    const isFirstDone = await carryOut(some.slice(0, half))
    // If the first half was accepted, the refused operation is in the second half. It would be refused as a whole, so
    // it is halved without a try.
    await carryOut(some.slice(half), isFirstDone ? refusal : undefined)
    return false
  }

  await carryOut(ops)
  return failures
}

interface Refusal {
  readonly error: unknown
}

/** Returns whether no further operation with this tool can succeed now: it hangs, is missing, or was aborted. */
export function endsPart(error: unknown): boolean {
  return (
    error instanceof HostError &&
    (error.code === 'TOOL_TIMEOUT' || error.code === 'TOOL_MISSING' || error.code === 'ABORTED')
  )
}

/** Gives the error of a failed operation a code: APPLY_FAILED where it is not a HostError. */
export function asHostError(error: unknown): HostError {
  if (error instanceof HostError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new HostError({ code: 'APPLY_FAILED', message, cause: error })
}
