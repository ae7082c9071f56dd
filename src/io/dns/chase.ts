// An ExternalName leaves the mesh: its target is resolved upstream and joined to the CNAME, because stub resolvers (glibc, musl)
// do not follow a CNAME themselves.
import { decode, encode, RECURSION_DESIRED, type Packet } from '@dnsquery/dns-packet'

import { parseIp } from '../../core/cidr.ts'
import { familyOf, isTargetName, type Answer, type DnsRecord } from '../../core/dns/record.ts'
import type { Forwarder } from './forwarder.ts'
import { FLAG, HEADER_BYTES, u16, type Query } from './query.ts'
import { bare, encodeAnswer, UDP_BYTES_MAX, type Encoded } from './response.ts'

/**
 * A target that does not exist leaves the CNAME alone, with NOERROR, as CoreDNS has it. SERVFAIL when no upstream answers: the
 * client asks again, where half an answer would be kept.
 */
export async function chase(
  forwarder: Forwarder,
  query: Query,
  { answer, target }: { readonly answer: Answer; readonly target: string }
): Promise<Encoded> {
  const type = query.type === 28 ? 'AAAA' : 'A'
  const message = encode({
    type: 'query',
    flags: RECURSION_DESIRED,
    questions: [{ name: target, type, class: 'IN' }],
    additionals: [optRecord()]
  })
  const questionEnd = HEADER_BYTES + target.length + 2 + 4
  let reply = await forwarder.exchange(message, questionEnd, 'udp')
  if (reply !== undefined && (u16(reply, 2) & FLAG.TC) !== 0) {
    reply = await forwarder.exchange(message, questionEnd, 'tcp')
  }
  const found = reply === undefined ? undefined : read(reply)
  if (found === undefined) return { ...bare('SERVFAIL'), zone: answer.zone }
  return encodeAnswer(
    {
      ...answer,
      answers: [...answer.answers, ...found],
      externalTarget: undefined
    },
    query
  )
}

/** An upstream's bytes are hostile, too, and the library reads past their end: one bad record and none is believed. */
function read(reply: Uint8Array): readonly DnsRecord[] | undefined {
  const packet = tryDecode(reply)
  if (packet?.rcode !== 'NOERROR' && packet?.rcode !== 'NXDOMAIN') return undefined
  const records: DnsRecord[] = []
  for (const { name, type, ttl = 0, data } of packet.answers ?? []) {
    if (type !== 'A' && type !== 'AAAA' && type !== 'CNAME') continue
    if (!isTargetName(name)) return undefined
    if (type === 'CNAME') {
      if (!isTargetName(data)) return undefined
      records.push({ name, type, ttl, data })
    } else {
      const address = parseIp(data)
      if (address === undefined || familyOf(address) !== type) return undefined
      records.push({ name, type, ttl, data: address })
    }
  }
  return records
}

function tryDecode(bytes: Uint8Array): (Omit<Packet, 'rcode'> & { readonly rcode?: string }) | undefined {
  try {
    return decode(bytes)
  } catch {
    // Malformed: the same as no answer.
    return undefined
  }
}

/** The library's types leave out what its encoder reads. */
function optRecord() {
  const opt = { type: 'OPT' as const, name: '.', udpPayloadSize: UDP_BYTES_MAX, data: [], options: [] }
  return opt
}
