// What Ed25519 leaves to the implementation, decided here (rule F2), and the map from an Ed25519 key to a WireGuard
// key. OpenSSL 3.0 accepts keys of small order and the identity as R, OpenSSL 3.5 refuses both, so without these checks
// members on different versions of Node would hold different trust sets. Only public data is computed with, so
// nothing here must take constant time.
// Sources: RFC 8032 (5.1), RFC 7748 (4.1, 5); Chalkias, Garillot, Nikolaenko: Taming the many EdDSAs, 2020.

/** The field of Curve25519. */
const P = 2n ** 255n - 19n
/** The order of the base point. S of a signature is below it, or a second signature could be derived from the first. */
const L = 2n ** 252n + 27742317777372353535851937790883648493n
/** The y coordinate of two of the four points of order 8; the other two have −y. */
const Y8 = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n
/** The y coordinates of the eight points whose order divides 8: of order 4, 1, 2, 8 and 8. */
const SMALL_ORDER: ReadonlySet<bigint> = new Set([0n, 1n, P - 1n, Y8, P - Y8])
const SIGN_BIT = 1n << 255n

/** Why 32 bytes are refused as a key or as R. */
export type PointFault = 'length' | 'notCanonical' | 'smallOrder'

/**
 * Returns why the encoding of a point is refused (F2), or undefined. It does not check that the point lies on the
 * curve; the verification of the signature does.
 */
export function pointFault(bytes: Uint8Array): PointFault | undefined {
  if (bytes.length !== 32) return 'length'
  const y = littleEndian(bytes) & (SIGN_BIT - 1n)
  if (y >= P) return 'notCanonical'
  return SMALL_ORDER.has(y) ? 'smallOrder' : undefined
}

/** Returns why the form of a signature (64 bytes, R ‖ S) is refused, or undefined. The equation is not checked here. */
export function signatureFault(signature: Uint8Array): PointFault | undefined {
  if (signature.length !== 64) return 'length'
  if (littleEndian(signature.subarray(32)) >= L) return 'notCanonical'
  return pointFault(signature.subarray(0, 32))
}

/**
 * Returns the Curve25519 public key (32 bytes) of an Ed25519 public key: u = (1 + y) / (1 − y), RFC 7748 4.1. The keys
 * A and −A have the same one, so the holder of a tunnel is told apart by the result and never by the Ed25519 key.
 * Throws a RangeError for a key that `pointFault` refuses.
 */
export function wireguardKeyOf(edKey: Uint8Array): Uint8Array {
  const fault = pointFault(edKey)
  if (fault !== undefined) throw new RangeError(`the Ed25519 key is refused: ${fault}`)
  const y = littleEndian(edKey) & (SIGN_BIT - 1n)
  // 1 − y is not zero, because y = 1 is of small order. The inverse is a power by Fermat's little theorem.
  const u = ((1n + y) * power(P + 1n - y, P - 2n)) % P
  return Uint8Array.from({ length: 32 }, (_, at) => Number((u >> BigInt(8 * at)) & 0xffn))
}

function power(base: bigint, exponent: bigint): bigint {
  let [result, square] = [1n, base % P]
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) result = (result * square) % P
    square = (square * square) % P
  }
  return result
}

function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n
  for (const byte of bytes.toReversed()) value = (value << 8n) | BigInt(byte)
  return value
}
