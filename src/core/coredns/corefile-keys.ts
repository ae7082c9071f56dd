// The zones of one key of a server block, such as "tls://example.org:853" or "10.1.0.0/16". Sources: coredns 1.15.0,
// plugin/normalize.go (SplitHostPort), plugin/pkg/parse/transport.go, plugin/pkg/cidr; miekg/dns 1.1, IsDomainName.
import { cidrToPrefix, hostCidr, parseIp, prefixToCidr } from '../model/cidr.ts'
import { REVERSE_DOMAINS } from '../model/zones.ts'
import { reverseZones } from './reverse-zones.ts'

/** A zone as it is listened for. */
export interface KeyZone {
  /** In lower case, without a final dot; '.' for the root. */
  readonly zone: string
  readonly port: number
  /** dns, tls, quic, grpc, https or https3: each is a listener of its own; unix has none. */
  readonly transport: string
}

/** The default port of each transport; that of dns is a setting of CoreDNS. A zone of unix has no listener at all. */
const PORTS: Readonly<Record<string, number>> = {
  tls: 853,
  quic: 853,
  grpc: 443,
  https: 443,
  https3: 443,
  unix: 0
}
const PORT_MAX = 65_535
const NAME_BYTES_MAX = 255
const LABEL_BYTES_MAX = 63
// Atoi of Go: a sign is allowed; beyond 64 bits it is no number.
const NUMBER = /^[+-]?\d{1,18}$/

const ENCODER = new TextEncoder()

/** Returns the zones of a key, or why CoreDNS refuses it, as a clause. */
export function zonesOfKey(key: string, defaultPort: number): readonly KeyZone[] | string {
  const [, scheme, rest = key] = /^(dns|tls|quic|grpc|https3|https|unix):\/\/(.*)$/s.exec(key) ?? []
  const transport = scheme ?? 'dns'
  const split = splitPort(rest)
  if (split === undefined) return `the key ${JSON.stringify(key)} ends with a colon, or is empty`
  const { host, port = transport === 'dns' ? defaultPort : (PORTS[transport] ?? defaultPort) } = split
  if (!isDomainName(host)) return `${JSON.stringify(host)} is not a domain name`
  const hosts = reverseOf(host)
  if (hosts === undefined) return `${JSON.stringify(host)} is not a prefix that CoreDNS accepts`
  if (port < 0 || port > PORT_MAX) return `port ${port} is not between 0 and ${PORT_MAX}`
  return hosts.map((name) => ({ zone: name.toLowerCase().replace(/(?<=.)\.$/s, ''), port, transport }))
}

/** The number behind the last colon is a port; other text there belongs to the name. */
function splitPort(text: string): { readonly host: string; readonly port?: number } | undefined {
  const colon = text.lastIndexOf(':')
  if (colon === text.length - 1) return undefined
  const digits = text.slice(colon + 1)
  return colon === -1 || !NUMBER.test(digits)
    ? { host: text }
    : { host: text.slice(0, colon), port: Number(digits) }
}

/**
 * The reverse zones of a prefix, whose host bits are masked; any other text as it is. undefined: CoreDNS refuses a prefix
 * of IPv6 that begins with ":" or with a zero.
 */
function reverseOf(text: string): readonly string[] | undefined {
  const [, address = '', digits = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? []
  const ip = parseIp(address)
  const length = Number(digits)
  if (ip === undefined) return [text]
  const { address: bytes } = cidrToPrefix(hostCidr(ip))
  if (length > bytes.length * 8) return [text]
  if (text.startsWith(':') || (text.startsWith('0') && text.includes(':'))) return undefined
  if (length === 0) return [bytes.length === 4 ? REVERSE_DOMAINS.IPv4 : REVERSE_DOMAINS.IPv6]
  const masked = bytes.map(
    (byte, index) => byte & (0xff << Math.max(0, Math.min(8, 8 * (index + 1) - length)))
  )
  const cidr = prefixToCidr({ address: masked, length })
  return cidr === undefined ? [text] : reverseZones(cidr)
}

/**
 * Whether a text is a name as miekg/dns has it: labels of 63 bytes at most, none empty, 255 bytes in all; "\." and "\046"
 * count as one byte of a label. A backslash at the end is no name.
 */
function isDomainName(text: string): boolean {
  const given = ENCODER.encode(text)
  if (given.length === 0 || given.length > NAME_BYTES_MAX) return false
  const bytes = isWhole(text) ? given : Uint8Array.from([...given, DOT])
  let [begin, total, wasDot] = [0, 0, false]
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] === BACKSLASH) {
      const skipped = isDigits(bytes.subarray(at + 1, at + 4)) ? 3 : 1
      // The final dot itself would be escaped.
      if (at + skipped >= bytes.length - 1) return false
      at += skipped
      begin += skipped
      wasDot = false
    } else if (bytes[at] === DOT) {
      if (wasDot || (at === 0 && bytes.length > 1) || at - begin > LABEL_BYTES_MAX) return false
      total += 1 + at - begin
      if (total > NAME_BYTES_MAX + 1) return false
      wasDot = true
      begin = at + 1
    } else wasDot = false
  }
  return true
}

const [DOT, BACKSLASH] = [0x2e, 0x5c]

/** Whether a name ends with a dot that no backslash escapes. */
function isWhole(text: string): boolean {
  const [, backslashes = ''] = /(\\*)\.$/.exec(text) ?? []
  return text.endsWith('.') && backslashes.length % 2 === 0
}

function isDigits(bytes: Uint8Array): boolean {
  return bytes.length === 3 && bytes.every((byte) => byte >= 0x30 && byte <= 0x39)
}
