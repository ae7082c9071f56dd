// Tokens, which `meshctl invite` prints and `meshctl join` takes: "rzm1_" || base64url(Token || first 4 bytes of its
// SHA-256). A token is a secret, so no error message quotes any part of it.
import { base64url } from 'multiformats/bases/base64'
import type { Crypto } from '../model/crypto.ts'
import { meshIdText, parseOrigin } from '../model/identity.ts'
import { decodeToken as decodeTokenMessage, encodeMessage, decodeChain, wire } from '../wire/messages.ts'
import { equalBytes } from '../model/bytes.ts'
import { type InviteChain, checkTime, verifyChain } from './chain.ts'

/** A decoded token that is valid for this agent. */
export interface Token {
  readonly kind: 'token'
  readonly invite: InviteChain
  /** The Ed25519 seed that redeems the invite, 32 bytes; a secret. */
  readonly inviteSeed: Uint8Array
  /** One to 16 multiaddrs that end in /p2p/<PeerId>. */
  readonly bootstrap: readonly string[]
}

/** Why a token is refused, and what the operator can do about it. */
export interface TokenRefused {
  readonly kind: 'refused'
  /** For programs; app/identity makes the error code TOKEN_… of it. `foreign` is a token of another mesh. */
  readonly code:
    'empty' | 'notAToken' | 'damaged' | 'newerVersion' | 'malformed' | 'foreign' | 'expired' | 'notYetValid'
  readonly message: string
  readonly fix: string
}

/** Encodes a token as text. Throws RangeError when the bootstrap addresses are malformed or not 1 to 16. */
export function encodeToken(
  crypto: Crypto,
  token: Pick<Token, 'inviteSeed' | 'bootstrap'> & { readonly invite: Pick<InviteChain, 'bytes'> }
): string {
  const chain = decodeChain(token.invite.bytes)
  if (chain === undefined) throw new Error('our own invite is not decodable')
  const fault = bootstrapFault(token.bootstrap)
  if (fault !== undefined) throw new RangeError(fault)
  const body = encodeMessage<object>(wire.Token, {
    chain,
    inviteSeed: token.inviteSeed,
    bootstrap: [...token.bootstrap]
  })
  const bytes = new Uint8Array(body.length + CHECKSUM_BYTES)
  bytes.set(body)
  bytes.set(checksum(crypto, body), body.length)
  return PREFIX + base64url.encoder.baseEncode(bytes)
}

/**
 * Decodes a token and checks it against the time `nowSeconds` (Unix seconds) and, when this agent is in a mesh, against
 * its mesh id. White space around and inside the token, as from a mail that wrapped the line, is ignored. Never throws.
 */
export function decodeToken(
  text: string,
  options: { readonly crypto: Crypto; readonly nowSeconds: number; readonly meshId: Uint8Array | undefined }
): Token | TokenRefused {
  const { crypto, nowSeconds } = options
  // The length is bounded before the text is scanned; twice the limit leaves room for the white space of a wrapped
  // line.
  const compact = text.length > 2 * TEXT_CHARACTERS_MAX ? text : text.replaceAll(/\s+/g, '')
  if (compact === '')
    return refused('empty', 'the token is empty', 'Paste the whole line that `meshctl invite` printed.')
  const version = /^rzm([0-9]{1,4})_/.exec(compact)?.[1]
  if (version === undefined || compact.length > TEXT_CHARACTERS_MAX) {
    return refused(
      'notAToken',
      `this is not a token: a token starts with "${PREFIX}"`,
      'Paste the whole line that `meshctl invite` printed.'
    )
  }
  if (version !== '1') {
    return refused(
      'newerVersion',
      `the token has version ${version}, but this agent reads only version 1`,
      'Upgrade this agent, or create the token with an older agent (`meshctl invite`).'
    )
  }
  const body = openEnvelope(crypto, compact.slice(PREFIX.length))
  if (body === undefined) {
    return refused(
      'damaged',
      'the checksum of the token is wrong: a part of the token is missing or mistyped',
      'Copy the whole token again from the output of `meshctl invite`.'
    )
  }
  const message = decodeTokenMessage(body)
  if (
    message === undefined ||
    message.chain === null ||
    !equalBytes(encodeMessage<object>(wire.Token, message), body)
  ) {
    return malformed('it cannot be decoded, or has fields that this version does not know')
  }
  const chainBytes = encodeMessage<object>(wire.Chain, message.chain)
  const invite = verifyChain(chainBytes, { crypto, meshId: undefined, upTo: 'INVITE' })
  if (invite.kind === 'refused') return malformed(invite.reason)
  if (
    message.inviteSeed.length !== 32 ||
    !equalBytes(crypto.publicKeyOf(message.inviteSeed), invite.inviteKey)
  ) {
    return malformed('its secret does not belong to its invite')
  }
  const fault = bootstrapFault(message.bootstrap)
  if (fault !== undefined) return malformed(fault)
  if (options.meshId !== undefined && !equalBytes(options.meshId, invite.meshId)) {
    return refused(
      'foreign',
      `the token is for ${meshIdText(invite.meshId)}; this agent is in ${meshIdText(options.meshId)}`,
      'Leave the present mesh first (`meshctl leave`), or ask for a token of the mesh that this agent is in.'
    )
  }
  const time = checkTime(invite, nowSeconds, { knownCluster: false })
  if (time.kind === 'refused') {
    const fix =
      time.code === 'expired'
        ? 'Ask for a new token (`meshctl invite`); if the clock of this host is wrong, correct it.'
        : 'Correct the clock of this host; if it is right, the clock of the host that made the token is wrong.'
    return refused(time.code, time.reason, fix)
  }
  return { kind: 'token', invite, inviteSeed: message.inviteSeed, bootstrap: message.bootstrap }
}

// "rzm" and the version of the token's format.
const PREFIX = 'rzm1_'
// The checksum finds a token that was cut or mistyped. The signatures in its chain protect from forgery.
const CHECKSUM_BYTES = 4
// Base64url characters of a token: chain, seed and bootstrap addresses at their limits.
const TEXT_CHARACTERS_MAX = 20_000
const BOOTSTRAP_MAX = 16
const MULTIADDR_CHARACTERS_MAX = 256

/**
 * Returns the encoded Token inside the base64url text; undefined when the text is no base64url or fails its checksum.
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

function checksum(crypto: Crypto, body: Uint8Array): Uint8Array {
  return crypto.sha256(body).subarray(0, CHECKSUM_BYTES)
}

/**
 * Returns the fault of a bootstrap list. An address without a PeerId is refused, since any host at that address could
 * pose as a member.
 */
function bootstrapFault(bootstrap: readonly string[]): string | undefined {
  if (bootstrap.length === 0 || bootstrap.length > BOOTSTRAP_MAX) {
    return `it has ${bootstrap.length} bootstrap addresses; 1 to ${BOOTSTRAP_MAX} are allowed`
  }
  const bad = bootstrap.find((address) => {
    const peerId = /^(?:\/[A-Za-z0-9._:%-]+)+\/p2p\/([A-Za-z0-9]+)$/.exec(address)?.[1]
    return (
      address.length > MULTIADDR_CHARACTERS_MAX || peerId === undefined || parseOrigin(peerId) === undefined
    )
  })
  return bad === undefined ? undefined : 'a bootstrap address is malformed or does not end in /p2p/<PeerId>'
}

function malformed(what: string): TokenRefused {
  return refused(
    'malformed',
    `the token is malformed: ${what}`,
    'Ask for a new token from an agent of the same version (`meshctl invite`).'
  )
}

function refused(code: TokenRefused['code'], message: string, fix: string): TokenRefused {
  return { kind: 'refused', code, message, fix }
}
