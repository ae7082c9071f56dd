// Asks the upstreams one question for `meshctl dns`, with the same forwarder as the responder, and returns the records
// as text. It runs in the agent, not in the responder process, so it also works when that process does not run.
import { decode, type Packet } from '@dnsquery/dns-packet'

import { createForwarder } from './forwarder.ts'
import { nameQuestion } from './names-on-wire.ts'
import { FLAG, u16 } from './query.ts'
import { typeNumber } from './responder.ts'
import { hasQuestion, rcodeOf } from './upstream-message.ts'
import { findUpstreams, isOwnAddress, socketAddressText, type SocketAddress } from './upstreams.ts'

/** The reply of the upstreams, as text for people. */
export interface LookupAnswer {
  /** The address of the upstream that replied, for example "10.0.0.2:53"; undefined if none did. */
  readonly upstream: string | undefined
  /**
   * The mnemonic of the reply's rcode, or "RCODE<number>" above 5. Without a reply: REFUSED if there are no upstreams,
   * SERVFAIL if none replied, FORMERR if the reply cannot be decoded or does not repeat the question.
   */
  readonly rcode: string
  readonly records: readonly {
    readonly name: string
    readonly type: string
    /** Seconds. */
    readonly ttl: number
    /** The record's fields, joined with spaces in the order of the wire-format library. */
    readonly data: string
  }[]
}

interface LookupOptions {
  /** The same values as the server's option (server.ts). Throws DnsError BAD_UPSTREAM. */
  readonly upstreams: readonly string[]
  /** The addresses of this agent's own responder, which is not asked. */
  readonly listening: readonly SocketAddress[]
  /** A name whose labels have letters, digits, hyphens and underscores only. */
  readonly name: string
  /** A mnemonic that responder.ts knows, for example "AAAA". */
  readonly type: string
}

/**
 * Waits at most 2 s for each reply. A truncated reply is asked for again over TCP.
 * Errors: DnsError BAD_UPSTREAM.
 */
export async function lookup({ upstreams, listening, name, type }: LookupOptions): Promise<LookupAnswer> {
  const others = findUpstreams(upstreams).upstreams.filter((upstream) => !isOwnAddress(upstream, listening))
  if (others.length === 0) return { upstream: undefined, rcode: 'REFUSED', records: [] }
  const forwarder = createForwarder({ upstreams: others })
  try {
    const question = {
      question: nameQuestion(name, typeNumber(type)),
      flags: FLAG.RD,
      edns: { dnssecOk: false }
    }
    // The share of a client does not matter here, because this forwarder has one question only.
    let reply = await forwarder.exchange({ ...question, transport: 'udp' }, '127.0.0.1')
    if (reply !== undefined && (u16(reply.message, 2) & FLAG.TC) !== 0)
      reply = (await forwarder.exchange({ ...question, transport: 'tcp' }, '127.0.0.1')) ?? reply
    if (reply === undefined) return { upstream: undefined, rcode: 'SERVFAIL', records: [] }
    const upstream = socketAddressText(reply.from)
    const packet = tryDecode(reply.message)
    if (packet === undefined || !hasQuestion(reply.message))
      return { upstream, rcode: 'FORMERR', records: [] }
    return { upstream, rcode: rcodeText(rcodeOf(reply.message)), records: recordsOf(packet) }
  } finally {
    forwarder.stop()
  }
}

function recordsOf({ answers = [] }: Packet): LookupAnswer['records'] {
  return answers.map((record) => ({
    name: record.name,
    type: record.type,
    ttl: 'ttl' in record ? (record.ttl ?? 0) : 0,
    data: 'data' in record ? dataText(record.data) : ''
  }))
}

function dataText(data: unknown): string {
  if (typeof data === 'string') return data
  if (data instanceof Uint8Array) return Buffer.from(data).toString()
  if (Array.isArray(data)) return data.map(dataText).join(' ')
  return typeof data === 'object' && data !== null
    ? Object.values(data).map(dataText).join(' ')
    : String(data)
}

/** Returns undefined for a malformed message: the library reads past its end and throws. */
function tryDecode(message: Uint8Array): Packet | undefined {
  try {
    return decode(message)
  } catch {
    return undefined
  }
}

/** The mnemonics of the response codes (RFC 1035 and 2136). */
const RCODES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED']

function rcodeText(rcode: number): string {
  return RCODES[rcode] ?? `RCODE${rcode}`
}
