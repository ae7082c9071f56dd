// An answer as bytes: the records are encoded with every name that repeats the question as a pointer into it (RFC 1035 4.1.4), then
// the header, the question in the client's own case, the order of the answers and the OPT record are put around them.
import { a, aaaa, ns, soa, srv, txt } from '@dnsquery/dns-packet'

import type { Answer, DnsRecord } from '../../core/dns/record.ts'
import type { WireRecord } from './names-on-wire.ts'
import { FLAG, HEADER_BYTES, OPT_TYPE, RCODE, type Query, type RcodeName } from './query.ts'

export interface Encoded {
  /** Answer.zone, or "none". */
  readonly zone: string
  readonly rcode: RcodeName
  readonly authoritative: boolean
  /** Answers, authority, additionals. */
  readonly counts: readonly [number, number, number]
  /** What stands behind the question. */
  readonly body: Uint8Array
  /** Offsets in `body` behind each answer. */
  readonly answerEnds: readonly number[]
  readonly authorityEnd: number
  /** The answers stand alone, in any order: none of them is a CNAME. */
  readonly rotates: boolean
  /** Not all answers are here: they would be longer than any message. */
  readonly truncated: boolean
}

/** What we can take over UDP without fragments on any path (DNS flag day 2020), and what we tell clients. */
export const UDP_BYTES_MAX = 1232
/** RFC 1035 4.2.1: without EDNS. */
const PLAIN_UDP_BYTES_MAX = 512
const TCP_BYTES_MAX = 65_535

/**
 * Throws on a name that cannot be on the wire. Answers that do not fit 64 KiB are left out, and so are additionals; `rotation` (taken modulo
 * their number) then says with which of them the part that fits begins.
 */
export function encodeAnswer(answer: Answer, query: Query, rotation = 0): Encoded {
  const whole = encodeInOrder(answer, query)
  if (!whole.truncated) return whole
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

/** Behind the answers of `encoded`, which has no other records: those of an upstream, as many as fit. */
export function withRecords(
  encoded: Encoded,
  records: readonly WireRecord[],
  { questionEnd, truncated }: { readonly questionEnd: number; readonly truncated: boolean }
): Encoded {
  const parts = [encoded.body]
  const answerEnds = [...encoded.answerEnds]
  let end = encoded.body.length
  for (const { owner, type, ttl, data } of records) {
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

/** A response without records. */
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
  readonly recursionAvailable: boolean
  /** Which answer comes first; taken modulo their number. */
  readonly rotation: number
}

/** Over UDP no longer than the client takes: additionals are left out first, then answers, with the TC bit. */
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

  // Not from Node's buffer pool: Uint8Array.slice of a pooled buffer would be no cheaper, and this one is sent as it is.
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

export function bytesMax(query: Query, transport: 'udp' | 'tcp'): number {
  if (transport === 'tcp') return TCP_BYTES_MAX
  if (query.edns === undefined) return PLAIN_UDP_BYTES_MAX
  return Math.max(PLAIN_UDP_BYTES_MAX, Math.min(query.edns.udpBytes, UDP_BYTES_MAX))
}

/** How many answers, from `first` on and around, fit into `room` bytes, and how many bytes they are. */
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

/** Answers are independent of their order, as each is owned by a pointer to the question. */
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

function writeOpt(out: Buffer, offset: number, extendedRcode: number, dnssecOk: boolean): void {
  out[offset] = 0
  out.writeUInt16BE(OPT_TYPE, offset + 1)
  out.writeUInt16BE(UDP_BYTES_MAX, offset + 3)
  out[offset + 5] = extendedRcode
  out[offset + 6] = 0
  // RFC 3225: the DO bit is copied; nothing here is signed.
  out.writeUInt16BE(dnssecOk ? 0x8000 : 0, offset + 7)
  out.writeUInt16BE(0, offset + 9)
}

function writeRecord(record: DnsRecord, start: number, offsets: Map<string, number>): number {
  const offset = writeOwner(record.name, start, offsets)
  VIEW.setUint16(offset, TYPE_NUMBER[record.type])
  VIEW.setUint16(offset + 2, 1)
  VIEW.setUint32(offset + 4, record.ttl)
  writeData(record, offset + 8)
  return offset + 10 + VIEW.getUint16(offset + 8)
}

/** Length and data. Names in data are not compressed: of SRV they must not be (RFC 2782). */
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

/** Writes labels until the rest of the name has been written before, then a pointer to that. */
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

/** The library writes a label of 64 bytes as a pointer, so names are checked before it sees them. */
function encodable(name: string): string {
  if (name.length > 253 || !NAME.test(name))
    throw new Error(`not a name for the wire: ${JSON.stringify(name)}`)
  return name
}

const NAME = /^[\x21-\x2d\x2f-\x7e]{1,63}(\.[\x21-\x2d\x2f-\x7e]{1,63})*$/

function questionOffsets({ key }: Query): Map<string, number> {
  const offsets = new Map<string, number>()
  let offset = HEADER_BYTES
  for (let rest = key; rest !== '';) {
    offsets.set(rest, offset)
    const dot = rest.indexOf('.')
    const label = dot === -1 ? rest : rest.slice(0, dot)
    // An escape `\DDD` is one byte.
    offset += 1 + label.replaceAll(/\\\d{3}/g, '?').length
    rest = dot === -1 ? '' : rest.slice(dot + 1)
  }
  return offsets
}

const TYPE_NUMBER = { A: 1, NS: 2, CNAME: 5, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, SRV: 33 } as const
const OPT_BYTES = 11
const OPCODE_MASK = 0x7800
/** A pointer has 14 bits. */
const POINTER_MAX = 0x4000
const ENCODED_BYTES_MAX = TCP_BYTES_MAX - OPT_BYTES
/** One encoding at a time, whole before the next begins; one record longer than any ends beyond the largest message. */
const SCRATCH = new Uint8Array(TCP_BYTES_MAX + 2048)
const VIEW = new DataView(SCRATCH.buffer)
