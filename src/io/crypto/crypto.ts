// Ed25519, X25519 and SHA-256 by node:crypto. Key objects are cached: parsing one costs as much as a verification.
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  verify,
  type KeyObject
} from 'node:crypto'
import type { Crypto } from '../../core/model/crypto.ts'

// DER headers of RFC 8410 for raw keys: PKCS #8 private, SPKI public.
const ED25519_PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')
const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex')
const ED25519_SPKI = Buffer.from('302a300506032b6570032100', 'hex')
// Keys seen by one agent are members of one mesh; the bound only stops a hostile peer from growing the map.
const CACHED_KEYS_MAX = 4096

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
      return sign(null, concat(parts), cached(privateKeys, seed, privateKey))
    },
    verify(key, signature, ...parts) {
      if (key.length !== 32 || signature.length !== 64) return false
      try {
        return verify(null, concat(parts), cached(publicKeys, key, publicKey), signature)
      } catch {
        return false // not a point on the curve
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

/** A WireGuard key pair (Curve25519, RFC 7748): 32 raw bytes each. */
export function generateWireguardKey(): { privateKey: Uint8Array; publicKey: Uint8Array } {
  const pair = generateKeyPairSync('x25519')
  return {
    privateKey: pair.privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32),
    publicKey: pair.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)
  }
}

/** The public half as 44 characters of base64, as `wg pubkey` prints it. */
export function wireguardPublicKey(privateKey: Uint8Array): string {
  const key = createPrivateKey({
    key: Buffer.concat([X25519_PKCS8, privateKey]),
    format: 'der',
    type: 'pkcs8'
  })
  return createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64')
}

function privateKey(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([ED25519_PKCS8, seed]), format: 'der', type: 'pkcs8' })
}

function publicKey(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([ED25519_SPKI, raw]), format: 'der', type: 'spki' })
}

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
