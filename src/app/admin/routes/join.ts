// POST /v1/join: answers when a member has accepted this cluster, or with the reason why not; nothing is kept then.
import type { Enrolment } from '../../enrolment/enrolment.ts'
import type { AgentState } from '../agent-state.ts'
import { joinedAnswer } from '../joined-answer.ts'
import type { AdminHandlers } from '../server.ts'

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
