// An upstream's response as the client gets it.
import { FLAG, HEADER_BYTES, RCODE, u16, type Query, type RcodeName } from './query.ts'
import { bare, bytesMax, respond } from './response.ts'
import { hasQuestion } from './upstream-message.ts'

/** Under the client's id, with the question as the client wrote it. */
export function forClient(message: Uint8Array, query: Query): Uint8Array {
  // A server that refuses may leave the question out; a reply to a question without it that says NOERROR is worth nothing.
  if (!hasQuestion(message)) return respond(query, bare(rcodeWithoutQuestion(message)), FORWARDED)
  const response = Uint8Array.from(message)
  response.set(query.bytes.subarray(0, 2), 0)
  response.set(query.bytes.subarray(HEADER_BYTES, query.questionEnd), HEADER_BYTES)
  return response
}

/** As CoreDNS: FORMERR for a reply that does not say what it answers. */
function rcodeWithoutQuestion(message: Uint8Array): RcodeName {
  const rcode = rcodeName(message)
  return rcode === 'SERVFAIL' || rcode === 'NOTIMP' || rcode === 'REFUSED' ? rcode : 'FORMERR'
}

/** An upstream that says more over UDP than this client takes: the client is told to come over TCP. */
export function fitted(response: Uint8Array, query: Query, transport: 'udp' | 'tcp'): Uint8Array {
  const limit = transport === 'tcp' ? Infinity : Math.max(bytesMax(query, 'udp'), query.edns?.udpBytes ?? 0)
  if (response.length <= limit) return response
  const cut = Buffer.from(response.subarray(0, query.questionEnd))
  cut.writeUInt16BE(u16(cut, 2) | FLAG.TC, 2)
  cut.fill(0, 6, HEADER_BYTES)
  return cut
}

export function rcodeName(response: Uint8Array): string {
  const rcode = u16(response, 2) & 15
  const names: readonly RcodeName[] = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED']
  return names.find((name) => RCODE[name] === rcode) ?? 'OTHER'
}

const FORWARDED = { transport: 'tcp', rotation: 0, recursionAvailable: true } as const
