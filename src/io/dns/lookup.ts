// One question to the upstreams for a person who asks what the responder would say: the same forwarder, and the records as text.
import { decode, type Packet } from '@dnsquery/dns-packet'

import { createForwarder } from './forwarder.ts'
import { nameQuestion } from './names-on-wire.ts'
import { FLAG, u16 } from './query.ts'
import { typeNumber } from './responder.ts'
import { hasQuestion, rcodeOf } from './upstream-message.ts'
import { findUpstreams, isOwnAddress, socketAddressText, type SocketAddress } from './upstreams.ts'

export interface LookupAnswer {
  /** "10.0.0.2:53"; undefined: no upstream gave a reply. */
  readonly upstream: string | undefined
  /** REFUSED without upstreams, SERVFAIL without a reply. */
  readonly rcode: string
  readonly records: readonly {
    readonly name: string
    readonly type: string
    readonly ttl: number
    readonly data: string
  }[]
}

interface LookupOptions {
  /** As of the server (server.ts). Throws DnsError BAD_UPSTREAM. */
  readonly upstreams: readonly string[]
  /** Of the responder of this agent, which is not asked. */
  readonly listening: readonly SocketAddress[]
  /** Labels of letters, digits, hyphen and underscore. */
  readonly name: string
  readonly type: string
}

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

/** The library reads past the end of malformed messages, and throws. */
function tryDecode(message: Uint8Array): Packet | undefined {
  try {
    return decode(message)
  } catch {
    return undefined
  }
}

/** RFC 1035 and 2136. */
const RCODES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED']

function rcodeText(rcode: number): string {
  return RCODES[rcode] ?? `RCODE${rcode}`
}
