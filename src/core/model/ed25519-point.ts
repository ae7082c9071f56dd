// Which encodings of points of Ed25519 are accepted as a public key, and as the first half (R) of a signature. Versions
// of OpenSSL differ here: 3.0 accepts keys of small order, 3.5 refuses them. Members with different versions of Node
// would then hold different certificates, so the check is done before OpenSSL is asked.
// Source: RFC 8032, section 5.1.3; "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020), table 1.

/**
 * Whether 32 bytes encode y below p, and not that of one of the eight points of small order. For such a key, one
 * signature is valid for many messages, and its signer need not have a private key. Every honest key and signature
 * passes.
 */
export function isSoundPoint(bytes: Uint8Array): boolean {
  if (bytes.length !== 32) return false
  // The highest bit is the sign of x; it makes no difference here.
  const top = (bytes[31] ?? 0) & 0x7f
  const at = (index: number) => (index === 31 ? top : (bytes[index] ?? 0))
  if (isAbove(at)) return false
  return !SMALL_ORDER.some((point) => point.every((byte, index) => byte === at(index)))
}

/** Whether y ≥ p = 2^255 − 19, which is a second encoding of y − p. */
function isAbove(at: (index: number) => number): boolean {
  if (at(31) !== 0x7f || at(0) < 0xed) return false
  for (let index = 1; index < 31; index++) if (at(index) !== 0xff) return false
  return true
}

// y of the points of order 1, 2, 4 and 8, little-endian: 1, −1, 0, and two of order 8.
const SMALL_ORDER = [
  `01${'00'.repeat(31)}`,
  `ec${'ff'.repeat(30)}7f`,
  '00'.repeat(32),
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'
].map((hex) =>
  Uint8Array.from({ length: 32 }, (_, index) => parseInt(hex.slice(2 * index, 2 * index + 2), 16))
)
