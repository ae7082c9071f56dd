// Turns an upstream's response into the response for the client.
import { FLAG, HEADER_BYTES, RCODE, u16, type Query, type RcodeName } from './query.ts'
import { bare, bytesMax, respond } from './response.ts'
import { hasQuestion } from './upstream-message.ts'

/** Gives the response the client's id and the question in the client's spelling. */
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

/** Cuts a UDP response that is larger than the client accepts and sets TC, so that the client asks again over TCP. */
export function fitted(response: Uint8Array, query: Query, transport: 'udp' | 'tcp'): Uint8Array {
  const limit = transport === 'tcp' ? Infinity : Math.max(bytesMax(query, 'udp'), query.edns?.udpBytes ?? 0)
  if (response.length <= limit) return response
  const cut = Buffer.from(response.subarray(0, query.questionEnd))
  cut.writeUInt16BE(u16(cut, 2) | FLAG.TC, 2)
  cut.fill(0, 6, HEADER_BYTES)
  return cut
}

/** Returns the mnemonic of the response code in the header. */
export function rcodeName(response: Uint8Array): string {
  const rcode = u16(response, 2) & 15
  const names: readonly RcodeName[] = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED']
  return names.find((name) => RCODE[name] === rcode) ?? 'OTHER'
}

const FORWARDED = { transport: 'tcp', rotation: 0, recursionAvailable: true } as const
