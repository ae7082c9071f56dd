// One failure stays one failure: what a bundle of operations does when the kernel refuses it.
// Invariants
//   1. A refused bundle is halved until the refused operations stand alone; the others are carried out. Operations are idempotent, so
//      what the first attempt has done already does no harm.
//   2. A tool that hangs or is missing fails the whole bundle at once: each further attempt would cost its deadline again.
import type { HostOp, OpFailure } from '../../core/host/host-state.ts'
import { HostError } from './errors.ts'

/** Returns the failures that it can tell apart; throws where it can only say that the bundle was refused. */
export type Act = (ops: readonly HostOp[]) => Promise<readonly OpFailure[]>

// Finds five refused operations among 10,000 (14 halvings each) in about a second of 20 ms commands. What is left is `untried`.
const TRIES_MAX = 70

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
        const left = [some, ...waiting].flat()
        return [...failures, ...left.map((op): OpFailure => ({ op, error, scope: 'part' }))]
      }
      if (some.length === 1 || tries >= TRIES_MAX) {
        const scope = some.length === 1 ? 'operation' : 'untried'
        failures.push(...some.map((op): OpFailure => ({ op, error, scope })))
        continue
      }
      const half = some.length >> 1
      waiting.push(some.slice(half), some.slice(0, half))
    }
  }
  return failures
}

/** Whether nothing more can be done with this tool now. */
export function endsPart(error: unknown): boolean {
  return (
    error instanceof HostError &&
    (error.code === 'TOOL_TIMEOUT' || error.code === 'TOOL_MISSING' || error.code === 'ABORTED')
  )
}
