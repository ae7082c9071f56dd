// Types of DNS questions, records and answers, independent of the wire format.
import type { Ip } from '../model/values.ts'

/** A name in presentation format without the trailing dot; bytes a host name cannot have as `\DDD` (RFC 1035, 5.1). */
export type DomainName = string

/** `type` is the mnemonic ("A", "SRV", "ANY"); any other text is a type without records. The class is always IN. */
export interface Question {
  readonly name: DomainName
  readonly type: string
}

interface Owned {
  readonly name: DomainName
  /** Seconds. */
  readonly ttl: number
}

interface SrvData {
  readonly priority: number
  readonly weight: number
  readonly port: number
  readonly target: DomainName
}

interface SoaData {
  readonly mname: DomainName
  readonly rname: DomainName
  readonly serial: number
  readonly refresh: number
  readonly retry: number
  readonly expire: number
  /** Seconds that a negative answer may be kept (RFC 2308). */
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

export interface Answer {
  readonly kind: 'answer'
  /** For counting: a zone of the view, "reverse", or "unknown" for a cluster that does not exist. */
  readonly zone: string
  readonly rcode: Rcode
  readonly authoritative: boolean
  readonly answers: readonly DnsRecord[]
  /** The SOA of the zone, in negative answers. */
  readonly authority: readonly DnsRecord[]
  readonly additionals: readonly DnsRecord[]
  /** The answers end in a CNAME to this name, which is not ours: the edge may resolve it upstream. */
  readonly externalTarget: DomainName | undefined
}

/** `forward`: not a name of the mesh. */
export type Reply = Answer | { readonly kind: 'forward' }

/** TTL in seconds, as in Kubernetes' own DNS: a change is seen within five seconds, whatever caches are in between. */
export const TTL = 5
/** Seconds. Of the specification's version, which changes with the software only; as CoreDNS's kubernetes plugin. */
export const VERSION_TTL = 28_800

export function addressRecord(name: DomainName, address: Ip): AddressRecord {
  return { name, type: familyOf(address), ttl: TTL, data: address }
}

export function familyOf(address: Ip): 'A' | 'AAAA' {
  return address.includes(':') ? 'AAAA' : 'A'
}

/** The labels of a name, lower case, or undefined where one is empty or longer than DNS allows (63, 253 in all). */
export function labelsOf(name: DomainName): readonly string[] | undefined {
  const bare = (name.endsWith('.') ? name.slice(0, -1) : name).toLowerCase()
  if (bare === '') return []
  // Escapes make the text up to four times as long as the wire form.
  if (bare.length > 4 * 253) return undefined
  const labels = bare.split('.')
  return labels.every((label) => label !== '' && label.length <= 4 * 63) ? labels : undefined
}

/** A name that a resolver will take as the target of a CNAME: letters, digits, hyphen, underscore (RFC 1035, 2181). */
export function isTargetName(name: DomainName): boolean {
  const bare = name.endsWith('.') ? name.slice(0, -1) : name
  if (bare === '' || bare.length > 253) return false
  // A name whose last label is a number is an address (RFC 1123, 2.1).
  return bare.split('.').every((label) => TARGET_LABEL.test(label)) && !/(^|\.)\d+$/.test(bare)
}

const TARGET_LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i
