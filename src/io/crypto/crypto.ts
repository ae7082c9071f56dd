// Ed25519 and SHA-256 by node:crypto. `createCrypto` is the implementation of core's port `Crypto`; the function for
// WireGuard keys serves the data plane. Keys travel as 32 raw bytes in this program, but
// node:crypto takes and gives DER, so each key is wrapped in its fixed DER header or cut off behind it.
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  randomBytes,
  sign,
  verify,
  type KeyObject
} from 'node:crypto'
import type { Crypto } from '../../core/model/crypto.ts'
import { isSoundPoint } from '../../core/model/ed25519-point.ts'

// DER headers of RFC 8410 for raw keys: PKCS #8 for a private key, SPKI for a public key. The key is the last 32 bytes
// of each.
const ED25519_PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')
const ED25519_SPKI = Buffer.from('302a300506032b6570032100', 'hex')
// Bound of each of the two caches, in keys, so that a hostile peer cannot make them grow without limit. A full cache is
// cleared; each key is then parsed once more.
const CACHED_KEYS_MAX = 4096

/**
 * Returns the cryptography that core is given. All its functions compute at once and block for that time. Each instance
 * has its own caches of KeyObjects, because parsing a key costs as much as a verification and an agent verifies with
 * few keys, many times.
 */
export function createCrypto(): Crypto {
  const publicKeys = new Map<string, KeyObject>()
  const privateKeys = new Map<string, KeyObject>()
  return {
    sha256(...parts) {
      const hash = createHash('sha256')
      for (const part of parts) hash.update(part)
      return hash.digest()
    },
    sign(seed, ...parts) {
      // Ed25519 has its own hash (SHA-512), so node:crypto requires that no digest is named.
      return sign(null, concat(parts), cached(privateKeys, seed, privateKey))
    },
    verify(key, signature, ...parts) {
      if (signature.length !== 64 || !isSoundPoint(key) || !isSoundPoint(signature.subarray(0, 32)))
        return false
      try {
        return verify(null, concat(parts), cached(publicKeys, key, publicKey), signature)
      } catch {
        return false // OpenSSL does not accept the key; a key of a peer may be any 32 bytes
      }
    },
    publicKeyOf(seed) {
      return createPublicKey(cached(privateKeys, seed, privateKey))
        .export({ format: 'der', type: 'spki' })
        .subarray(-32)
    },
    random: (bytes) => randomBytes(bytes)
  }
}

/**
 * Returns the WireGuard private key of the Ed25519 seed of a tunnel key; 32 bytes. It is the scalar with which Ed25519
 * signs (RFC 8032, 5.1.5), clamped as X25519 does, so its public key is the Montgomery form of the Ed25519 key.
 */
export function wireguardPrivateKey(seed: Uint8Array): Uint8Array {
  const scalar = createHash('sha512').update(seed).digest().subarray(0, 32)
  scalar.writeUInt8(scalar.readUInt8(0) & 0xf8, 0)
  scalar.writeUInt8((scalar.readUInt8(31) & 0x7f) | 0x40, 31)
  return new Uint8Array(scalar)
}

/** Returns the Ed25519 private key of a 32-byte seed (RFC 8032, section 5.1.5). */
function privateKey(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([ED25519_PKCS8, seed]), format: 'der', type: 'pkcs8' })
}

function publicKey(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([ED25519_SPKI, raw]), format: 'der', type: 'spki' })
}

/** Returns the KeyObject of these raw bytes, and makes it when the cache does not have it. */
function cached(
  map: Map<string, KeyObject>,
  raw: Uint8Array,
  make: (raw: Uint8Array) => KeyObject
): KeyObject {
  const name = Buffer.from(raw).toString('base64')
  let key = map.get(name)
  if (key === undefined) {
    key = make(raw)
    if (map.size >= CACHED_KEYS_MAX) map.clear()
    map.set(name, key)
  }
  return key
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts)
}
