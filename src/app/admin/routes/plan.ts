// GET /v1/plan for `meshctl plan`: the operations that a pass over the host would apply now, each with its shell
// commands. The request reads the host and changes nothing on it. Without a data plane, the plan is the one for an
// empty host.
import { requireSession } from '../../session/current-session.ts'
import type { AgentState } from '../agent-state.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED, HostError. */
export function planRoute(state: Pick<AgentState, 'session' | 'describe'>): AdminHandlers['plan'] {
  return async () => {
    const session = requireSession(state.session)
    const ops = (await session.reconciler?.preview())?.ops ?? session.paperPlan()
    return { inStep: ops.length === 0, steps: ops.map((op) => ({ op, commands: state.describe(op) })) }
  }
}
