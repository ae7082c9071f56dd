// POST /v1/init for `meshctl init`: creates a mesh whose first member is this cluster. The agent that answers holds the root
// key of the mesh from now on, and the first administrator's seat, by which it invites. Other agents can get seats.
import type { Enrolment } from '../../enrolment/enrolment.ts'
import type { Log } from '../../observe/log.ts'
import type { AgentState } from '../agent-state.ts'
import { joinedAnswer, nameWarnings, warningsOf } from '../joined-answer.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. It resolves when this agent is in the new mesh. Errors: those of Enrolment.init. */
export function initRoute({
  state,
  enrolment,
  log
}: {
  readonly state: AgentState
  readonly enrolment: Pick<Enrolment, 'init'>
  readonly log: Log
}): AdminHandlers['init'] {
  return async (request) => {
    await enrolment.init(request)
    return { ...joinedAnswer(state), ...warningsOf(nameWarnings(request.cluster, log)) }
  }
}
