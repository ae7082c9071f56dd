// A DNS query off the wire (RFC 1035 4.1, RFC 6891). Read by hand, not with the packet library: every query passes here, its
// bytes are hostile, the question is echoed byte for byte (letter case is a client's defence against spoofing), and
// the library joins labels with dots, so that a label with a dot in it would pass for two.

export interface Query {
  /** The whole message. */
  readonly bytes: Uint8Array
  readonly id: number
  readonly flags: number
  /** Presentation format in the case it was asked, without the trailing dot. */
  readonly name: string
  /** `name` in lower case. */
  readonly key: string
  /** RR type number. */
  readonly type: number
  /** Offset behind the question. */
  readonly questionEnd: number
  readonly edns: { readonly udpBytes: number; readonly dnssecOk: boolean } | undefined
}

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

type ParsedQuery =
  | { readonly kind: 'query'; readonly query: Query }
  /** The header, and the question if there is one, can be answered, but only with this rcode. */
  | { readonly kind: 'reject'; readonly rcode: RcodeName; readonly query: Query }
  /** No header, or a response: answering could start a loop between two servers. */
  | { readonly kind: 'drop' }

export const HEADER_BYTES = 12
export const OPT_TYPE = 41
export const FLAG = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080, CD: 0x0010 } as const

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
  // Only the class of the internet, and no zone transfers (IXFR, AXFR): this is not a zone file.
  if (questionClass !== CLASS_IN || query.type === 251 || query.type === 252) {
    return { kind: 'reject', rcode: 'REFUSED', query }
  }
  return { kind: 'query', query }
}

/** A whole name from a question: no pointers, as nothing stands before it that one could point to. */
function parseQuestion(bytes: Uint8Array) {
  let name = ''
  let offset = HEADER_BYTES
  for (;;) {
    const length = bytes[offset++]
    if (length === undefined || length > 63) return undefined
    if (length === 0) break
    // RFC 1035 2.3.4: 255 bytes in all, with length bytes and the root.
    if (offset + length > bytes.length || offset + length - HEADER_BYTES > 254) return undefined
    if (name !== '') name += '.'
    for (const end = offset + length; offset < end; offset++) name += TEXT_OF_BYTE[bytes[offset] ?? 0]
  }
  if (offset + 4 > bytes.length) return undefined
  return { name, type: u16(bytes, offset), questionClass: u16(bytes, offset + 2), end: offset + 4 }
}

/** The OPT record behind the question, if any; other records of a query are skipped, within bounds. */
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
      // One OPT, owned by the root (RFC 6891 6.1.1).
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

/** The offset behind a name, or -1. A pointer ends a name and is not followed. */
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

export function u16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0)
}

const OPCODE_MASK = 0x7800
const CLASS_IN = 1
/** Of a query beside its question: OPT, a signature, and room. */
const RECORDS_MAX = 16

/** RFC 1035 5.1: printable bytes as they are; dot, backslash and the rest as `\DDD`. */
const TEXT_OF_BYTE = Array.from({ length: 256 }, (_, byte) =>
  byte > 0x20 && byte < 0x7f && byte !== 0x2e && byte !== 0x5c
    ? String.fromCharCode(byte)
    : `\\${String(byte).padStart(3, '0')}`
)
