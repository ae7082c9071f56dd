// POST /v1/invite: creates a token with which another cluster can join the mesh.
import type { Invitations } from '../../enrolment/invitations.ts'
import type { Log } from '../../observe/log.ts'
import { nameWarnings, warningsOf } from '../joined-answer.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: those of Invitations.invite. */
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
      expires: new Date(made.expiresMs).toISOString(),
      podCidrs: made.podPrefixes,
      serviceCidrs: made.servicePrefixes,
      bootstrap: made.bootstrap,
      ...warningsOf([...made.warnings, ...nameWarnings(request.cluster, log)])
    }
  }
}
