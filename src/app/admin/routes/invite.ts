// POST /v1/invite for `meshctl invite`: creates a token with which another cluster can join the mesh. POST
// /v1/invite/gateway creates one for one more gateway of the own cluster. Tokens are secrets, and these are the only answers
// of the API that have one.
import type { GatewayInvites } from '../../enrolment/gateway-invites.ts'
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
      // The first token of a cluster is void from now on: its holder hears "cancelled" at every door.
      ...(made.takesBack.length === 0
        ? {}
        : {
            takesBack: made.takesBack.map(({ cluster, madeMs }) => ({
              cluster,
              made: new Date(madeMs).toISOString()
            }))
          }),
      ...warningsOf([...made.warnings, ...nameWarnings(request.cluster, log)])
    }
  }
}

/** Returns the handlers for further gateways of the own cluster. Errors: those of GatewayInvites. */
export function gatewayRoutes({
  gateways
}: {
  readonly gateways: Pick<GatewayInvites, 'invite' | 'cancel'>
}): Pick<AdminHandlers, 'inviteGateway' | 'cancelGateways'> {
  return {
    inviteGateway: async (request) => {
      const { expiresMs, ...made } = await gateways.invite(request)
      return { ...made, expires: new Date(expiresMs).toISOString() }
    },
    cancelGateways: async () => ({ cancelled: await gateways.cancel() })
  }
}
