// `meshctl invite --gateway` makes a token for one more gateway of the own cluster, on a site without Kubernetes, and
// `meshctl invite cancel --gateway` takes the open ones back. It needs no administrator: a cluster decides on its own agents.
// The requests are POST /v1/invite/gateway and POST /v1/invite/gateway/cancel.
import { ENDPOINTS } from '../../api/endpoints.ts'
import type { GatewayInviteAnswer } from '../../api/membership-answers.ts'
import { print, type Context, type Rendered } from '../meshd/context.ts'
import { formatFields } from '../output/table.ts'
import { formatDuration, formatTime } from '../output/units.ts'

/**
 * Makes the token. Errors of meshd: NOT_JOINED; KEY_IN_SECRET with Kubernetes; NOT_ADMITTED while no member has accepted the
 * cluster; TOO_MANY_INVITES; BAD_ARGUMENT when this agent cannot be dialled.
 */
export async function inviteGateway(context: Context, ttlSeconds: number): Promise<void> {
  const answer = await context.client.request(ENDPOINTS.inviteGateway, {
    send: { ttlSeconds },
    field: 'token',
    doing: 'making the token'
  })
  print(context, answer, (clean) => renderGatewayInvite(clean, ttlSeconds))
}

/** Takes all open invites of gateways of this agent back. Errors of meshd: NO_INVITE, NOT_JOINED. */
export async function cancelGateways(context: Context): Promise<void> {
  const answer = await context.client.request(ENDPOINTS.cancelGateways, {
    send: {},
    field: 'cancelled',
    doing: 'cancelling the invites'
  })
  print(context, answer, ({ cancelled }) => ({
    body:
      cancelled === 1
        ? 'Cancelled the open invite of a gateway.'
        : `Cancelled ${cancelled} invites of gateways.`
  }))
}

/** Returns the token as the body, and everything else as the note, which goes to stderr. */
function renderGatewayInvite(answer: GatewayInviteAnswer, ttlSeconds: number): Rendered {
  const fields = formatFields([
    ['Valid until', `${formatTime(answer.expires)} (${formatDuration(ttlSeconds)})`],
    ['Bootstrap', answer.bootstrap.join(', ') || 'none']
  ])
  return {
    body: answer.token,
    note: `\nToken for one more gateway of cluster ${answer.cluster}. Keep it secret, like the key of the cluster.\n\n${fields}

On the new host, with meshd running and the same manifests:
  meshctl join --token-file <file>     (or give it on stdin)`
  }
}
