// The cryptography that core needs, as a port: core stays free of node:* and of randomness of its own. src/io/crypto
// implements it with node:crypto; large simulations of test/sim use hashes in place of signatures.

/** Synchronous functions over raw bytes. Each blocks for the time of one hash or one Ed25519 operation. */
export interface Crypto {
  /** SHA-256 over the concatenation of the parts; 32 bytes. */
  sha256(...parts: readonly Uint8Array[]): Uint8Array
  /** Ed25519 (RFC 8032) over the concatenation of the parts; seed 32 bytes, signature 64 bytes. */
  sign(seed: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array
  /** False for any malformed key or signature; never throws. */
  verify(publicKey: Uint8Array, signature: Uint8Array, ...parts: readonly Uint8Array[]): boolean
  /** The raw 32-byte Ed25519 public key of a seed. */
  publicKeyOf(seed: Uint8Array): Uint8Array
  /** This many bytes from a cryptographically strong generator. */
  random(bytes: number): Uint8Array
}
