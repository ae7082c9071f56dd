// How meshctl shows that a statement of an administrator was signed.
import type { StatementAnswer } from '../../api/trust-answers.ts'
import type { Rendered } from './context.ts'

/** The sentence, and how far the statement has come. */
export function renderStatement({ done, neighbours, notes = [] }: StatementAnswer): Rendered {
  const body = sentence(done)
  const told =
    neighbours === 0
      ? 'No member is connected now: this agent tells them when they are.'
      : `Told to ${neighbours} connected ${neighbours === 1 ? 'member, which tells' : 'members, which tell'} the others.`
  return { body, note: [told, ...notes].join('\n') }
}

/** What was done as a sentence: "removed the cluster east" becomes "Removed the cluster east.". */
export function sentence(done: string): string {
  return `${done.charAt(0).toUpperCase()}${done.slice(1)}.`
}
