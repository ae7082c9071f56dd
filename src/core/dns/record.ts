// Types of DNS questions, records and answers, independent of the wire format. src/io/dns encodes them; zone.ts and
// names.ts make them.
import type { Ip } from '../model/values.ts'

/**
 * A name in presentation format without the trailing dot; bytes that a host name cannot have are `\DDD` (RFC 1035,
 * 5.1).
 */
export type DomainName = string

/** `type` is the mnemonic ("A", "SRV", "ANY"); a type with any other text has no records. The class is always IN. */
export interface Question {
  readonly name: DomainName
  readonly type: string
}

/** The owner name of a record and its time to live. */
interface Owned {
  readonly name: DomainName
  /** Time to live in seconds. */
  readonly ttl: number
}

/** RFC 2782. */
interface SrvData {
  readonly priority: number
  readonly weight: number
  readonly port: number
  readonly target: DomainName
}

/** RFC 1035, 3.3.13. Times are in seconds. */
interface SoaData {
  readonly mname: DomainName
  readonly rname: DomainName
  readonly serial: number
  readonly refresh: number
  readonly retry: number
  readonly expire: number
  /** How long a negative answer may be kept (RFC 2308). */
  readonly minimum: number
}

type AddressRecord = Owned & { readonly type: 'A' | 'AAAA'; readonly data: Ip }
export type DnsRecord =
  | AddressRecord
  | (Owned & { readonly type: 'CNAME' | 'NS' | 'PTR'; readonly data: DomainName })
  | (Owned & { readonly type: 'SRV'; readonly data: SrvData })
  | (Owned & { readonly type: 'TXT'; readonly data: readonly string[] })
  | (Owned & { readonly type: 'SOA'; readonly data: SoaData })

type Rcode = 'NOERROR' | 'NXDOMAIN' | 'SERVFAIL' | 'REFUSED'

/** An answer, before it is encoded. */
export interface Answer {
  readonly kind: 'answer'
  /** The label for metrics: a zone of the view, "reverse", or "unknown" for a cluster that does not exist. */
  readonly zone: string
  readonly rcode: Rcode
  readonly authoritative: boolean
  readonly answers: readonly DnsRecord[]
  /** The SOA of the zone in a negative answer, else empty. */
  readonly authority: readonly DnsRecord[]
  readonly additionals: readonly DnsRecord[]
  /** The answers end in a CNAME to this name, which is not in the mesh. The responder may resolve it upstream. */
  readonly externalTarget: DomainName | undefined
}

/** `forward`: the name is not in the mesh; the responder asks its upstream servers. */
export type Reply = Answer | { readonly kind: 'forward' }

/**
 * Time to live in seconds, as in the DNS of Kubernetes: with any caches in between, a change is visible within five
 * seconds.
 */
export const TTL = 5
/**
 * Time to live in seconds of the record `dns-version`, which changes only with the software; as in CoreDNS's
 * kubernetes plugin.
 */
export const VERSION_TTL = 28_800

/** An A or AAAA record with the common TTL. */
export function addressRecord(name: DomainName, address: Ip): AddressRecord {
  return { name, type: familyOf(address), ttl: TTL, data: address }
}

/** The record type for an address. */
export function familyOf(address: Ip): 'A' | 'AAAA' {
  return address.includes(':') ? 'AAAA' : 'A'
}

/**
 * The labels of a name in lower case, without a trailing dot; [] for the root. Undefined when a label is empty or
 * longer than DNS allows (63 bytes, 253 in all).
 */
export function labelsOf(name: DomainName): readonly string[] | undefined {
  const bare = (name.endsWith('.') ? name.slice(0, -1) : name).toLowerCase()
  if (bare === '') return []
  // Escapes make the text up to four times as long as the wire form.
  if (bare.length > 4 * 253) return undefined
  const labels = bare.split('.')
  return labels.every((label) => label !== '' && label.length <= 4 * 63) ? labels : undefined
}

/** Whether resolvers accept a name as the target of a CNAME: letters, digits, hyphen, underscore (RFC 1035, 2181). */
export function isTargetName(name: DomainName): boolean {
  const bare = name.endsWith('.') ? name.slice(0, -1) : name
  if (bare === '' || bare.length > 253) return false
  // A name whose last label is a number is an address (RFC 1123, 2.1).
  return bare.split('.').every((label) => TARGET_LABEL.test(label)) && !/(^|\.)\d+$/.test(bare)
}

const TARGET_LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i
