// What a newcomer is told when a member let it in by a token that is not valid by the clock of its own host. The clock of
// this host decides nothing, but the operator should know that it is wrong: logs and certificates of other programs use it.
import type { Crypto } from '../../core/model/crypto.ts'
import { decodeInviteToken } from '../../core/trust/invite-token.ts'

/**
 * Returns one sentence when the token is not valid by this host's clock (`nowMs`, Unix milliseconds), else none. Call it
 * after a member has let this cluster in.
 */
export function tokenDateWarnings(
  text: string | undefined,
  { crypto, nowMs }: { readonly crypto: Crypto; readonly nowMs: number }
): readonly string[] {
  if (text === undefined) return []
  const token = decodeInviteToken(text, { crypto, nowSeconds: Math.floor(nowMs / 1000), meshId: undefined })
  if (token.kind === 'refused' || token.warning === undefined) return []
  return [`${token.warning.message}, but a member let this cluster in: check the clock of this host`]
}
