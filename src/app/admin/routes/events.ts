// GET /v1/events for `meshctl events`: what was refused from which peer, and what this agent did about it.
import { requireSession } from '../../session/current-session.ts'
import type { AgentState } from '../agent-state.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED. */
export function eventsRoute(state: AgentState): AdminHandlers['events'] {
  return async () => ({ events: requireSession(state.session).control.events.rows() })
}
