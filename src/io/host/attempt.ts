// Carries out a bundle of operations and finds the ones that the kernel refuses, because many tools reject a bundle
// without saying which operation is wrong. The reason is in docs/decisions/0027-refused-bundles-halved.md.
// Invariants
//   1. A refused bundle is halved until the refused operations stand alone; the others are carried out. Operations are
//      idempotent, so a repeated operation that has succeeded before does no harm.
//   2. A tool that hangs or is missing fails all operations of the bundle at once, because each further attempt would
//      cost its deadline again.
import type { HostOp, OpFailure } from '../../core/host/host-state.ts'
import { HostError } from './errors.ts'

/**
 * Carries out some operations of one kind. Returns the operations that failed where the tool names them; rejects where
 * the tool only says that the bundle was refused.
 */
type Act = (ops: readonly HostOp[]) => Promise<readonly OpFailure[]>

// Each halving costs two tries. 70 tries find two refused operations among 10,000 (at most 55 tries) or three among
// 2,000 (61), in 1.4 s when a command takes 20 ms. A half that is refused after that is not cut: its operations are
// reported as `untried`, and the next pass begins again.
const TRIES_MAX = 70

/**
 * Runs `act` on all operations, and on ever smaller halves where it rejects. Returns the operations that were not
 * carried out, with the scope of each failure (see OpFailure). Never rejects.
 */
export async function attempt(ops: readonly HostOp[], act: Act): Promise<readonly OpFailure[]> {
  const failures: OpFailure[] = []
  const waiting: (readonly HostOp[])[] = [ops]
  let tries = 0
  for (let some = waiting.pop(); some !== undefined; some = waiting.pop()) {
    if (some.length === 0) continue
    try {
      tries += 1
      failures.push(...(await act(some)))
    } catch (error) {
      if (endsPart(error)) {
        // The operations that wait were not tried, and would meet the same tool.
        const left = [some, ...waiting].flat()
        return [...failures, ...left.map((op): OpFailure => ({ op, error, scope: 'part' }))]
      }
      if (some.length === 1 || tries >= TRIES_MAX) {
        const scope = some.length === 1 ? 'operation' : 'untried'
        failures.push(...some.map((op): OpFailure => ({ op, error, scope })))
        continue
      }
      const half = some.length >> 1
      // The first half is taken from the end of the list next, so that the order of the operations is kept.
      waiting.push(some.slice(half), some.slice(0, half))
    }
  }
  return failures
}

/** Returns whether no further operation with this tool can succeed now: it hangs, is missing, or was aborted. */
export function endsPart(error: unknown): boolean {
  return (
    error instanceof HostError &&
    (error.code === 'TOOL_TIMEOUT' || error.code === 'TOOL_MISSING' || error.code === 'ABORTED')
  )
}
