// POST /v1/cert/renew for `meshctl cert renew`: raises the generation of this cluster's certificates. No statement of an
// administrator takes part: the cluster's own key signs the new certificate, which the members get with its records.
import { requireSession } from '../../session/current-session.ts'
import type { AgentState } from '../agent-state.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED and those of Session.renewCertificate; StoreError. */
export function certRenewRoute(state: Pick<AgentState, 'session'>): AdminHandlers['certRenew'] {
  return async (request) => {
    const session = requireSession(state.session)
    const renewed = await session.renewCertificate(request)
    const { cluster } = session.membership
    return { cluster, ...renewed, neighbours: session.control.neighbours().length }
  }
}
