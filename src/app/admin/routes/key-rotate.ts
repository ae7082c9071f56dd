// POST /v1/key/rotate for `meshctl key rotate`: gives this agent a new tunnel key. The other members hear of it by the
// record of this agent.
import { requireSession } from '../../session/current-session.ts'
import type { AgentState } from '../agent-state.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED and those of KeyRotation.rotate; StoreError. */
export function keyRotateRoute(state: Pick<AgentState, 'session'>): AdminHandlers['keyRotate'] {
  return async () => {
    const { isPending, ...keys } = await requireSession(state.session).ownRecord.rotation.rotate()
    return { ...keys, ...(isPending && { pending: true }) }
  }
}
