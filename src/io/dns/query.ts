// Parses a DNS query (RFC 1035, 4.1; RFC 6891). The packet library is not used here, for three reasons: every query
// passes through this file, and its bytes are hostile; the question is echoed byte for byte, because letter case is a
// client's defence against forged replies; and the library joins labels with dots, so a label that contains a dot would
// pass for two labels (docs/decisions/0007).

/** A query whose header and question were read. `bytes` is not copied, so it must not change. */
export interface Query {
  /** The whole message. */
  readonly bytes: Uint8Array
  readonly id: number
  /** The second 16 bits of the header: QR, opcode, the flags and the rcode. */
  readonly flags: number
  /**
   * Presentation format (RFC 1035, 5.1) in the letter case of the query, without the dot at the end. '' is the root.
   */
  readonly name: string
  /** `name` in lower case. */
  readonly key: string
  /** RR type number. */
  readonly type: number
  /** Offset behind the question; HEADER_BYTES if the question could not be read. */
  readonly questionEnd: number
  /**
   * The client's EDNS record: the largest UDP response in bytes that it accepts, and the DO bit. undefined: it sent
   * none.
   */
  readonly edns: { readonly udpBytes: number; readonly dnssecOk: boolean } | undefined
}

/** The response codes of RFC 1035, 4.1.1, and BADVERS of RFC 6891, whose high bits are in the OPT record. */
export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16
} as const
export type RcodeName = keyof typeof RCODE

/** The result of parsing a message, which decides what the server does with it. */
type ParsedQuery =
  | { readonly kind: 'query'; readonly query: Query }
  /** The query is answered with this rcode and without records. */
  | { readonly kind: 'reject'; readonly rcode: RcodeName; readonly query: Query }
  /** The message is too short or is a response. It is not answered: two servers could answer each other for ever. */
  | { readonly kind: 'drop' }

export const HEADER_BYTES = 12
export const OPT_TYPE = 41
/** Bits of `Query.flags`. */
export const FLAG = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080, CD: 0x0010 } as const

/**
 * Parses a message. Never throws. The first check that fails decides: NOTIMP for an opcode other than QUERY, FORMERR
 * for anything malformed and for a number of questions other than 1, BADVERS for an EDNS version above 0, REFUSED for a
 * class other than IN and for zone transfers.
 */
export function parseQuery(bytes: Uint8Array): ParsedQuery {
  if (bytes.length < HEADER_BYTES) return { kind: 'drop' }
  const flags = u16(bytes, 2)
  if ((flags & FLAG.QR) !== 0) return { kind: 'drop' }
  const header: Query = {
    bytes,
    id: u16(bytes, 0),
    flags,
    name: '',
    key: '',
    type: 0,
    questionEnd: HEADER_BYTES,
    edns: undefined
  }
  if ((flags & OPCODE_MASK) !== 0) return { kind: 'reject', rcode: 'NOTIMP', query: header }
  if (u16(bytes, 4) !== 1) return { kind: 'reject', rcode: 'FORMERR', query: header }
  const question = parseQuestion(bytes)
  if (question === undefined) return { kind: 'reject', rcode: 'FORMERR', query: header }
  const { name, type, questionClass, end } = question
  const asked: Query = { ...header, name, key: name.toLowerCase(), type, questionEnd: end }
  const edns = parseEdns(bytes, end)
  if (edns === 'malformed') return { kind: 'reject', rcode: 'FORMERR', query: asked }
  if (edns === undefined) return verdict(asked, questionClass)
  const query: Query = { ...asked, edns }
  return edns.version === 0 ? verdict(query, questionClass) : { kind: 'reject', rcode: 'BADVERS', query }
}

function verdict(query: Query, questionClass: number): ParsedQuery {
  // IXFR is type 251 and AXFR 252. Zone transfers are refused, because the names come from no zone file.
  if (questionClass !== CLASS_IN || query.type === 251 || query.type === 252) {
    return { kind: 'reject', rcode: 'REFUSED', query }
  }
  return { kind: 'query', query }
}

/**
 * Reads the question behind the header. Returns undefined for a malformed one. Pointers are malformed here, because
 * there is no name before the question to which they could point.
 */
function parseQuestion(bytes: Uint8Array) {
  let name = ''
  let offset = HEADER_BYTES
  for (;;) {
    const length = bytes[offset++]
    if (length === undefined || length > 63) return undefined
    if (length === 0) break
    // A name has at most 255 bytes with its length bytes and the root (RFC 1035, 2.3.4); the root's byte is still to
    // come.
    if (offset + length > bytes.length || offset + length - HEADER_BYTES > 254) return undefined
    if (name !== '') name += '.'
    for (const end = offset + length; offset < end; offset++) name += TEXT_OF_BYTE[bytes[offset] ?? 0]
  }
  if (offset + 4 > bytes.length) return undefined
  return { name, type: u16(bytes, offset), questionClass: u16(bytes, offset + 2), end: offset + 4 }
}

/**
 * Returns the OPT record among the records behind the question, or undefined without one. Other records are skipped.
 */
function parseEdns(bytes: Uint8Array, start: number) {
  const records = u16(bytes, 6) + u16(bytes, 8) + u16(bytes, 10)
  if (records === 0) return undefined
  if (records > RECORDS_MAX) return 'malformed'
  let edns: { udpBytes: number; dnssecOk: boolean; version: number } | undefined
  let offset = start
  for (let i = 0; i < records; i++) {
    const owner = offset
    offset = skipName(bytes, offset)
    if (offset === -1 || offset + 10 > bytes.length) return 'malformed'
    if (u16(bytes, offset) === OPT_TYPE) {
      // A query may have one OPT record, and its owner must be the root (RFC 6891, 6.1.1).
      if (edns !== undefined || bytes[owner] !== 0) return 'malformed'
      edns = {
        udpBytes: u16(bytes, offset + 2),
        version: bytes[offset + 5] ?? 0,
        dnssecOk: ((bytes[offset + 6] ?? 0) & 0x80) !== 0
      }
    }
    offset += 10 + u16(bytes, offset + 8)
    if (offset > bytes.length) return 'malformed'
  }
  return edns
}

/** Returns the offset behind a name, or -1 for a malformed one. A pointer ends a name and is not followed. */
function skipName(bytes: Uint8Array, start: number): number {
  let offset = start
  for (;;) {
    const length = bytes[offset]
    if (length === undefined) return -1
    if (length === 0) return offset + 1
    if (length >= 0xc0) return offset + 2
    if (length > 63) return -1
    offset += length + 1
  }
}

/** Reads 16 bits in network byte order. Bytes behind the end count as 0, so callers check lengths first. */
export function u16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0)
}

const OPCODE_MASK = 0x7800
const CLASS_IN = 1
/** Queries have an OPT record and perhaps a signature. The bound limits the work for a hostile query. */
const RECORDS_MAX = 16

/** The text of each byte in presentation format (RFC 1035, 5.1): dot, backslash and unprintable bytes become `\DDD`. */
const TEXT_OF_BYTE = Array.from({ length: 256 }, (_, byte) =>
  byte > 0x20 && byte < 0x7f && byte !== 0x2e && byte !== 0x5c
    ? String.fromCharCode(byte)
    : `\\${String(byte).padStart(3, '0')}`
)
