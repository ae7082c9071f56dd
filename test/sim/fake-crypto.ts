// A crypto for large simulations: real hashes, and "signatures" that are keyed hashes anyone could make. Good for liveness and
// cost; small simulations use Ed25519.
import { hash } from 'node:crypto'
import type { Crypto } from '../../src/core/model/crypto.ts'

export function createFakeCrypto(): Crypto {
  const sha256 = (...parts: readonly Uint8Array[]) =>
    new Uint8Array(hash('sha256', parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts), 'buffer'))
  const publicKeyOf = (seed: Uint8Array) => sha256(PUBLIC_TAG, seed)
  const tagOf = (publicKey: Uint8Array, parts: readonly Uint8Array[]) => {
    const signature = new Uint8Array(64)
    signature.set(sha256(publicKey, ...parts))
    return signature
  }
  return {
    sha256,
    publicKeyOf,
    sign: (seed, ...parts) => tagOf(publicKeyOf(seed), parts),
    verify: (publicKey, signature, ...parts) => Buffer.compare(signature, tagOf(publicKey, parts)) === 0,
    random: (bytes) => new Uint8Array(bytes)
  }
}

const PUBLIC_TAG = new TextEncoder().encode('public')
