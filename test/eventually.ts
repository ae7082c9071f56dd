// Waits for a condition with a deadline: the one way in which tests meet real time. The deadline is long, and longer on a machine that is slow or
// busy, so that neither fails a test.
import { availableParallelism, loadavg } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'

/** How many times longer everything takes on this processor when it is idle: the guest's kernel runs on a translated one. */
export const TRANSLATION = Number(process.env['RHIZOME_SLOWNESS'] ?? 1)

/** The machine is the guest: commands get longer deadlines of their own. */
export const isTranslated = TRANSLATION > 1

/**
 * How many times longer everything takes here and now than on an idle, ordinary machine, by the processes that wait for a processor (mean of 1 min).
 * A whole number ≥1, since timeouts of Node are whole.
 */
export function slowness(): number {
  return Math.ceil(Math.max(TRANSLATION, (loadavg()[0] ?? 0) / availableParallelism()))
}

// Milliseconds between two looks: a share of the time waited so far, since each look costs the agents processor time.
const PAUSE_MIN_MS = 5
const PAUSE_MAX_MS = 100
const PAUSE_SHARE = 0.05

// The longest wait on a busy machine: mocha ends a test after 600 s, and its error does not say what was waited for.
const LONGEST_MS = 500_000

/**
 * The deadline is for an idle, ordinary machine. A look that itself does not end is bounded by the same deadline.
 * Errors: the last error of the condition, or "not within …".
 */
export async function eventually(condition: () => unknown, deadlineMs = 30_000): Promise<void> {
  const began = performance.now()
  const longestMs = (): number => Math.min(deadlineMs * slowness(), Math.max(deadlineMs, LONGEST_MS))
  for (;;) {
    let failure: unknown
    try {
      if (await ended(condition, longestMs() - (performance.now() - began))) return
    } catch (error) {
      failure = error
    }
    const tookMs = performance.now() - began
    if (tookMs > longestMs())
      throw failure ?? new Error(`not within ${Math.round(tookMs)} ms: ${condition.toString()}`)
    await pause(Math.min(PAUSE_MAX_MS, Math.max(PAUSE_MIN_MS, tookMs * PAUSE_SHARE)))
  }
}

/** What the condition says. Errors: its own, or that it said nothing for so long (at least 1 s). */
async function ended(condition: () => unknown, deadlineMs: number): Promise<unknown> {
  const waited = new AbortController()
  const late = pause(Math.max(1000, deadlineMs), undefined, { signal: waited.signal }).then(() => {
    throw new Error(`a look did not end: ${condition.toString()}`)
  })
  try {
    return await Promise.race([condition(), late])
  } finally {
    waited.abort()
    late.catch(() => undefined) // it ends with AbortError
  }
}
