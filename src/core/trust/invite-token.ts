// Tokens of invites, which `meshctl invite` prints and `meshctl join` takes: "rzm2_" || base64url(InviteToken || first 4
// bytes of its SHA-256). A token is a secret, so no error message quotes any part of it.
// Invariants
//   1. decodeInviteToken never throws on any text.
//   2. A decoded token's invite is signed by a seat of the mesh whose roots the token names, so a member that proves
//      itself by those roots is a member of the mesh that invited.
import { equalBytes } from '../model/bytes.ts'
import type { Crypto } from '../model/crypto.ts'
import { meshIdText } from '../model/identity.ts'
import { parseRealPrefix, realPrefixText, type RealPrefix } from '../model/translation.ts'
import {
  decodeInviteToken as decodeTokenMessage,
  decodeTrustItem,
  encodeMessage,
  wire
} from '../wire/messages.ts'
import { openItem } from './set/form.ts'
import { bytesOf } from './set/ids.ts'
import type { MeshRoots } from './set/mesh-roots.ts'
import type { Invite } from './set/statement.ts'
import {
  bodyOfToken,
  bootstrapFault,
  encodeTokenText,
  malformedToken,
  refusedToken,
  type TokenFault,
  type TokenRefused,
  tokenRoots
} from './token-text.ts'

/** A decoded token that this agent can redeem. */
interface InviteToken {
  readonly kind: 'token'
  readonly roots: MeshRoots
  readonly invite: Invite
  /** The encoded TrustItem of the invite: its seats, and the invite last. */
  readonly inviteItem: Uint8Array
  /** The Ed25519 seed that redeems the invite, 32 bytes; a secret. */
  readonly inviteSeed: Uint8Array
  /** One to 16 multiaddrs that end in /p2p/<PeerId>. */
  readonly bootstrap: readonly string[]
  /**
   * The prefixes that the cluster really uses, where the inviter named them: those of the invite stand for them. Empty: the
   * inviter knows of no translation. They are not signed, because they give no right; a join that forgets them is refused.
   */
  readonly realPrefixes: readonly Omit<RealPrefix, 'virtual'>[]
  /**
   * Set when the token is not valid by this host's clock. Only the sponsor decides on dates, and its answer counts, so a
   * wrong clock here does not keep a cluster out. `meshctl join` shows it after the sponsor has let the cluster in.
   */
  readonly warning: TokenFault<'expired' | 'notYetValid'> | undefined
}

/**
 * Encodes a token as text. Throws RangeError when the bootstrap addresses are malformed or not 1 to 16, or when the item
 * is not decodable.
 */
export function encodeInviteToken(
  crypto: Crypto,
  token: Pick<InviteToken, 'inviteItem' | 'inviteSeed' | 'bootstrap'> &
    Partial<Pick<InviteToken, 'realPrefixes'>> & {
      readonly roots: Pick<MeshRoots, 'k' | 'keys'>
    }
): string {
  const item = decodeTrustItem(token.inviteItem)
  if (item === undefined) throw new RangeError('the item of the invite is not decodable')
  const fault = bootstrapFault(token.bootstrap)
  if (fault !== undefined) throw new RangeError(fault)
  const body = encodeMessage<object>(wire.InviteToken, {
    k: token.roots.k,
    rootKeys: token.roots.keys,
    item,
    inviteSeed: token.inviteSeed,
    bootstrap: [...token.bootstrap],
    realPrefixes: (token.realPrefixes ?? []).map(realPrefixText)
  })
  return encodeTokenText(crypto, 'rzm', body)
}

/**
 * Decodes a token. `nowSeconds` (Unix seconds) decides on the warning only. When this agent is in a mesh, the token must
 * be of it. White space around and inside the token, as from a mail that wrapped the line, is ignored. Never throws.
 */
export function decodeInviteToken(
  text: string,
  options: { readonly crypto: Crypto; readonly nowSeconds: number; readonly meshId: Uint8Array | undefined }
): InviteToken | TokenRefused {
  const { crypto } = options
  const body = bodyOfToken(crypto, 'rzm', text)
  if (!(body instanceof Uint8Array)) return body
  const message = decodeTokenMessage(body)
  const isExact = message !== undefined && equalBytes(encodeMessage<object>(wire.InviteToken, message), body)
  if (!isExact || message.item === null)
    return malformedToken('it cannot be decoded, or has fields that this version does not know')
  const roots = tokenRoots(crypto, message)
  if (roots === undefined) return malformedToken('its root keys are not those of a mesh')
  const inviteItem = encodeMessage<object>(wire.TrustItem, message.item)
  const item = openItem({ crypto, roots }, inviteItem)
  if (item.kind === 'refused') return malformedToken(`its ${item.statement} is refused: ${item.reason}`)
  const invite = item.statements.at(-1)?.statement
  if (invite?.kind !== 'invite') return malformedToken('it holds no invite')
  const { bootstrap } = message
  // A copy: the field is a view of the whole token.
  const inviteSeed = new Uint8Array(message.inviteSeed)
  const isRedeemable =
    inviteSeed.length === 32 && equalBytes(crypto.publicKeyOf(inviteSeed), bytesOf(invite.inviteKey))
  if (!isRedeemable) return malformedToken('its secret does not belong to its invite')
  const fault = bootstrapFault(bootstrap)
  if (fault !== undefined) return malformedToken(fault)
  const realPrefixes = message.realPrefixes.slice(0, REAL_PREFIXES_MAX + 1).map(parseRealPrefix)
  if (realPrefixes.length > REAL_PREFIXES_MAX || !realPrefixes.every(isRealAlone))
    return malformedToken('its real prefixes are malformed')
  if (options.meshId !== undefined && !equalBytes(options.meshId, roots.meshId)) {
    return refusedToken(
      'foreign',
      `the token is for ${meshIdText(roots.meshId)}; this agent is in ${meshIdText(options.meshId)}`,
      'Leave the present mesh first (`meshctl leave`), or ask for a token of the mesh that this agent is in.'
    )
  }
  const warning = timeWarning(invite, options.nowSeconds)
  return { kind: 'token', roots, invite, inviteItem, inviteSeed, bootstrap, realPrefixes, warning }
}

// As many as a cluster can have (model/prefixes.ts), of both kinds.
const REAL_PREFIXES_MAX = 64

/** A token names real prefixes only: the join pairs them with those of the invite. */
function isRealAlone(prefix: RealPrefix | undefined): prefix is RealPrefix {
  return prefix !== undefined && prefix.virtual === undefined
}

/** What this host's clock says about the dates of an invite. */
function timeWarning({ notBefore, notAfter }: Invite, nowSeconds: number): InviteToken['warning'] {
  if (nowSeconds > notAfter)
    return {
      code: 'expired',
      message: `the token was valid until ${instant(notAfter)}, by the clock of this host`,
      fix: 'Ask for a new token (`meshctl invite`); if the clock of this host is wrong, correct it.'
    }
  if (nowSeconds < notBefore)
    return {
      code: 'notYetValid',
      message: `the token is valid from ${instant(notBefore)}, by the clock of this host`,
      fix: 'Correct the clock of this host; if it is right, the clock of the host that made the token is wrong.'
    }
  return undefined
}

/** Unix seconds as ISO 8601. */
function instant(seconds: number): string {
  return new Date(seconds * 1000).toISOString()
}
