// Arithmetic of reverse names: in-addr.arpa has one label for each byte of an address (RFC 1035 3.5), ip6.arpa one
// for each four bits (RFC 3596 2.5), the last ones first. names.ts decides which of them are answered; meshctl and
// the Corefiles use the arithmetic, too.
import { bytesToIp, cidrToPrefix, ipToBytes } from '../model/cidr.ts'
import type { Cidr, Ip } from '../model/values.ts'
import { REVERSE_DOMAINS } from '../model/zones.ts'
import type { DomainName } from './record.ts'

/** An address or a prefix: 4 or 16 bytes, and how many of their bits, from the first on, a name or prefix fixes. */
export interface Prefix {
  readonly bytes: readonly number[]
  readonly bits: number
}

/** A name below in-addr.arpa or ip6.arpa: the prefix that its last labels stand for. */
interface ReverseName extends Prefix {
  /** The number of labels on the left that are no part of an address. */
  readonly rest: number
}

/**
 * Reads a name, given as its labels in lower case. For a whole address `bits` is 32 or 128 and `rest` is 0. Returns
 * undefined for a name that is in neither domain.
 */
export function parseReverse(labels: readonly string[]): ReverseName | undefined {
  if (labels.at(-1) !== 'arpa') return undefined
  const domain = labels.slice(-2).join('.')
  if (domain !== REVERSE_DOMAINS.IPv4 && domain !== REVERSE_DOMAINS.IPv6) return undefined
  const isIPv4 = domain === REVERSE_DOMAINS.IPv4
  const reversed = labels.slice(0, -2).toReversed()
  const [isDigit, count] = isIPv4 ? [isByte, 4] : [isNibble, 32]
  const end = reversed.findIndex((label, index) => index === count || !isDigit(label))
  const digits = end === -1 ? reversed : reversed.slice(0, end)
  const rest = reversed.length - digits.length
  if (isIPv4) {
    return { bytes: [...digits.map(Number), 0, 0, 0, 0].slice(0, 4), bits: digits.length * 8, rest }
  }
  const nibbles = digits.join('').padEnd(32, '0')
  const bytes = Array.from({ length: 16 }, (_, i) => parseInt(nibbles.slice(2 * i, 2 * i + 2), 16))
  return { bytes, bits: digits.length * 4, rest }
}

/**
 * Returns the reverse zone of `outer` that has `inner` in it. When `outer` ends inside a label, the zone ends after
 * that label: of 10.1.0.0/20, the zone of 10.1.2.3 is that of 10.1.2.0/24.
 */
export function zoneWithin(outer: Prefix, inner: Prefix): Prefix {
  const step = outer.bytes.length === 4 ? 8 : 4
  return { bytes: inner.bytes, bits: Math.max(step, Math.ceil(outer.bits / step) * step) }
}

/** Returns a prefix as bytes and bits, for `contains` and `reverseZone`. */
export function parsePrefix(cidr: Cidr): Prefix {
  const { address, length } = cidrToPrefix(cidr)
  return { bytes: [...address], bits: length }
}

/** Whether `inner` lies in `outer`. Prefixes of two families never do. */
export function contains(outer: Prefix, inner: Prefix): boolean {
  if (outer.bytes.length !== inner.bytes.length || inner.bits < outer.bits) return false
  for (let bit = 0; bit < outer.bits; bit += 8) {
    const mask = 0xff & (0xff << Math.max(0, 8 - (outer.bits - bit)))
    if (((outer.bytes[bit / 8] ?? 0) & mask) !== ((inner.bytes[bit / 8] ?? 0) & mask)) return false
  }
  return true
}

/**
 * Returns the name of the reverse zone of a prefix, without the bits that make no whole label: "1.10.in-addr.arpa"
 * for 10.1.0.0/16 and 10.1.0.0/20.
 */
export function reverseZone({ bytes, bits }: Prefix): DomainName {
  if (bytes.length === 4) return [...bytes.slice(0, bits >> 3).toReversed(), REVERSE_DOMAINS.IPv4].join('.')
  const nibbles = bytes.flatMap((byte) => [byte >> 4, byte & 15]).slice(0, bits >> 2)
  return [...nibbles.map((nibble) => nibble.toString(16)).toReversed(), REVERSE_DOMAINS.IPv6].join('.')
}

/** Returns the name of one address: "4.3.2.10.in-addr.arpa" for 10.2.3.4. */
export function reverseName(ip: Ip): DomainName {
  const bytes = [...ipToBytes(ip)]
  return reverseZone({ bytes, bits: bytes.length * 8 })
}

/** Returns the address of a whole reverse name. undefined for an IPv4-mapped IPv6 address. */
export function addressOf({ bytes }: Prefix): Ip | undefined {
  return bytesToIp(Uint8Array.from(bytes))
}

/** Whether a label is a byte in decimal. Leading zeros are not allowed: "010" is another name than "10". */
function isByte(label: string): boolean {
  return /^(0|[1-9]\d{0,2})$/.test(label) && Number(label) < 256
}

function isNibble(label: string): boolean {
  return /^[0-9a-f]$/.test(label)
}
