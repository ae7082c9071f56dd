// The cryptography that core needs, as a port: core stays free of node:* and of randomness of its own. src/io/crypto
// implements it with node:crypto; large simulations of test/sim use hashes in place of signatures.

/** Synchronous functions over raw bytes. Each blocks for the time of one hash or one Ed25519 operation. */
export interface Crypto {
  /** The SHA-256 hash of the parts joined in order; 32 bytes. */
  sha256(...parts: readonly Uint8Array[]): Uint8Array
  /** The Ed25519 signature (RFC 8032) of the parts joined in order. The seed has 32 bytes, the signature 64. */
  sign(seed: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array
  /**
   * Whether the signature of the parts is valid. It returns false for a malformed key or signature and never throws.
   */
  verify(publicKey: Uint8Array, signature: Uint8Array, ...parts: readonly Uint8Array[]): boolean
  /** The raw 32-byte Ed25519 public key of a seed. */
  publicKeyOf(seed: Uint8Array): Uint8Array
  /** This many bytes from a cryptographically strong generator. */
  random(bytes: number): Uint8Array
}
