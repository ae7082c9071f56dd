// POST /v1/join for `meshctl join`: joins the mesh of a token. It answers when a member has accepted this cluster, or
// after 20 s with the error UNREACHABLE. If a member refuses the cluster, nothing of the attempt is kept on disk. If no
// member answered, the token is kept: a later join with the same token uses the same key, another token replaces it, and `leave`
// discards it.
import { isGatewayToken } from '../../../core/trust/gateway-token.ts'
import type { Enrolment } from '../../enrolment/enrolment.ts'
import type { AgentState } from '../agent-state.ts'
import { joinedAnswer, warningsOf } from '../joined-answer.ts'
import type { AdminHandlers } from '../server.ts'

/**
 * Returns the handler. A second join with the same token answers `already` and changes nothing. Errors: those of
 * Enrolment.join.
 */
export function joinRoute({
  state,
  enrolment
}: {
  readonly state: AgentState
  readonly enrolment: Pick<Enrolment, 'join'>
}): AdminHandlers['join'] {
  return async (request) => {
    const { token } = request
    const { already, warnings } = await enrolment.join(request)
    return {
      ...joinedAnswer(state),
      ...(isGatewayToken(token) ? { gateway: true } : {}),
      ...(already ? { already } : {}),
      ...warningsOf(warnings)
    }
  }
}
