// Where names that are not ours go.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { isIP, isIPv6 } from 'node:net'

import { codeOf } from '../../core/model/coded-error.ts'
import { DnsError } from './errors.ts'
import { ownAddresses } from './own-addresses.ts'

export interface SocketAddress {
  /** May have a zone: "fe80::1%eth0". */
  readonly address: string
  readonly port: number
}

interface FoundUpstreams {
  readonly upstreams: readonly SocketAddress[]
  /** Files that cannot be read or name no server, one plain sentence each. */
  readonly problems: readonly string[]
}

/** As many as a resolver reads from resolv.conf (resolv.conf(5), MAXNS). */
const NAMESERVERS_MAX = 3
/** A resolv.conf has some hundred bytes; a wrong path may name something large. */
const FILE_BYTES_MAX = 64 * 1024

/**
 * "10.0.0.2", "10.0.0.2:53", "[fd00::2]:53", or the path of a resolv.conf file, whose `nameserver` lines count. A file that is missing
 * or empty now may be filled later: that is a problem, not an error. Throws DnsError BAD_UPSTREAM for all else.
 */
export function findUpstreams(settings: readonly string[]): FoundUpstreams {
  const upstreams: SocketAddress[] = []
  const problems: string[] = []
  for (const setting of settings) {
    if (setting.startsWith('/')) {
      const found = readResolvConf(setting)
      if (typeof found === 'string') problems.push(found)
      else upstreams.push(...found)
    } else upstreams.push(parseUpstream(setting))
  }
  return {
    upstreams: upstreams.filter((each, index) => upstreams.findIndex(sameAs(each)) === index),
    problems
  }
}

function parseUpstream(setting: string): SocketAddress {
  const upstream = parseSocketAddress(setting)
  if (upstream !== undefined) return upstream
  throw new DnsError('BAD_UPSTREAM', {
    message: `the DNS upstream ${JSON.stringify(setting)} is neither an address nor a path`,
    fix: 'Write it as 10.0.0.2, 10.0.0.2:53, [fd00::2]:53, or as the path of a resolv.conf file.'
  })
}

/**
 * As glibc reads it: the first word behind `nameserver`, up to a comment. `search`, `domain` and `options` are for the resolvers that ask us,
 * and do not count here: what they ask is forwarded as it is.
 */
export function parseResolvConf(text: string): readonly SocketAddress[] {
  return text
    .split(/\r\n|\n|\r/)
    .map((line) => /^\uFEFF?[ \t]*nameserver[ \t]+([^\s#;]+)/.exec(line)?.[1] ?? '')
    .filter((address) => isIP(address) !== 0)
    .slice(0, NAMESERVERS_MAX)
    .map((address) => ({ address: reachable(address), port: 53 }))
}

/** "10.0.0.2:53" or "[fd00::2]:53" */
export function socketAddressText({ address, port }: SocketAddress): string {
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`
}

export function sameAddress(left: SocketAddress, right: SocketAddress): boolean {
  return left.address === right.address && left.port === right.port
}

/** Whether sending to `upstream` would reach one of our own sockets, and so go round for ever. */
export function isOwnAddress(upstream: SocketAddress, listening: readonly SocketAddress[]): boolean {
  return listening.some(({ address, port }) => {
    if (port !== upstream.port) return false
    if (address === upstream.address) return true
    return (address === '0.0.0.0' || address === '::') && isLocal(upstream.address)
  })
}

/** To send to the unspecified address is to send to this host. */
function reachable(address: string): string {
  return address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : address
}

function isLocal(address: string): boolean {
  if (address.startsWith('127.') || address === '::1') return true
  return ownAddresses().has(address)
}

function sameAs(upstream: SocketAddress): (other: SocketAddress) => boolean {
  return (other) => sameAddress(upstream, other)
}

function parseSocketAddress(text: string): SocketAddress | undefined {
  if (isIP(text) !== 0) return { address: reachable(text), port: 53 }
  const match = /^(?:\[(.+)\]|([^:]+)):(\d{1,5})$/.exec(text)
  const address = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3])
  const isBracketed = match?.[1] !== undefined
  if (isIP(address) === 0 || isIPv6(address) !== isBracketed || port < 1 || port > 65_535) return undefined
  return { address: reachable(address), port }
}

/** A sentence: why there are none. */
function readResolvConf(path: string): readonly SocketAddress[] | string {
  let text: string
  try {
    const read = readRegularFile(path)
    if (read === undefined) return `the DNS upstream file ${path} is no regular file`
    text = read
  } catch (error) {
    const code = codeOf(error) ?? String(error)
    return `the DNS upstream file ${path} cannot be read (${code})`
  }
  const found = parseResolvConf(text)
  return found.length === 0 ? `the DNS upstream file ${path} names no server` : found
}

/** Its first bytes; undefined: it is a pipe, a device or a folder, which may never end or never begin. */
function readRegularFile(path: string): string | undefined {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    if (!fstatSync(file).isFile()) return undefined
    const bytes = Buffer.alloc(FILE_BYTES_MAX)
    return bytes.toString('utf8', 0, readSync(file, bytes, 0, FILE_BYTES_MAX, 0))
  } finally {
    closeSync(file)
  }
}
