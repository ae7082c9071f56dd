// Splits a text into a host and a port, and names the addresses that do not stand for one host. The parsers of
// addresses in listen-address.ts, outer-address.ts and setting-values.ts share this code.
import { isIP } from 'node:net'
import { cidrContains } from '../../core/model/cidr.ts'
import type { Cidr, Ip } from '../../core/model/values.ts'
import { Refused } from './refused.ts'

export const PORT_MAX = 65_535
// Ranges of addresses that do not stand for one host, so no packet to one host can have them as its destination: RFC
// 1122 §3.2.1.3 (0.0.0.0/8), RFC 5771 (multicast), RFC 919 (broadcast), RFC 4291 (IPv6). `what` continues the sentence
// "<address> …".
export const NO_HOST: readonly (readonly [prefix: Cidr, what: string])[] = [
  ['0.0.0.0/8' as Cidr, 'stands for every address of this host'],
  ['224.0.0.0/4' as Cidr, 'is a multicast address'],
  ['255.255.255.255/32' as Cidr, 'is the broadcast address'],
  ['::/128' as Cidr, 'stands for every address of this host'],
  ['ff00::/8' as Cidr, 'is a multicast address']
]

// Link-local addresses (RFC 3927, RFC 4291). They are allowed for a DNS upstream, because clouds and Nodes have
// resolvers there (169.254.169.253), and refused for an address that other sites use, because they are not routed
// beyond the link.
export const LINK_LOCAL: typeof NO_HOST = [
  ['169.254.0.0/16' as Cidr, 'is a link-local address'],
  ['fe80::/10' as Cidr, 'is a link-local address']
]

/** Returns the refusal of an address that lies in one of `ranges`; undefined: the address can be that of one host. */
export function notOneHost(ip: Ip, ranges = NO_HOST): Refused | undefined {
  const [, what] = ranges.find(([prefix]) => cidrContains(prefix, ip)) ?? []
  return what === undefined ? undefined : new Refused(`${ip} ${what}`, 'use the address of one host')
}

/** Whether a server can listen on this port and a client can connect to it: 1 to 65535. Port 0 is none. */
export function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= PORT_MAX
}

/**
 * Splits "host", "host:port", "[v6]", "[v6]:port" or a bare IPv6 address. Returns undefined for any other text.
 * `port` is undefined when the text has none; else it has one to five digits that are not checked (0 to 99999): call
 * `isPort`.
 * `host` is an address or any text of up to 253 characters without colon, bracket, slash and white space.
 */
export function splitHostPort(
  found: string
): { readonly host: string; readonly port: number | undefined } | undefined {
  if (isIP(found) !== 0) return { host: found, port: undefined }
  const match = /^(?:\[([^[\]]{2,60})\]|([^:[\]/\s]{1,253}))(?::(\d{1,5}))?$/.exec(found)
  if (match === null) return undefined
  const host = match[1] ?? match[2] ?? ''
  if (match[1] !== undefined && isIP(match[1]) !== 6) return undefined
  return { host, port: match[3] === undefined ? undefined : Number(match[3]) }
}
