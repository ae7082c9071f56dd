// The text form of tokens, and the checks that all kinds of tokens share: kind and version, "_", then
// base64url(message || first 4 bytes of its SHA-256). A token is a secret, so no error message quotes any part of it.
import { base64url } from 'multiformats/bases/base64'
import { equalBytes } from '../model/bytes.ts'
import type { Crypto } from '../model/crypto.ts'
import { parseOrigin } from '../model/identity.ts'
import { meshRoots, type MeshRoots } from './set/mesh-roots.ts'

/** The first letters of a token: `rzm` lets a cluster into a mesh, `rzg` one more gateway into a cluster. */
type TokenKind = 'rzm' | 'rzg'

/** A code for programs, and two sentences for people. */
export interface TokenFault<Code extends string> {
  readonly code: Code
  readonly message: string
  readonly fix: string
}

/** A token that is refused, and what the operator can do about it. `foreign`: it is a token of another mesh. */
export interface TokenRefused extends TokenFault<
  'empty' | 'notAToken' | 'damaged' | 'olderVersion' | 'newerVersion' | 'malformed' | 'foreign'
> {
  readonly kind: 'refused'
}

/** Whether a text begins like a token of this kind, of any version. White space is ignored. */
export function hasKind(kind: TokenKind, text: string): boolean {
  const start = text.slice(0, 2 * TEXT_CHARACTERS_MAX).replaceAll(/\s+/g, '')
  return new RegExp(`^${kind}[0-9]{1,4}_`).test(start)
}

/** Encodes the message of a token as text. */
export function encodeTokenText(crypto: Crypto, kind: TokenKind, body: Uint8Array): string {
  const bytes = new Uint8Array(body.length + CHECKSUM_BYTES)
  bytes.set(body)
  bytes.set(checksum(crypto, body), body.length)
  return prefixOf(kind) + base64url.encoder.baseEncode(bytes)
}

/** The encoded message inside the text, or why there is none: kind, version, length and checksum. Never throws. */
export function bodyOfToken(crypto: Crypto, kind: TokenKind, text: string): Uint8Array | TokenRefused {
  const prefix = prefixOf(kind)
  // The length is bounded before the text is scanned; twice the limit leaves room for the white space of a wrapped
  // line.
  const compact = text.length > 2 * TEXT_CHARACTERS_MAX ? text : text.replaceAll(/\s+/g, '')
  if (compact === '') return refusedToken('empty', 'the token is empty', PASTE)
  const version = new RegExp(`^${kind}([0-9]{1,4})_`).exec(compact)?.[1]
  if (version === undefined || compact.length > TEXT_CHARACTERS_MAX)
    return refusedToken('notAToken', `this is not a token: a token starts with "${prefix}"`, PASTE)
  if (version !== String(VERSION)) {
    const what = `the token has version ${version}, but this agent reads only version ${VERSION}`
    return Number(version) < VERSION
      ? refusedToken(
          'olderVersion',
          what,
          'Ask for a new token from an agent of this version (`meshctl invite`).'
        )
      : refusedToken(
          'newerVersion',
          what,
          'Upgrade this agent, or create the token with an older agent (`meshctl invite`).'
        )
  }
  const body = openEnvelope(crypto, compact.slice(prefix.length))
  return (
    body ??
    refusedToken(
      'damaged',
      'the checksum of the token is wrong: a part of the token is missing or mistyped',
      'Copy the whole token again from the output of `meshctl invite`.'
    )
  )
}

/** The roots that a token names; undefined when no mesh can have them. */
export function tokenRoots(
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

/**
 * Returns the fault of a bootstrap list. An address without a PeerId is refused, since any host at that address could
 * pose as a member.
 */
export function bootstrapFault(bootstrap: readonly string[]): string | undefined {
  if (bootstrap.length === 0 || bootstrap.length > BOOTSTRAP_MAX)
    return `it has ${bootstrap.length} bootstrap addresses; 1 to ${BOOTSTRAP_MAX} are allowed`
  return bootstrap.every(isBootstrapAddress)
    ? undefined
    : 'a bootstrap address is malformed or does not end in /p2p/<PeerId>'
}

/** Whether a text is a multiaddr of bounded length that ends in a PeerId. */
export function isBootstrapAddress(address: string): boolean {
  if (address.length > MULTIADDR_CHARACTERS_MAX) return false
  const peerId = /^(?:\/[A-Za-z0-9._:%-]+)+\/p2p\/([A-Za-z0-9]+)$/.exec(address)?.[1]
  return peerId !== undefined && parseOrigin(peerId) !== undefined
}

export function malformedToken(what: string): TokenRefused {
  return refusedToken(
    'malformed',
    `the token is malformed: ${what}`,
    'Ask for a new token from an agent of the same version (`meshctl invite`).'
  )
}

export function refusedToken(code: TokenRefused['code'], message: string, fix: string): TokenRefused {
  return { kind: 'refused', code, message, fix }
}

/** The version of the format; the kind stands before it. */
const VERSION = 2
// The checksum finds a token that was cut or mistyped. The signatures of its statements protect from forgery.
const CHECKSUM_BYTES = 4
// Base64url characters of a token: two seats and an invite of 4 KiB each, and 16 bootstrap addresses, at their limits.
const TEXT_CHARACTERS_MAX = 24_000
const BOOTSTRAP_MAX = 16
const MULTIADDR_CHARACTERS_MAX = 256
const PASTE = 'Paste the whole line that `meshctl invite` printed.'

function prefixOf(kind: TokenKind): string {
  return `${kind}${VERSION}_`
}

/**
 * Returns the encoded message inside the base64url text; undefined when the text is no base64url or fails its
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
