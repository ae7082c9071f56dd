// POST /v1/init: creates a mesh whose first member is this cluster.
import type { Enrolment } from '../../enrolment/enrolment.ts'
import type { Log } from '../../observe/log.ts'
import type { AgentState } from '../agent-state.ts'
import { joinedAnswer, nameWarnings, warningsOf } from '../joined-answer.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: those of Enrolment.init. */
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
