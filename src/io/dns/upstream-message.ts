// What goes to an upstream and what comes back. A query is made anew of its parts: the flags that a resolver acts on, the question and an
// EDNS record of our own where the client had one. EDNS belongs to one hop (RFC 6891, 6.1.1), and so do cookies (RFC 7873). It also makes
// every copy of a question that goes round in a loop the same.
import { FLAG, HEADER_BYTES, OPT_TYPE, u16, type Query } from './query.ts'
import { UDP_BYTES_MAX } from './response.ts'

export interface UpstreamQuestion {
  /** Name, type and class as on the wire. */
  readonly question: Uint8Array
  /** Of the header: RD, AD and CD count. */
  readonly flags: number
  readonly edns: { readonly dnssecOk: boolean } | undefined
  readonly transport: 'udp' | 'tcp'
}

export function questionOf(query: Query, transport: 'udp' | 'tcp'): UpstreamQuestion {
  const { bytes, questionEnd, flags, edns } = query
  return { question: bytes.subarray(HEADER_BYTES, questionEnd), flags, edns, transport }
}

/** The same for questions that differ in the case of their letters only. */
export function keyOf({ question, flags, edns, transport }: UpstreamQuestion): string {
  const bytes = Buffer.from(question)
  for (const [index, byte] of bytes.entries()) bytes[index] = lower(byte)
  const marks = edns === undefined ? 'plain' : edns.dnssecOk ? 'edns,do' : 'edns'
  return `${transport} ${marks} ${flags & PASSED_FLAGS} ${bytes.toString('latin1')}`
}

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
 * A response to this query: the same id, and the same question, of which servers may change the case of letters. Servers that
 * refuse a query may leave the question out, and some leave it out always: what that is worth is for `hasQuestion`.
 */
export function isReplyTo(reply: Uint8Array, sent: { readonly id: number; readonly question: Uint8Array }) {
  if (reply.length < HEADER_BYTES || u16(reply, 0) !== sent.id) return false
  if ((u16(reply, 2) & (FLAG.QR | OPCODE_MASK)) !== FLAG.QR) return false
  return u16(reply, 4) === 0 || repeats(reply, sent.question)
}

/** Without its question a reply may belong to another one: its records are not believed (as CoreDNS and glibc have it). */
export function hasQuestion(reply: Uint8Array): boolean {
  return u16(reply, 4) === 1
}

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
