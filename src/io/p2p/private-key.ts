// Converts the seed of the agent's Ed25519 key, as the identity file has it, to the private key that libp2p takes.
import { createPrivateKey, createPublicKey } from 'node:crypto'
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import { TransportError } from './errors.ts'

export type PrivateKey = ReturnType<typeof privateKeyFromRaw>

/**
 * Returns the private key that libp2p takes: the seed and the public key, 64 bytes. node:crypto derives the public key
 * synchronously, where libp2p returns a promise. Throws TransportError SEED_INVALID when the seed has not 32 bytes.
 */
export function privateKeyOf(seed: Uint8Array): PrivateKey {
  if (seed.byteLength !== 32) {
    throw new TransportError('SEED_INVALID', `the node seed has ${seed.byteLength} bytes instead of 32`, {
      fix: 'restore the identity of this agent, or join again'
    })
  }
  // RFC 8410: PrivateKeyInfo of an Ed25519 key is this prefix and the seed.
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed])
  const jwk = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })).export({
    format: 'jwk'
  })
  return privateKeyFromRaw(Buffer.concat([seed, Buffer.from(jwk.x ?? '', 'base64url')]))
}
