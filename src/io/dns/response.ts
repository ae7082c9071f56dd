// Encodes answers in two steps. `encodeAnswer` writes the records, with a pointer (RFC 1035, 4.1.4) wherever a name
// repeats a part of the question or of an earlier name. `respond` puts the header, the question in the client's own
// letter case, the order of the answers and the OPT record around them, and cuts what is too long for the transport.
import { a, aaaa, ns, soa, srv, txt } from '@dnsquery/dns-packet'

import type { Answer, DnsRecord } from '../../core/dns/record.ts'
import type { WireRecord } from './names-on-wire.ts'
import { FLAG, HEADER_BYTES, OPT_TYPE, RCODE, type Query, type RcodeName } from './query.ts'

/** Records in wire format, encoded for one question: pointers in `body` are offsets of a message with that question. */
export interface Encoded {
  /** A label of the metrics: `Answer.zone`, "none", or, from query-handler.ts, "stranger" or "upstream". */
  readonly zone: string
  readonly rcode: RcodeName
  readonly authoritative: boolean
  /** The numbers of answers, authority records and additionals. */
  readonly counts: readonly [number, number, number]
  /** The bytes behind the question, without the OPT record. */
  readonly body: Uint8Array
  /** For each answer, the offset in `body` where it ends. */
  readonly answerEnds: readonly number[]
  /** The offset in `body` where the authority section ends. */
  readonly authorityEnd: number
  /**
   * The answers may be sent in any order: there are at least two, all are owned by the question's name, and none is a
   * CNAME.
   */
  readonly rotates: boolean
  /** Some answers are left out, because all of them would be longer than 64 KiB. The client sees this as the TC bit. */
  readonly truncated: boolean
}

/**
 * The largest UDP message that is not fragmented on common paths (DNS flag day 2020). Offered to clients and upstreams.
 */
export const UDP_BYTES_MAX = 1232
/** The largest UDP message without EDNS (RFC 1035, 4.2.1). */
const PLAIN_UDP_BYTES_MAX = 512
/** The largest length in the two bytes before a TCP message (RFC 1035, 4.2.2). */
const TCP_BYTES_MAX = 65_535

/**
 * Encodes an answer of the mesh for this query. Throws an Error on a name that cannot be encoded. Answers and
 * additionals that do not fit into 64 KiB are left out. Then `rotation` (≥ 0, taken modulo the number of answers
 * without the CNAMEs) selects the answer with which the part that fits begins, so that over many queries clients see
 * all answers.
 */
export function encodeAnswer(answer: Answer, query: Query, rotation = 0): Encoded {
  const whole = encodeInOrder(answer, query)
  if (!whole.truncated) return whole
  // The CNAME stays first: resolvers read the chain in its order.
  const aliases = answer.answers.filter(({ type }) => type === 'CNAME')
  const others = answer.answers.filter(({ type }) => type !== 'CNAME')
  const first = rotation % others.length
  const rotated = [...others.slice(first), ...others.slice(0, first)]
  return encodeInOrder({ ...answer, answers: [...aliases, ...rotated] }, query)
}

function encodeInOrder(answer: Answer, query: Query): Encoded {
  const offsets = questionOffsets(query)
  const answerEnds: number[] = []
  let end = query.questionEnd
  const write = (records: readonly DnsRecord[], ends?: number[]): number => {
    let count = 0
    for (const record of records) {
      const next = writeRecord(record, end, offsets)
      if (next > ENCODED_BYTES_MAX) break
      end = next
      ends?.push(end - query.questionEnd)
      count++
    }
    return count
  }
  const answers = write(answer.answers, answerEnds)
  const authority = write(answer.authority)
  const authorityEnd = end - query.questionEnd
  const additionals = write(answer.additionals)
  return {
    zone: answer.zone,
    rcode: answer.rcode,
    authoritative: answer.authoritative,
    counts: [answers, authority, additionals],
    body: SCRATCH.slice(query.questionEnd, end),
    answerEnds,
    authorityEnd,
    rotates: answers > 1 && answer.answers.every(({ name, type }) => name === query.name && type !== 'CNAME'),
    truncated: answers < answer.answers.length
  }
}

/**
 * Appends an upstream's records to the answers of `encoded`, as many as fit. `encoded` must have answers only
 * (chase.ts). `truncated` says that the upstream itself left records out.
 */
export function withRecords(
  encoded: Encoded,
  records: readonly WireRecord[],
  { questionEnd, truncated }: { readonly questionEnd: number; readonly truncated: boolean }
): Encoded {
  const parts = [encoded.body]
  const answerEnds = [...encoded.answerEnds]
  let end = encoded.body.length
  for (const { owner, type, ttl, data } of records) {
    // Between owner and data: type, class IN, TTL and the length of the data (RFC 1035, 4.1.3).
    const fixed = Buffer.alloc(10)
    fixed.writeUInt16BE(type, 0)
    fixed.writeUInt16BE(1, 2)
    fixed.writeUInt32BE(ttl, 4)
    fixed.writeUInt16BE(data.length, 8)
    const next = end + owner.length + fixed.length + data.length
    if (questionEnd + next > ENCODED_BYTES_MAX) break
    parts.push(owner, fixed, data)
    answerEnds.push((end = next))
  }
  return {
    ...encoded,
    counts: [answerEnds.length, 0, 0],
    body: Buffer.concat(parts),
    answerEnds,
    authorityEnd: end,
    rotates: false,
    truncated: truncated || answerEnds.length < encoded.answerEnds.length + records.length
  }
}

/** Returns a response without records, for errors and refusals. */
export function bare(rcode: RcodeName): Encoded {
  return {
    zone: 'none',
    rcode,
    authoritative: false,
    counts: [0, 0, 0],
    body: new Uint8Array(),
    answerEnds: [],
    authorityEnd: 0,
    rotates: false,
    truncated: false
  }
}

interface ResponseOptions {
  readonly transport: 'udp' | 'tcp'
  /** Sets the RA bit: there are upstreams for names outside the mesh. */
  readonly recursionAvailable: boolean
  /** Selects the answer that comes first: a number ≥ 0, taken modulo the number of answers. */
  readonly rotation: number
}

/**
 * Returns the whole message. A message that is longer than the client accepts loses its additionals first, which
 * clients do not need, then authority records and answers, with the TC bit (RFC 2181, 9).
 */
export function respond(query: Query, encoded: Encoded, options: ResponseOptions): Uint8Array {
  const room =
    bytesMax(query, options.transport) - (query.edns === undefined ? 0 : OPT_BYTES) - query.questionEnd
  const { body, answerEnds, authorityEnd } = encoded
  let [answers, authority, additionals] = encoded.counts
  let bodyBytes = body.length
  let { truncated } = encoded
  if (bodyBytes > room) {
    additionals = 0
    bodyBytes = authorityEnd
  }
  const first = encoded.rotates ? options.rotation % answers : 0
  if (bodyBytes > room) {
    truncated = true
    authority = 0
    ;[answers, bodyBytes] = fitting(answerEnds, first, room)
  }

  // Every byte is written below, so the memory need not be cleared.
  const out = Buffer.allocUnsafe(query.questionEnd + bodyBytes + (query.edns === undefined ? 0 : OPT_BYTES))
  const rcode = RCODE[encoded.rcode]
  const flags =
    FLAG.QR |
    (query.flags & (OPCODE_MASK | FLAG.RD | FLAG.CD)) |
    (encoded.authoritative ? FLAG.AA : 0) |
    (truncated ? FLAG.TC : 0) |
    (options.recursionAvailable ? FLAG.RA : 0) |
    (rcode & 15)
  out.set(query.bytes.subarray(0, query.questionEnd), 0)
  out.writeUInt16BE(flags, 2)
  out.writeUInt16BE(query.questionEnd > HEADER_BYTES ? 1 : 0, 4)
  out.writeUInt16BE(answers, 6)
  out.writeUInt16BE(authority, 8)
  out.writeUInt16BE(additionals + (query.edns === undefined ? 0 : 1), 10)
  copyRotated(encoded, { first, answers, bytes: bodyBytes }, out.subarray(query.questionEnd))
  if (query.edns !== undefined) writeOpt(out, out.length - OPT_BYTES, rcode >> 4, query.edns.dnssecOk)
  return out
}

/** The largest response in bytes that this client accepts, but no more than UDP_BYTES_MAX over UDP. */
export function bytesMax(query: Query, transport: 'udp' | 'tcp'): number {
  if (transport === 'tcp') return TCP_BYTES_MAX
  if (query.edns === undefined) return PLAIN_UDP_BYTES_MAX
  return Math.max(PLAIN_UDP_BYTES_MAX, Math.min(query.edns.udpBytes, UDP_BYTES_MAX))
}

/**
 * Returns how many answers fit into `room` bytes, counted from `first` on and then from the beginning, and their bytes.
 */
function fitting(ends: readonly number[], first: number, room: number): [number, number] {
  let bytes = 0
  let count = 0
  for (; count < ends.length; count++) {
    const at = (first + count) % ends.length
    const next = bytes + (ends[at] ?? 0) - (ends[at - 1] ?? 0)
    if (next > room) break
    bytes = next
  }
  return [count, bytes]
}

/**
 * Copies the answers from `first` on, then those before it, then the other sections. Answers may move, because the
 * owner of each is a pointer into the question, whose place does not change. `keep.bytes` are the bytes to copy in all.
 */
function copyRotated(
  { body, answerEnds, counts }: Encoded,
  keep: { readonly first: number; readonly answers: number; readonly bytes: number },
  out: Uint8Array
): void {
  if (keep.first === 0) {
    out.set(body.subarray(0, keep.bytes), 0)
    return
  }
  const split = answerEnds[keep.first - 1] ?? 0
  const all = answerEnds[counts[0] - 1] ?? 0
  const head = body.subarray(split, Math.min(all, split + keep.bytes))
  out.set(head, 0)
  out.set(body.subarray(0, Math.min(split, keep.bytes - head.length)), head.length)
  if (keep.answers === counts[0]) out.set(body.subarray(all, keep.bytes), all)
}

/** Writes the OPT record (RFC 6891, 6.1.2): owner root, our UDP size as class, and the high bits of the rcode. */
function writeOpt(out: Buffer, offset: number, extendedRcode: number, dnssecOk: boolean): void {
  out[offset] = 0
  out.writeUInt16BE(OPT_TYPE, offset + 1)
  out.writeUInt16BE(UDP_BYTES_MAX, offset + 3)
  out[offset + 5] = extendedRcode
  out[offset + 6] = 0
  // The DO bit is copied from the query (RFC 3225, 3), although the mesh's records are not signed.
  out.writeUInt16BE(dnssecOk ? 0x8000 : 0, offset + 7)
  out.writeUInt16BE(0, offset + 9)
}

/** Writes a record at `start` of SCRATCH and returns the offset behind it. */
function writeRecord(record: DnsRecord, start: number, offsets: Map<string, number>): number {
  const offset = writeOwner(record.name, start, offsets)
  VIEW.setUint16(offset, TYPE_NUMBER[record.type])
  VIEW.setUint16(offset + 2, 1)
  VIEW.setUint32(offset + 4, record.ttl)
  writeData(record, offset + 8)
  return offset + 10 + VIEW.getUint16(offset + 8)
}

/** Writes the length and the data. Names in the data are not compressed, because in SRV they must not be (RFC 2782). */
function writeData(record: DnsRecord, offset: number): void {
  switch (record.type) {
    case 'A':
      a.encode(record.data, SCRATCH, offset)
      return
    case 'AAAA':
      aaaa.encode(record.data, SCRATCH, offset)
      return
    case 'CNAME':
    case 'NS':
    case 'PTR':
      ns.encode(encodable(record.data), SCRATCH, offset)
      return
    case 'SRV':
      srv.encode({ ...record.data, target: encodable(record.data.target) }, SCRATCH, offset)
      return
    case 'TXT':
      txt.encode(
        record.data.map((text) => new TextEncoder().encode(text)),
        SCRATCH,
        offset
      )
      return
    case 'SOA':
      soa.encode({ ...record.data, mname: encodable(record.data.mname) }, SCRATCH, offset)
      return
    default:
      record satisfies never
  }
}

/**
 * Writes labels until the rest of the name is known from `offsets`, then a pointer to that place; without one, the
 * root. Adds the places of what it writes to `offsets`. Names are compared in lower case. Returns the offset behind the
 * name.
 */
function writeOwner(name: string, start: number, offsets: Map<string, number>): number {
  let offset = start
  let rest = name.endsWith('.') ? name.slice(0, -1) : name
  while (rest !== '') {
    const key = rest.toLowerCase()
    const known = offsets.get(key)
    if (known !== undefined) {
      VIEW.setUint16(offset, 0xc000 | known)
      return offset + 2
    }
    const dot = rest.indexOf('.')
    const label = encodable(dot === -1 ? rest : rest.slice(0, dot))
    if (offset < POINTER_MAX) offsets.set(key, offset)
    SCRATCH[offset] = label.length
    new TextEncoder().encodeInto(label, SCRATCH.subarray(offset + 1))
    offset += 1 + label.length
    rest = dot === -1 ? '' : rest.slice(dot + 1)
  }
  SCRATCH[offset] = 0
  return offset + 1
}

/**
 * Returns the name if it can be encoded. The library writes a label of 64 bytes as a pointer, so names are checked
 * first.
 */
function encodable(name: string): string {
  if (name.length > 253 || !NAME.test(name))
    throw new Error(`not a name for the wire: ${JSON.stringify(name)}`)
  return name
}

/** Labels of 1 to 63 printable ASCII characters. */
const NAME = /^[\x21-\x2d\x2f-\x7e]{1,63}(\.[\x21-\x2d\x2f-\x7e]{1,63})*$/

/** The offset in the message of each name that the question contains, by its text in lower case. */
function questionOffsets({ key }: Query): Map<string, number> {
  const offsets = new Map<string, number>()
  let offset = HEADER_BYTES
  for (let rest = key; rest !== '';) {
    offsets.set(rest, offset)
    const dot = rest.indexOf('.')
    const label = dot === -1 ? rest : rest.slice(0, dot)
    // An escape `\DDD` in the text is one byte of the message.
    offset += 1 + label.replaceAll(/\\\d{3}/g, '?').length
    rest = dot === -1 ? '' : rest.slice(dot + 1)
  }
  return offsets
}

const TYPE_NUMBER = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, SRV: 33 } as const
const OPT_BYTES = 11
const OPCODE_MASK = 0x7800
/** A pointer has 14 bits, so names behind this offset cannot be pointed to. */
const POINTER_MAX = 0x4000
/** Leaves room for the OPT record in the largest message. */
const ENCODED_BYTES_MAX = TCP_BYTES_MAX - OPT_BYTES
/**
 * The buffer of all encodings. Sharing it is safe, because an encoding is synchronous and its result is copied out. It
 * is longer than a message by more than any record, so that a record that does not fit is found after it was written.
 */
const SCRATCH = new Uint8Array(TCP_BYTES_MAX + 2048)
const VIEW = new DataView(SCRATCH.buffer)
