// Tokens of invites, which `meshctl invite` prints and `meshctl join` takes: "rzm2_" || base64url(InviteToken || first 4
// bytes of its SHA-256). A token is a secret, so no error message quotes any part of it.
// Invariants
//   1. decodeInviteToken never throws on any text.
//   2. A decoded token's invite is signed by a seat of the mesh whose roots the token names, so a member that proves
//      itself by those roots is a member of the mesh that invited.
import { base64url } from 'multiformats/bases/base64'
import { equalBytes } from '../model/bytes.ts'
import type { Crypto } from '../model/crypto.ts'
import { meshIdText, parseOrigin } from '../model/identity.ts'
import {
  decodeInviteToken as decodeTokenMessage,
  decodeTrustItem,
  encodeMessage,
  wire
} from '../wire/messages.ts'
import { openItem } from './set/form.ts'
import { bytesOf } from './set/ids.ts'
import { meshRoots, type MeshRoots } from './set/mesh-roots.ts'
import type { Invite } from './set/statement.ts'

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
   * Set when the token is not valid by this host's clock. Only the sponsor decides on dates, and its answer counts, so a
   * wrong clock here does not keep a cluster out. `meshctl join` shows it after the sponsor has let the cluster in.
   */
  readonly warning: TokenFault<'expired' | 'notYetValid'> | undefined
}

/** A token that is refused, and what the operator can do about it. `foreign`: it is a token of another mesh. */
export interface InviteTokenRefused extends TokenFault<
  'empty' | 'notAToken' | 'damaged' | 'olderVersion' | 'newerVersion' | 'malformed' | 'foreign'
> {
  readonly kind: 'refused'
}

/** A code for programs, and two sentences for people. */
interface TokenFault<Code extends string> {
  readonly code: Code
  readonly message: string
  readonly fix: string
}

/**
 * Encodes a token as text. Throws RangeError when the bootstrap addresses are malformed or not 1 to 16, or when the item
 * is not decodable.
 */
export function encodeInviteToken(
  crypto: Crypto,
  token: Pick<InviteToken, 'inviteItem' | 'inviteSeed' | 'bootstrap'> & {
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
    bootstrap: [...token.bootstrap]
  })
  const bytes = new Uint8Array(body.length + CHECKSUM_BYTES)
  bytes.set(body)
  bytes.set(checksum(crypto, body), body.length)
  return PREFIX + base64url.encoder.baseEncode(bytes)
}

/**
 * Decodes a token. `nowSeconds` (Unix seconds) decides on the warning only. When this agent is in a mesh, the token must
 * be of it. White space around and inside the token, as from a mail that wrapped the line, is ignored. Never throws.
 */
export function decodeInviteToken(
  text: string,
  options: { readonly crypto: Crypto; readonly nowSeconds: number; readonly meshId: Uint8Array | undefined }
): InviteToken | InviteTokenRefused {
  const { crypto } = options
  const body = bodyOf(crypto, text)
  if (!(body instanceof Uint8Array)) return body
  const message = decodeTokenMessage(body)
  const isExact = message !== undefined && equalBytes(encodeMessage<object>(wire.InviteToken, message), body)
  if (!isExact || message.item === null)
    return malformed('it cannot be decoded, or has fields that this version does not know')
  const roots = rootsOf(crypto, message)
  if (roots === undefined) return malformed('its root keys are not those of a mesh')
  const inviteItem = encodeMessage<object>(wire.TrustItem, message.item)
  const item = openItem({ crypto, roots }, inviteItem)
  if (item.kind === 'refused') return malformed(`its ${item.statement} is refused: ${item.reason}`)
  const invite = item.statements.at(-1)?.statement
  if (invite?.kind !== 'invite') return malformed('it holds no invite')
  const { bootstrap } = message
  // A copy: the field is a view of the whole token.
  const inviteSeed = new Uint8Array(message.inviteSeed)
  const isRedeemable =
    inviteSeed.length === 32 && equalBytes(crypto.publicKeyOf(inviteSeed), bytesOf(invite.inviteKey))
  if (!isRedeemable) return malformed('its secret does not belong to its invite')
  const fault = bootstrapFault(bootstrap)
  if (fault !== undefined) return malformed(fault)
  if (options.meshId !== undefined && !equalBytes(options.meshId, roots.meshId)) {
    return refused(
      'foreign',
      `the token is for ${meshIdText(roots.meshId)}; this agent is in ${meshIdText(options.meshId)}`,
      'Leave the present mesh first (`meshctl leave`), or ask for a token of the mesh that this agent is in.'
    )
  }
  const warning = timeWarning(invite, options.nowSeconds)
  return { kind: 'token', roots, invite, inviteItem, inviteSeed, bootstrap, warning }
}

/** The version of the token's format; "rzm" stands before it. */
const VERSION = 2
const PREFIX = `rzm${VERSION}_`
// The checksum finds a token that was cut or mistyped. The signatures of its statements protect from forgery.
const CHECKSUM_BYTES = 4
// Base64url characters of a token: two seats and an invite of 4 KiB each, and 16 bootstrap addresses, at their limits.
const TEXT_CHARACTERS_MAX = 24_000
const BOOTSTRAP_MAX = 16
const MULTIADDR_CHARACTERS_MAX = 256
const PASTE = 'Paste the whole line that `meshctl invite` printed.'

/** The encoded InviteToken inside the text, or why there is none: prefix, version, length and checksum. */
function bodyOf(crypto: Crypto, text: string): Uint8Array | InviteTokenRefused {
  // The length is bounded before the text is scanned; twice the limit leaves room for the white space of a wrapped
  // line.
  const compact = text.length > 2 * TEXT_CHARACTERS_MAX ? text : text.replaceAll(/\s+/g, '')
  if (compact === '') return refused('empty', 'the token is empty', PASTE)
  const version = /^rzm([0-9]{1,4})_/.exec(compact)?.[1]
  if (version === undefined || compact.length > TEXT_CHARACTERS_MAX)
    return refused('notAToken', `this is not a token: a token starts with "${PREFIX}"`, PASTE)
  if (version !== String(VERSION)) {
    const what = `the token has version ${version}, but this agent reads only version ${VERSION}`
    return Number(version) < VERSION
      ? refused('olderVersion', what, 'Ask for a new token from an agent of this version (`meshctl invite`).')
      : refused(
          'newerVersion',
          what,
          'Upgrade this agent, or create the token with an older agent (`meshctl invite`).'
        )
  }
  const body = openEnvelope(crypto, compact.slice(PREFIX.length))
  return (
    body ??
    refused(
      'damaged',
      'the checksum of the token is wrong: a part of the token is missing or mistyped',
      'Copy the whole token again from the output of `meshctl invite`.'
    )
  )
}

/**
 * Returns the encoded InviteToken inside the base64url text; undefined when the text is no base64url or fails its
 * checksum.
 */
function openEnvelope(crypto: Crypto, text: string): Uint8Array | undefined {
  let bytes: Uint8Array
  try {
    bytes = base64url.decoder.baseDecode(text)
  } catch {
    return undefined // not base64url
  }
  if (bytes.length <= CHECKSUM_BYTES) return undefined
  const body = bytes.subarray(0, -CHECKSUM_BYTES)
  return equalBytes(checksum(crypto, body), bytes.subarray(-CHECKSUM_BYTES)) ? body : undefined
}

/** The first bytes of the hash of a body. */
function checksum(crypto: Crypto, body: Uint8Array): Uint8Array {
  return crypto.sha256(body).subarray(0, CHECKSUM_BYTES)
}

/** The roots that a token names; undefined when no mesh can have them. */
function rootsOf(
  crypto: Crypto,
  { k, rootKeys }: { readonly k: number; readonly rootKeys: readonly Uint8Array[] }
): MeshRoots | undefined {
  try {
    return meshRoots(
      crypto,
      k,
      rootKeys.map((key) => new Uint8Array(key))
    )
  } catch {
    return undefined // a RangeError: the number of keys, a malformed key, or k
  }
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

/**
 * Returns the fault of a bootstrap list. An address without a PeerId is refused, since any host at that address could
 * pose as a member.
 */
function bootstrapFault(bootstrap: readonly string[]): string | undefined {
  if (bootstrap.length === 0 || bootstrap.length > BOOTSTRAP_MAX)
    return `it has ${bootstrap.length} bootstrap addresses; 1 to ${BOOTSTRAP_MAX} are allowed`
  const bad = bootstrap.find((address) => {
    const peerId = /^(?:\/[A-Za-z0-9._:%-]+)+\/p2p\/([A-Za-z0-9]+)$/.exec(address)?.[1]
    return (
      address.length > MULTIADDR_CHARACTERS_MAX || peerId === undefined || parseOrigin(peerId) === undefined
    )
  })
  return bad === undefined ? undefined : 'a bootstrap address is malformed or does not end in /p2p/<PeerId>'
}

function malformed(what: string): InviteTokenRefused {
  return refused(
    'malformed',
    `the token is malformed: ${what}`,
    'Ask for a new token from an agent of the same version (`meshctl invite`).'
  )
}

function refused(code: InviteTokenRefused['code'], message: string, fix: string): InviteTokenRefused {
  return { kind: 'refused', code, message, fix }
}
