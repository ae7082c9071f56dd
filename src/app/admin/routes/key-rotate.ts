// POST /v1/key/rotate for `meshctl key rotate`: gives this agent a new tunnel key. The other members hear of it by the
// record of this agent. POST /v1/key/rotate/cluster for `meshctl key rotate --cluster`: gives the cluster a new key.
import type { KeySuccession } from '../../enrolment/key-succession.ts'
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

/**
 * Returns the handler. Its answer has public keys only: the token and the new seed are secrets. `kept` and `ended` are left out when no
 * other agent follows or ends with the old key. Errors: those of KeySuccession.rotate.
 */
export function clusterKeyRotateRoute({
  succession
}: {
  readonly succession: Pick<KeySuccession, 'rotate'>
}): AdminHandlers['clusterKeyRotate'] {
  return async (request) => {
    const { kept, ended, ...rotated } = await succession.rotate(request)
    return { ...rotated, ...(kept.length > 0 && { kept }), ...(ended.length > 0 && { ended }) }
  }
}
