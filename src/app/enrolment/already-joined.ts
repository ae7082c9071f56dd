// The refusal of `init` and `join` on an agent that is in a mesh. It says to which cluster and mesh the agent belongs and
// for which ones the token is, because the token may have been meant for another host.
import type { Crypto } from '../../core/model/crypto.ts'
import { equalBytes } from '../../core/model/bytes.ts'
import { meshIdText } from '../../core/model/identity.ts'
import { decodeGatewayToken, isGatewayToken } from '../../core/trust/gateway-token.ts'
import { decodeInviteToken } from '../../core/trust/invite-token.ts'
import type { Membership } from '../identity/identity.ts'
import { AppError } from '../observe/errors.ts'

const NOT_IN_PLACE =
  ', and a member takes no translation in place: all other clusters would lose the addresses that they know'

// A leave would end the cluster for all members, and the backup with it.
const KEEP = 'keep this membership, which needs no backup: what it has missed comes from the other members'
/** The rest of the message, and the fix, where the membership has ended already. */
const RESTORE_OVER_ENDED = [
  ' and was ended there',
  'run `meshctl leave` here, then restore the backup; members refuse it, too, if the whole cluster was ended'
] as const

/** What was asked of an agent that is in a mesh. */
export interface AskedWhileJoined {
  /** The token of `join`; undefined for `init` and for a restore. */
  readonly token?: string | undefined
  readonly isRestore?: boolean
  /** Whether the request asks for a translation of addresses (docs/overlap.md). */
  readonly translates?: boolean
}

/** Returns the error ALREADY_JOINED. `nowMs`: Unix milliseconds. */
export function alreadyJoined(
  { cluster, roots: { meshId } }: Pick<Membership, 'cluster' | 'roots'>,
  options: AskedWhileJoined & {
    readonly crypto: Crypto
    /** False: a statement has ended this agent or its cluster in the mesh. */
    readonly stands?: boolean
    readonly nowMs: number
  }
): AppError {
  const belongs = `this agent already belongs to cluster ${cluster} of ${meshIdText(meshId)}`
  const refusal = (rest: string, fix: string): AppError =>
    new AppError('ALREADY_JOINED', `${belongs}${rest}`, fix)
  const { crypto, token: text, nowMs, isRestore = false } = options
  if (isRestore) return options.stands === false ? refusal(...RESTORE_OVER_ENDED) : refusal('', KEEP)
  if (options.translates === true && isForSame(options, { cluster, meshId }))
    return refusal(NOT_IN_PLACE, translationSteps(cluster))
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

/** Whether a request is for the cluster of this agent: it has no token, or one for the same cluster of the same mesh. */
function isForSame(
  {
    crypto,
    token: text,
    nowMs
  }: { readonly crypto: Crypto; readonly token?: string | undefined; readonly nowMs: number },
  { cluster, meshId }: { readonly cluster: string; readonly meshId: Uint8Array }
): boolean {
  if (text === undefined) return true
  if (isGatewayToken(text)) return false
  const token = decodeInviteToken(text, { crypto, nowSeconds: Math.floor(nowMs / 1000), meshId: undefined })
  return (
    token.kind !== 'refused' && equalBytes(token.roots.meshId, meshId) && token.invite.cluster === cluster
  )
}

function translationSteps(cluster: string): string {
  const flags = '--real-pod-cidr <cidr> --real-service-cidr <cidr>'
  return (
    'when its connections to other clusters may end for a moment, (1) run `meshctl leave` on each gateway of this cluster, ' +
    `(2) on an administrator’s agent of another cluster \`meshctl invite ${cluster} ${flags} > ${cluster}.token\`, ` +
    `and (3) here \`meshctl join --token-file ${cluster}.token ${flags}\`; with Kubernetes, --translate takes the place of these flags in (3)`
  )
}
