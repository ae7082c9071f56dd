// A host and a port in one text, and addresses that stand for no single host.
import { isIP } from 'node:net'
import { cidrContains } from '../../core/model/cidr.ts'
import type { Cidr, Ip } from '../../core/model/values.ts'
import { Refused } from './refused.ts'

export const PORT_MAX = 65_535
export const NO_HOST: readonly (readonly [prefix: Cidr, what: string])[] = [
  ['0.0.0.0/8' as Cidr, 'stands for every address of this host'],
  ['224.0.0.0/4' as Cidr, 'is a multicast address'],
  ['255.255.255.255/32' as Cidr, 'is the broadcast address'],
  ['::/128' as Cidr, 'stands for every address of this host'],
  ['ff00::/8' as Cidr, 'is a multicast address']
]

// Resolvers of clouds and nodes have such addresses (169.254.169.253); another site never reaches one.
export const LINK_LOCAL: typeof NO_HOST = [
  ['169.254.0.0/16' as Cidr, 'is a link-local address'],
  ['fe80::/10' as Cidr, 'is a link-local address']
]

export function notOneHost(ip: Ip, ranges = NO_HOST): Refused | undefined {
  const [, what] = ranges.find(([prefix]) => cidrContains(prefix, ip)) ?? []
  return what === undefined ? undefined : new Refused(`${ip} ${what}`, 'use the address of one host')
}

export function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= PORT_MAX
}

/** "host", "host:port", "[v6]", "[v6]:port" or a bare IPv6 address. Undefined: none of them. */
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
