// Encodes queries to upstreams and checks their replies. A client's query is not passed on as it is. A new one is made
// of the flags that a resolver acts on, the question, and an EDNS record of our own if the client sent one, because
// EDNS and cookies belong to one hop (RFC 6891, 6.1.1; RFC 7873). So all copies of a question that goes round in a loop
// are equal.
import { FLAG, HEADER_BYTES, OPT_TYPE, u16, type Query } from './query.ts'
import { UDP_BYTES_MAX } from './response.ts'

/** A question for an upstream, without the id of the query. */
export interface UpstreamQuestion {
  /** Name, type and class in wire format. */
  readonly question: Uint8Array
  /** Flags of a header; only RD, AD and CD are passed on. */
  readonly flags: number
  /** undefined: the query has no OPT record, so the reply has at most 512 bytes over UDP. */
  readonly edns: { readonly dnssecOk: boolean } | undefined
  readonly transport: 'udp' | 'tcp'
}

/** The transport is the client's own: a client that asks over TCP expects an answer that may be too long for UDP. */
export function questionOf(query: Query, transport: 'udp' | 'tcp'): UpstreamQuestion {
  const { bytes, questionEnd, flags, edns } = query
  return { question: bytes.subarray(HEADER_BYTES, questionEnd), flags, edns, transport }
}

/**
 * Returns a key that is equal for questions that may share one reply: they differ at most in the case of their letters.
 */
export function keyOf({ question, flags, edns, transport }: UpstreamQuestion): string {
  const bytes = Buffer.from(question)
  for (const [index, byte] of bytes.entries()) bytes[index] = lower(byte)
  const marks = edns === undefined ? 'plain' : edns.dnssecOk ? 'edns,do' : 'edns'
  return `${transport} ${marks} ${flags & PASSED_FLAGS} ${bytes.toString('latin1')}`
}

/** Encodes the query. `id` has 16 bits and should be random. `plain` leaves out the OPT record. */
export function upstreamMessage(
  { question, flags, edns }: UpstreamQuestion,
  id: number,
  { plain = false }: { readonly plain?: boolean } = {}
): Uint8Array {
  const hasOpt = edns !== undefined && !plain
  const message = Buffer.alloc(HEADER_BYTES + question.length + (hasOpt ? OPT_BYTES : 0))
  message.writeUInt16BE(id, 0)
  message.writeUInt16BE(flags & PASSED_FLAGS, 2)
  message.writeUInt16BE(1, 4)
  message.writeUInt16BE(hasOpt ? 1 : 0, 10)
  message.set(question, HEADER_BYTES)
  if (hasOpt) {
    const offset = HEADER_BYTES + question.length
    message.writeUInt16BE(OPT_TYPE, offset + 1)
    message.writeUInt16BE(UDP_BYTES_MAX, offset + 3)
    message.writeUInt16BE(edns.dnssecOk ? 0x8000 : 0, offset + 7)
  }
  return message
}

/**
 * Says whether a message is the response to this query: it has the same id and the same question, in which servers may
 * change the case of letters. A response without a question counts, because servers that refuse a query may leave the
 * question out; callers check `hasQuestion` before they use its records.
 */
export function isReplyTo(reply: Uint8Array, sent: { readonly id: number; readonly question: Uint8Array }) {
  if (reply.length < HEADER_BYTES || u16(reply, 0) !== sent.id) return false
  if ((u16(reply, 2) & (FLAG.QR | OPCODE_MASK)) !== FLAG.QR) return false
  return u16(reply, 4) === 0 || repeats(reply, sent.question)
}

/** Says whether a reply repeats a question. Records of other replies are not used, as in CoreDNS and glibc. */
export function hasQuestion(reply: Uint8Array): boolean {
  return u16(reply, 4) === 1
}

/** The response code in the header, 0 to 15. The high bits in an OPT record are ignored. */
export function rcodeOf(reply: Uint8Array): number {
  return u16(reply, 2) & 15
}

function repeats(reply: Uint8Array, question: Uint8Array): boolean {
  if (u16(reply, 4) !== 1 || reply.length < HEADER_BYTES + question.length) return false
  return question.every((byte, index) => lower(reply[HEADER_BYTES + index] ?? 0) === lower(byte))
}

function lower(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte
}

const AD = 0x0020
const PASSED_FLAGS = FLAG.RD | AD | FLAG.CD
const OPCODE_MASK = 0x7800
const OPT_BYTES = 11
