// X.509 certificates for the webhook: a certificate authority and the server certificates that it signs;
// credentials.ts decides when. The DER encoding is written by hand, because node:crypto reads certificates but writes
// none, and only these two forms are needed (docs/decisions/0024). All keys are P-256, all hashes SHA-256.
// Sources: RFC 5280 (profile), X.690 (DER), RFC 5480 (P-256 keys), RFC 5758 (ecdsa-with-SHA256).
import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  type KeyObject
} from 'node:crypto'

/** A certificate and its private key in PEM (X.509, PKCS #8). */
export interface KeyPair {
  readonly certificate: string
  readonly privateKey: string
}

/**
 * The subject and the validity, which begins one hour before `nowMs` (Unix milliseconds) and ends `days` after it.
 */
interface CertificateOptions {
  readonly commonName: string
  readonly nowMs: number
  readonly days: number
}

/**
 * Makes a self-signed certificate authority with a new key. Clients that trust its certificate trust the certificates
 * that it signs. It blocks for the time of one key generation.
 */
export function createAuthority(options: CertificateOptions): KeyPair {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return pem(keys.privateKey, {
    ...options,
    publicKey: keys.publicKey,
    issuer: options.commonName,
    signer: keys.privateKey,
    extensions: [
      extension(OID.basicConstraints, true, sequence(tlv(TAG.boolean, [0xff]), integer([0]))),
      // The bits keyCertSign and cRLSign.
      extension(OID.keyUsage, true, bitString([0x06], 1)),
      extension(OID.subjectKeyIdentifier, false, tlv(TAG.octetString, keyIdentifier(keys.publicKey)))
    ]
  })
}

/** The server's names and the authority that signs. */
interface ServingOptions extends CertificateOptions {
  /** DNS names that clients verify: "rhizome-webhook.rhizome-system.svc". */
  readonly dnsNames: readonly string[]
  /** IPv4 addresses, for clients that connect without a name. */
  readonly ips?: readonly string[]
  readonly authority: { readonly commonName: string; readonly privateKey: KeyObject }
}

/** Makes a certificate with a new key for a TLS server, signed by the authority. */
export function issueServing(options: ServingOptions): KeyPair {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const names = [
    ...options.dnsNames.map((name) => tlv(TAG.context | 2, ascii(name))),
    ...(options.ips ?? []).map((ip) => tlv(TAG.context | 7, ip.split('.').map(Number)))
  ]
  return pem(keys.privateKey, {
    ...options,
    publicKey: keys.publicKey,
    issuer: options.authority.commonName,
    signer: options.authority.privateKey,
    extensions: [
      extension(OID.basicConstraints, true, sequence()),
      // The bit digitalSignature.
      extension(OID.keyUsage, true, bitString([0x80], 7)),
      extension(OID.extKeyUsage, false, sequence(oid(OID.serverAuth))),
      extension(
        OID.authorityKeyIdentifier,
        false,
        sequence(tlv(TAG.context | 0, keyIdentifier(createPublicKey(options.authority.privateKey))))
      ),
      extension(OID.subjectAltName, false, sequence(...names))
    ]
  })
}

/** The key identifier of RFC 7093, method 1: the first 160 bits of the SHA-256 hash of the public key. */
function keyIdentifier(publicKey: KeyObject): Uint8Array {
  const point = publicKey.export({ format: 'der', type: 'spki' }).subarray(-POINT_BYTES)
  return createHash('sha256').update(point).digest().subarray(0, 20)
}

// The length of an uncompressed point of P-256, with which its SubjectPublicKeyInfo ends.
const POINT_BYTES = 65

/** The content of a certificate. `signer` is the private key of the issuer. */
interface Body extends CertificateOptions {
  readonly issuer: string
  readonly publicKey: KeyObject
  readonly signer: KeyObject
  readonly extensions: readonly Uint8Array[]
}

/** The certificate and its key as PEM, with 64 characters in a line. */
function pem(privateKey: KeyObject, body: Body): KeyPair {
  const der = Buffer.from(certificate(body))
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
    privateKey: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()
  }
}

// A client whose clock is up to one hour behind still accepts a new certificate.
const BACKDATE_MS = 3_600_000
const DAY_MS = 86_400_000
const SERIAL_BYTES = 16

/** A signed certificate in DER (RFC 5280 4.1). */
function certificate(body: Body): Uint8Array {
  const algorithm = sequence(oid(OID.ecdsaWithSha256))
  const serial = randomBytes(SERIAL_BYTES)
  // The first bit is 0, because the number must be positive; the second is 1, because DER does not allow leading
  // zeros.
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40
  const unsigned = sequence(
    // Version 3.
    tlv(TAG.explicit | 0, integer([2])),
    integer([...serial]),
    algorithm,
    name(body.issuer),
    sequence(time(body.nowMs - BACKDATE_MS), time(body.nowMs + body.days * DAY_MS)),
    name(body.commonName),
    new Uint8Array(body.publicKey.export({ format: 'der', type: 'spki' })),
    tlv(TAG.explicit | 3, sequence(...body.extensions))
  )
  return sequence(unsigned, algorithm, bitString(sign('sha256', unsigned, body.signer), 0))
}

// ------------------------------------------------------------------ DER

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  generalizedTime: 0x18,
  utcTime: 0x17,
  sequence: 0x30,
  set: 0x31,
  context: 0x80,
  explicit: 0xa0
} as const

const OID = {
  ecdsaWithSha256: [1, 2, 840, 10045, 4, 3, 2],
  commonName: [2, 5, 4, 3],
  basicConstraints: [2, 5, 29, 19],
  keyUsage: [2, 5, 29, 15],
  extKeyUsage: [2, 5, 29, 37],
  subjectKeyIdentifier: [2, 5, 29, 14],
  authorityKeyIdentifier: [2, 5, 29, 35],
  subjectAltName: [2, 5, 29, 17],
  serverAuth: [1, 3, 6, 1, 5, 5, 7, 3, 1]
} as const

/** Tag, length and content. The content has at most 65,535 bytes. */
function tlv(tag: number, content: ArrayLike<number>): Uint8Array {
  const { length } = content
  const bytes =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Uint8Array.from([tag, ...bytes, ...Array.from(content)])
}

function sequence(...parts: readonly Uint8Array[]): Uint8Array {
  return tlv(TAG.sequence, Buffer.concat(parts))
}

/** An integer in big-endian bytes. The first bit must be 0, because the integers here are positive. */
function integer(bytes: readonly number[]): Uint8Array {
  return tlv(TAG.integer, bytes)
}

/** A bit string. `unusedBits` is the number of bits at the end that do not count. */
function bitString(bytes: ArrayLike<number>, unusedBits: number): Uint8Array {
  return tlv(TAG.bitString, [unusedBits, ...Array.from(bytes)])
}

/** An object identifier: the first two numbers share one byte, the others are in base 128. */
function oid([first, second, ...rest]: readonly [number, number, ...number[]]): Uint8Array {
  return tlv(TAG.oid, [first * 40 + second, ...rest.flatMap(base128)])
}

function base128(value: number): number[] {
  const groups = [value & 0x7f]
  for (let left = value >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80)
  return groups
}

/** A distinguished name that has only a common name. */
function name(commonName: string): Uint8Array {
  return sequence(
    tlv(TAG.set, sequence(oid(OID.commonName), tlv(TAG.utf8String, new TextEncoder().encode(commonName))))
  )
}

/** An extension. A client that does not know a critical extension must refuse the certificate. */
function extension(
  id: readonly [number, number, ...number[]],
  critical: boolean,
  value: Uint8Array
): Uint8Array {
  return sequence(oid(id), ...(critical ? [tlv(TAG.boolean, [0xff])] : []), tlv(TAG.octetString, value))
}

/** UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280 4.1.2.5). */
function time(ms: number): Uint8Array {
  const text = `${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`
  return Number(text.slice(0, 4)) < 2050
    ? tlv(TAG.utcTime, ascii(text.slice(2)))
    : tlv(TAG.generalizedTime, ascii(text))
}

function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
