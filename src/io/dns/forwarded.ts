// Turns an upstream's response into the response for the client. The upstream got a query of our own with another id
// (upstream-message.ts), so id and question are put back; the records are passed on as they are.
import { FLAG, HEADER_BYTES, RCODE, u16, type Query, type RcodeName } from './query.ts'
import { bare, bytesMax, respond } from './response.ts'
import { hasQuestion } from './upstream-message.ts'

/**
 * Gives the response the client's id and the question in the client's spelling. A client compares the letter case of
 * the question as a defence against forged replies, and the upstream may have been asked for another client's spelling.
 * `message` must be a reply to the same question (`isReplyTo`), so that both questions have the same length.
 */
export function forClient(message: Uint8Array, query: Query): Uint8Array {
  // A server that refuses a query may omit the question. A reply with NOERROR and no question is not trusted.
  if (!hasQuestion(message)) return respond(query, bare(rcodeWithoutQuestion(message)), FORWARDED)
  const response = Uint8Array.from(message)
  response.set(query.bytes.subarray(0, 2), 0)
  response.set(query.bytes.subarray(HEADER_BYTES, query.questionEnd), HEADER_BYTES)
  return response
}

/** Returns FORMERR, as CoreDNS does, for a reply that does not repeat its question. */
function rcodeWithoutQuestion(message: Uint8Array): RcodeName {
  const rcode = rcodeName(message)
  return rcode === 'SERVFAIL' || rcode === 'NOTIMP' || rcode === 'REFUSED' ? rcode : 'FORMERR'
}

/**
 * Cuts a UDP response that is larger than the client accepts and sets TC, so that the client asks again over TCP. The
 * cut response has the header and the question only. A client may offer more than the 1,232 bytes to which our own
 * answers keep; its offer is the limit then.
 */
export function fitted(response: Uint8Array, query: Query, transport: 'udp' | 'tcp'): Uint8Array {
  const limit = transport === 'tcp' ? Infinity : Math.max(bytesMax(query, 'udp'), query.edns?.udpBytes ?? 0)
  if (response.length <= limit) return response
  const cut = Buffer.from(response.subarray(0, query.questionEnd))
  cut.writeUInt16BE(u16(cut, 2) | FLAG.TC, 2)
  cut.fill(0, 6, HEADER_BYTES)
  return cut
}

/** Returns the mnemonic of the response code in the header, for metrics; "OTHER" for codes above 5. */
export function rcodeName(response: Uint8Array): string {
  const rcode = u16(response, 2) & 15
  const names: readonly RcodeName[] = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED']
  return names.find((name) => RCODE[name] === rcode) ?? 'OTHER'
}

/** A response without records is below every limit of UDP, so the transport makes no difference. */
const FORWARDED = { transport: 'tcp', rotation: 0, recursionAvailable: true } as const
