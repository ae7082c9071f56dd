// The decision of a gateway on the knock of one more gateway of its cluster: whether the newcomer gets the key of the
// cluster. Pure: the caller keeps the invites on its disk, and writes who has used one before it answers.
//   this agent stands itself → the invite is kept, and of this cluster key → no other agent has used it → the newcomer is not
//   barred → the date
// Invariants
//   1. One invite gives the key to one PeerId. The same PeerId gets it again, whatever the date: it may have crashed
//      before it wrote the first answer.
//   2. An invite that was made for another key of the cluster gives nothing: a new key of the cluster ends all of them.
//   3. The key of an heir's invite is public: it is in the PeerId. So that invite is known to that PeerId only, and no other
//      agent learns that it is kept.
import { publicKeyOf } from '../../model/identity.ts'
import { durationText, timeText } from '../../model/time-text.ts'
import type { Origin } from '../../model/values.ts'
import { type KeyId, keyId } from '../set/ids.ts'
import { type HandshakeCode, rejection } from './codes.ts'
import type { RejectAnswer } from './port.ts'

/** An invite of one more gateway, as the gateway that made it keeps it. */
export interface GatewayInvite {
  /** The public key of the token. */
  readonly key: KeyId
  /** The cluster key that it is for. */
  readonly clusterKey: KeyId
  /** Unix seconds, by the clock of this host, which no other clock is compared with. */
  readonly notAfter: number
  /** The agent that has used it; absent while it is open. */
  readonly usedBy?: Origin | undefined
}

/** The gateway that is asked. */
interface Giver {
  /** The key of its cluster. */
  readonly clusterKey: KeyId
  /** Whether it is a member that stands. */
  readonly stands: boolean
  /** Whether a Bar names the agent that asks, as an heir or as the holder of a token. */
  readonly isBarred: (isHeir: boolean) => boolean
  /** Unix seconds by the clock of this host. */
  readonly now: number
}

/** `give`: the invite as it is to be kept from now on; `isFirst`: it is not yet kept so. */
type GatewayVerdict =
  { readonly kind: 'give'; readonly invite: GatewayInvite; readonly isFirst: boolean } | RejectAnswer

/** The remedy of all refusals that no later try will change. */
export const NEW_GATEWAY_TOKEN =
  'make a new token on a gateway of the cluster (`meshctl invite --gateway`); it counts at that gateway only'
/** The remedy of a token that another agent has used. It may be a thief, who then has the key of the cluster. */
const IS_IT_YOURS =
  'see `meshctl invite list` on the gateway that made it; if that agent is not yours, the cluster key is stolen (docs/trust.md)'

/** Judges the knock of an agent that has proved the secret of the token with this key. */
export function judgeGateway(
  invites: readonly GatewayInvite[],
  { key, peer }: { readonly key: KeyId; readonly peer: Origin },
  giver: Giver
): GatewayVerdict {
  if (!giver.stands) return reject('busy', 'the dialled gateway does not stand itself')
  const invite = invites.find((one) => one.key === key && one.clusterKey === giver.clusterKey)
  if (invite === undefined)
    return reject('cancelled', 'the dialled agent keeps no such invite of a gateway', NEW_GATEWAY_TOKEN)
  const { notAfter, usedBy } = invite
  if (usedBy !== undefined && usedBy !== peer)
    return reject('used', `the agent ${usedBy} has used this token`, IS_IT_YOURS)
  if (giver.isBarred(isHeir(invite)))
    return reject('barred', 'a bar of its cluster names the dialling agent', NEW_GATEWAY_TOKEN)
  if (usedBy === undefined && giver.now > notAfter)
    return reject(
      'expired',
      `the token expired ${durationText(giver.now - notAfter)} ago, at ${timeText(notAfter)} by the clock of the gateway that made it`,
      NEW_GATEWAY_TOKEN
    )
  return { kind: 'give', invite: { ...invite, usedBy: peer }, isFirst: usedBy === undefined }
}

/**
 * Whether an invite is for an agent that a person named with `meshctl key rotate --cluster --keep`: its key is the own key of
 * that agent, and there is no token.
 */
export function isHeir({ key, usedBy }: GatewayInvite): boolean {
  const agentKey = usedBy === undefined ? undefined : publicKeyOf(usedBy)
  return agentKey !== undefined && keyId(agentKey) === key
}

/** Whether an agent that shows this key may ask: an invite has the key, and is not that of another agent (invariant 3). */
export function mayAsk(
  invites: readonly GatewayInvite[],
  { key, peer }: { readonly key: KeyId; readonly peer: Origin }
): boolean {
  return invites.some((one) => one.key === key && (one.usedBy === peer || !isHeir(one)))
}

function reject(code: HandshakeCode, reason: string, remedy?: string): RejectAnswer {
  return { kind: 'reject', ...rejection(code, reason, remedy), explain: [] }
}
