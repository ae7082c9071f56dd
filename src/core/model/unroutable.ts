// Prefixes whose addresses no other host can reach. Certificates cannot hold them, manifests are refused with them, and
// a member is not dialled at them. This is the one list of them.
import { cidrContains, cidrOverlaps, constantCidrs, parseIp } from './cidr.ts'
import type { Cidr, Ip } from './values.ts'

const BROADCAST = '255.255.255.255/32'

/** The prefixes beyond one link: unspecified, link-local, multicast and broadcast (RFC 6890). */
const BEYOND_NO_LINK = constantCidrs(
  '0.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  BROADCAST,
  '::/128',
  'fe80::/10',
  'ff00::/8'
)

const LOOPBACK = constantCidrs('127.0.0.0/8', '::/64')

/**
 * The same and loopback; ::/64 holds ::1 and the IPv4-mapped addresses. The rest of 240.0.0.0/4 is not in the list,
 * because large clusters use it for pods, and Linux routes it.
 */
export const UNROUTABLE: readonly Cidr[] = [...BEYOND_NO_LINK, ...LOOPBACK]

/** Whether no other host can reach this address. */
export function isUnroutable(ip: Ip): boolean {
  return UNROUTABLE.some((prefix) => cidrContains(prefix, ip))
}

/** Whether the address is of this host alone (RFC 1122, RFC 4291). */
export function isLoopback(address: string): boolean {
  const ip = parseIp(address)
  return ip !== undefined && LOOPBACK.some((prefix) => cidrContains(prefix, ip))
}

/**
 * Whether no host beyond the link can reach this address, and it is not loopback. The link-local prefix has the
 * metadata service of clouds (169.254.169.254).
 */
export function isLinkOnly(ip: Ip): boolean {
  return BEYOND_NO_LINK.some((prefix) => cidrContains(prefix, ip))
}

/**
 * The unroutable prefix that a prefix of a cluster overlaps; undefined when there is none. A prefix that only contains
 * the broadcast address, such as 240.0.0.0/4, is none: the kernel never routes that address.
 */
export function unroutablePart(cidr: Cidr): Cidr | undefined {
  return UNROUTABLE.find((prefix) =>
    prefix === BROADCAST ? cidrContains(prefix, cidr) : cidrOverlaps(prefix, cidr)
  )
}
