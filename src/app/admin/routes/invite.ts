// POST /v1/invite for `meshctl invite`: creates a token with which another cluster can join the mesh. The token is a
// secret, and this is the only answer of the API that has one.
import type { Invitations } from '../../enrolment/invitations.ts'
import type { Log } from '../../observe/log.ts'
import { nameWarnings, warningsOf } from '../joined-answer.ts'
import type { AdminHandlers } from '../server.ts'

/**
 * Returns the handler. Its answer has the prefixes that the token grants, named or chosen, and warnings for choices
 * that the operator should check. Errors: those of Invitations.invite.
 */
export function inviteRoute({
  invitations,
  log
}: {
  readonly invitations: Pick<Invitations, 'invite'>
  readonly log: Log
}): AdminHandlers['invite'] {
  return async (request) => {
    const made = await invitations.invite(request)
    return {
      token: made.token,
      cluster: request.cluster,
      ...(request.replace === undefined ? {} : { replaces: request.replace }),
      expires: new Date(made.expiresMs).toISOString(),
      podCidrs: made.podPrefixes,
      serviceCidrs: made.servicePrefixes,
      bootstrap: made.bootstrap,
      ...warningsOf([...made.warnings, ...nameWarnings(request.cluster, log)])
    }
  }
}
