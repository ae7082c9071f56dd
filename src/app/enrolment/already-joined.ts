// The refusal of `init` and `join` on an agent that is in a mesh. It says to which cluster and mesh the agent belongs and
// for which ones the token is, because the token may have been meant for another host.
import type { Crypto } from '../../core/model/crypto.ts'
import { equalBytes } from '../../core/model/bytes.ts'
import { meshIdText } from '../../core/model/identity.ts'
import { decodeGatewayToken, isGatewayToken } from '../../core/trust/gateway-token.ts'
import { decodeInviteToken } from '../../core/trust/invite-token.ts'
import type { Membership } from '../identity/identity.ts'
import { AppError } from '../observe/errors.ts'

/**
 * Returns the error ALREADY_JOINED. `token`: the token of `join`; undefined for `init` and for a restore. `nowMs`: Unix
 * milliseconds.
 */
export function alreadyJoined(
  { cluster, roots: { meshId } }: Pick<Membership, 'cluster' | 'roots'>,
  options: {
    readonly crypto: Crypto
    readonly token?: string | undefined
    readonly isRestore?: boolean
    /** False: a statement has ended this agent or its cluster in the mesh. */
    readonly stands?: boolean
    readonly nowMs: number
  }
): AppError {
  const belongs = `this agent already belongs to cluster ${cluster} of ${meshIdText(meshId)}`
  const refusal = (rest: string, fix: string): AppError =>
    new AppError('ALREADY_JOINED', `${belongs}${rest}`, fix)
  const { crypto, token: text, nowMs, isRestore = false } = options
  // A leave would end the cluster for all members, and the backup with it.
  if (isRestore)
    return refusal(
      '',
      'keep this membership, which needs no backup: what it has missed comes from the other members'
    )
  if (text === undefined)
    return refusal('', 'keep this membership; to make another mesh, run `meshctl leave` first')
  if (isGatewayToken(text)) {
    const token = decodeGatewayToken(crypto, text)
    const what = token.kind === 'refused' ? 'a gateway' : `one more gateway of cluster ${token.cluster}`
    return refusal(
      `; the token is for ${what}`,
      'run `meshctl join` on the host that is to become that gateway; to make this host one, run `meshctl leave` first'
    )
  }
  const token = decodeInviteToken(text, { crypto, nowSeconds: Math.floor(nowMs / 1000), meshId: undefined })
  if (token.kind === 'refused') {
    return refusal(
      `; the token cannot be used: ${token.message}`,
      'keep this membership; to join with another token, run `meshctl leave` first'
    )
  }
  const { invite, roots } = token
  const there = `run \`meshctl join\` on a gateway of cluster ${invite.cluster}`
  if (!equalBytes(roots.meshId, meshId)) {
    return refusal(
      `; the token is for cluster ${invite.cluster} of ${meshIdText(roots.meshId)}`,
      `${there}; to move this cluster there, run \`meshctl leave\` first`
    )
  }
  if (invite.cluster !== cluster)
    return refusal(`; the token is for cluster ${invite.cluster} of the same mesh`, there)
  if (options.stands === false)
    return refusal(
      ' and was ended there; the token is another one for the same cluster',
      'run `meshctl leave` here, then join again with this token'
    )
  return refusal(
    '; the token is another one for the same cluster',
    'keep this membership: it needs no other token'
  )
}
