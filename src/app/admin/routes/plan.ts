// GET /v1/plan: what a pass over the host would do now. It only reads.
import { requireSession } from '../../session/current-session.ts'
import type { AgentState } from '../agent-state.ts'
import type { AdminHandlers } from '../server.ts'

/** Errors: AppError NOT_JOINED, HostError. */
export function planRoute(state: Pick<AgentState, 'session' | 'describe'>): AdminHandlers['plan'] {
  return async () => {
    const session = requireSession(state.session)
    const ops = (await session.reconciler?.preview()) ?? session.paperPlan()
    return { inStep: ops.length === 0, steps: ops.map((op) => ({ op, commands: state.describe(op) })) }
  }
}
