// IP addresses and CIDR prefixes: parsing, canonical text, conversion to bytes, containment, order, and the next free
// prefix. There is one canonical text for each address, so that equal strings are equal addresses.
// Invariants
//   1. Every Ip and Cidr in the program was made here: canonical text (RFC 5952 for IPv6), host bits zero.
//   2. An IPv4-mapped IPv6 address is refused: it would be a second name for an IPv4 address and slip past a filter.
import ipaddr from 'ipaddr.js'
import type { Cidr, Ip } from './values.ts'

/** `reason` is the end of a message for people; the caller puts the origin of the text in front. */
type ParsedCidr =
  { readonly kind: 'cidr'; readonly cidr: Cidr } | { readonly kind: 'invalid'; readonly reason: string }

/**
 * Parses an IPv4 (dotted decimal, no leading zeros) or IPv6 address into its canonical form; undefined for any other
 * text.
 */
export function parseIp(text: string): Ip | undefined {
  if (text.length > IP_TEXT_MAX) return undefined
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return text as Ip
  // ipaddr.js takes zone ids ("fe80::1%eth0"), which mean nothing to another host.
  if (!text.includes(':') || text.includes('%') || !ipaddr.IPv6.isValid(text)) return undefined
  const address = ipaddr.IPv6.parse(text)
  return address.isIPv4MappedAddress() ? undefined : (address.toRFC5952String() as Ip)
}

/**
 * Parses a prefix such as "10.1.0.0/16". A prefix with host bits set is invalid, and the reason names the corrected
 * prefix.
 */
export function parseCidr(text: string): ParsedCidr {
  const shown = JSON.stringify(text.slice(0, CIDR_TEXT_MAX))
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text.slice(0, CIDR_TEXT_MAX + 1))
  if (!match) return invalid(`${shown} is not a prefix: expected an address and a length, as in 10.1.0.0/16`)
  const ip = parseIp(match[1] ?? '')
  if (ip === undefined) return invalid(`${shown} does not start with an IPv4 or IPv6 address`)
  const length = Number(match[2])
  const bits = familyBits(familyOf(ip))
  if (length > bits) return invalid(`${shown} has a length above ${bits}`)
  const network = prefixToCidr({ address: maskBytes(ipToBytes(ip), length), length })
  if (network === undefined) return invalid(`${shown} lies in the IPv4-mapped range: write it as IPv4`)
  if (network !== `${ip}/${length}`) return invalid(`${shown} has host bits set: did you mean ${network}?`)
  return { kind: 'cidr', cidr: network }
}

/** Returns prefixes that are written out in the source. Throws an Error for one that is malformed or has host bits set. */
export function constantCidrs(...texts: readonly string[]): readonly Cidr[] {
  return texts.map((text) => {
    const parsed = parseCidr(text)
    if (parsed.kind === 'invalid') throw new Error(parsed.reason)
    return parsed.cidr
  })
}

/** The 4 or 16 bytes of an address in network byte order. */
export function ipToBytes(ip: Ip): Uint8Array {
  return Uint8Array.from(familyOf(ip) === 4 ? ip.split('.').map(Number) : ipaddr.IPv6.parse(ip).toByteArray())
}

/**
 * The address of 4 or 16 bytes in network byte order; undefined for another length and for an IPv4-mapped address.
 */
export function bytesToIp(bytes: Uint8Array): Ip | undefined {
  if (bytes.length === 4) return bytes.join('.') as Ip
  if (bytes.length !== 16) return undefined
  const address = ipaddr.fromByteArray([...bytes]) as ipaddr.IPv6
  return address.isIPv4MappedAddress() ? undefined : (address.toRFC5952String() as Ip)
}

/** The address (4 or 16 bytes) and the length in bits: the form of a prefix in certificates and records. */
export function cidrToPrefix(cidr: Cidr): { readonly address: Uint8Array; readonly length: number } {
  const { ip, length } = split(cidr)
  return { address: ipToBytes(ip), length }
}

/**
 * The canonical text of a prefix in bytes; undefined when the address is malformed, the length is out of range, or
 * host bits are set.
 */
export function prefixToCidr(prefix: {
  readonly address: Uint8Array
  readonly length: number
}): Cidr | undefined {
  const ip = bytesToIp(prefix.address)
  if (ip === undefined || !Number.isInteger(prefix.length)) return undefined
  if (prefix.length < 0 || prefix.length > prefix.address.length * 8) return undefined
  const masked = maskBytes(prefix.address, prefix.length)
  if (!masked.every((byte, index) => byte === prefix.address[index])) return undefined
  return `${ip}/${prefix.length}` as Cidr
}

/** The address family, read from the text alone: only an IPv6 address contains a colon. */
export function familyOf(value: Ip | Cidr): 4 | 6 {
  return value.includes(':') ? 6 : 4
}

/** The prefix that holds exactly one address: /32 or /128. */
export function hostCidr(ip: Ip): Cidr {
  return `${ip}/${familyBits(familyOf(ip))}` as Cidr
}

/** Whether every address of `inner` lies in `outer`. Prefixes of different families never contain each other. */
export function cidrContains(outer: Cidr, inner: Cidr | Ip): boolean {
  if (familyOf(outer) === 4 && familyOf(inner) === 4) return block4Contains(outer, inner)
  const [a, b] = [rangeOf(outer), rangeOf(inner)]
  return a.family === b.family && a.first <= b.first && b.last <= a.last
}

/** Whether an address lies in both. Prefixes of different families never overlap. */
export function cidrOverlaps(left: Cidr, right: Cidr | Ip): boolean {
  const [a, b] = [rangeOf(left), rangeOf(right)]
  return a.family === b.family && a.first <= b.last && b.first <= a.last
}

/**
 * The addresses that both prefixes have. Two prefixes either nest or are disjoint, so the result is the longer one or
 * undefined.
 */
export function cidrIntersection(left: Cidr, right: Cidr): Cidr | undefined {
  if (cidrContains(left, right)) return right
  return cidrContains(right, left) ? left : undefined
}

/** A comparison function for sort(): IPv4 before IPv6, then by address, then the shorter prefix first. */
export function compareCidr(left: Cidr | Ip, right: Cidr | Ip): number {
  if (left === right) return 0
  const [a, b] = [rangeOf(left), rangeOf(right)]
  if (a.family !== b.family) return a.family - b.family
  if (a.first !== b.first) return a.first < b.first ? -1 : 1
  if (a.last !== b.last) return a.last > b.last ? -1 : 1
  return 0
}

/**
 * A text for sorting long lists of addresses: its order by code units is the order of compareCidr, without parsing at
 * each comparison.
 */
export function ipSortKey(ip: Ip): string {
  const digits = Array.from(ipToBytes(ip), (byte) => byte.toString(16).padStart(2, '0'))
  return `${familyOf(ip)}${digits.join('')}`
}

/**
 * The lowest prefix of `length` bits inside `pool` that overlaps none of `taken`; undefined when the pool is full, or
 * when `length` is shorter than the pool's or too long for its family. `taken` may overlap itself and may hold
 * prefixes of both families.
 */
export function nextFreeCidr(options: {
  readonly pool: Cidr
  readonly length: number
  readonly taken: readonly Cidr[]
}): Cidr | undefined {
  const pool = rangeOf(options.pool)
  const bits = familyBits(pool.family)
  if (!Number.isInteger(options.length) || options.length > bits) return undefined
  if (options.length < split(options.pool).length) return undefined
  const size = 1n << BigInt(bits - options.length)
  const taken = options.taken
    .map(rangeOf)
    .filter((range) => range.family === pool.family)
    .sort((a, b) => (a.first < b.first ? -1 : 1))
  // `taken` is sorted by first address. When a taken range overlaps the candidate, the next candidate begins at the
  // first multiple of `size` above that range.
  let first = pool.first
  for (const range of taken) {
    if (range.last < first) continue
    if (range.first >= first + size) break
    first = (range.last / size + 1n) * size
  }
  if (first + size - 1n > pool.last) return undefined
  return prefixToCidr({ address: bigToBytes(first, bits / 8), length: options.length })
}

// The longest texts: "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255" for an address, with a slash and three digits
// for a prefix.
const IP_TEXT_MAX = 45
const CIDR_TEXT_MAX = IP_TEXT_MAX + 4

/** The first and the last address of a prefix as numbers, both included. */
interface Range {
  readonly family: 4 | 6
  readonly first: bigint
  readonly last: bigint
  /** The same range of IPv4 as numbers, `end` excluded; undefined for IPv6. */
  readonly block4: { readonly first: number; readonly end: number } | undefined
}

// The cache of ranges exists because the program tests containment in the same few prefixes very often. A full cache
// is cleared, so that a flood of distinct addresses cannot fill the memory; to fill it again costs about 2 µs for
// each entry.
const RANGES_MAX = 16_384
const ranges = new Map<string, Range>()

function rangeOf(value: Cidr | Ip): Range {
  const known = ranges.get(value)
  if (known) return known
  const { ip, length } = split(value)
  const family = familyOf(ip)
  const first = bytesToBig(ipToBytes(ip))
  const last = first + (1n << BigInt(familyBits(family) - length)) - 1n
  const block4 = family === 4 ? { first: Number(first), end: Number(last) + 1 } : undefined
  const range: Range = { family, first, last, block4 }
  if (ranges.size >= RANGES_MAX) ranges.clear()
  ranges.set(value, range)
  return range
}

/**
 * Containment for IPv4 without bigint. It runs for each of a million endpoints, so it caches only `outer` and
 * allocates nothing for `inner`.
 */
function block4Contains(outer: Cidr, inner: Cidr | Ip): boolean {
  const range = rangeOf(outer)
  if (range.block4 === undefined) return false
  const slash = inner.indexOf('/')
  const first = number4(inner, slash < 0 ? inner.length : slash)
  const size = slash < 0 ? 1 : 2 ** (32 - Number(inner.slice(slash + 1)))
  return first >= range.block4.first && first + size <= range.block4.end
}

/** The dotted decimal in front of `end` as a number. The text is not checked, because an Ip is canonical. */
function number4(text: string, end: number): number {
  let [address, part] = [0, 0]
  for (let index = 0; index < end; index++) {
    const code = text.charCodeAt(index)
    // 46 is the dot, 48 the digit 0.
    if (code === 46) {
      address = address * 256 + part
      part = 0
    } else part = part * 10 + code - 48
  }
  return address * 256 + part
}

function split(value: Cidr | Ip): { readonly ip: Ip; readonly length: number } {
  const slash = value.indexOf('/')
  if (slash < 0) return { ip: value as Ip, length: familyBits(familyOf(value)) }
  return { ip: value.slice(0, slash) as Ip, length: Number(value.slice(slash + 1)) }
}

function familyBits(family: 4 | 6): 32 | 128 {
  return family === 4 ? 32 : 128
}

/** The address with all bits behind `length` set to zero. */
function maskBytes(address: Uint8Array, length: number): Uint8Array {
  return address.map((byte, index) => {
    const kept = Math.min(8, Math.max(0, length - index * 8))
    return byte & (0xff << (8 - kept))
  })
}

function bytesToBig(bytes: Uint8Array): bigint {
  return bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n)
}

function bigToBytes(value: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) =>
    Number((value >> BigInt((length - 1 - index) * 8)) & 0xffn)
  )
}

function invalid(reason: string): ParsedCidr {
  return { kind: 'invalid', reason }
}

/** Merges several lists of prefixes into one disjoint, sorted list. */
export function unionOf(lists: readonly (readonly Cidr[])[]): readonly Cidr[] {
  const union: Cidr[] = []
  for (const cidr of lists.flat().sort(compareCidr)) {
    const last = union.at(-1)
    // A shorter prefix sorts first, so the only kept prefix that can contain this one is the last.
    if (last === undefined || !cidrContains(last, cidr)) union.push(cidr)
  }
  return union
}
