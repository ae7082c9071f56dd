// POST /v1/join: answers when a member has accepted this cluster. If no member accepts it, the answer has the reason and nothing is stored.
import type { Enrolment } from '../../enrolment/enrolment.ts'
import type { AgentState } from '../agent-state.ts'
import { joinedAnswer } from '../joined-answer.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: those of Enrolment.join. */
export function joinRoute({
  state,
  enrolment
}: {
  readonly state: AgentState
  readonly enrolment: Pick<Enrolment, 'join'>
}): AdminHandlers['join'] {
  return async ({ token }) => {
    const { already } = await enrolment.join({ token })
    return { ...joinedAnswer(state), ...(already ? { already } : {}) }
  }
}
