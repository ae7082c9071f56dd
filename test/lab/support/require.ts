// One way to say "this machine cannot run the lab", for every lab test.
import type { Context } from 'mocha'
import { Lab } from './netns.ts'

/** First line of a lab suite's `before`. Prints the reason and skips; a run with `forbidPending` then fails, loudly. */
export function requireLab(context: Context): void {
  const reason = Lab.requirements()
  if (reason === undefined) return
  console.error(`SKIPPED: ${reason}`)
  context.skip()
}
