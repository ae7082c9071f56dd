// Finds the upstreams, which answer names outside the mesh: addresses from the setting dns-upstream, and the
// `nameserver` lines of files such as /etc/resolv.conf. The agent reads such files again every second
// (process/client.ts), since they may change.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { isIP, isIPv6 } from 'node:net'

import { codeOf } from '../../core/model/coded-error.ts'
import { DnsError } from './errors.ts'
import { ownAddresses } from './own-addresses.ts'

export interface SocketAddress {
  /** An IPv4 or IPv6 address without brackets; may have a zone: "fe80::1%eth0". */
  readonly address: string
  readonly port: number
}

interface FoundUpstreams {
  /** In the order of the settings and of the lines in files, without duplicates. */
  readonly upstreams: readonly SocketAddress[]
  /** One sentence for each file that cannot be read or names no server. */
  readonly problems: readonly string[]
}

/** The number of servers that a resolver reads from one file (resolv.conf(5), MAXNS). */
const NAMESERVERS_MAX = 3
/** A resolv.conf has some hundred bytes; a wrong path may name something large. */
const FILE_BYTES_MAX = 64 * 1024

/**
 * A setting is "10.0.0.2", "10.0.0.2:53", "[fd00::2]:53", or the path of a resolv.conf file, whose `nameserver` lines
 * count. The default port is 53. A file that is missing or empty now may be filled later: that is a problem, not an
 * error. Throws DnsError BAD_UPSTREAM for any other text. Reads files synchronously, at most 64 KiB of each.
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
    fix: 'write it as 10.0.0.2, 10.0.0.2:53, [fd00::2]:53, or as the path of a resolv.conf file'
  })
}

/**
 * Reads the text as glibc does: the first word behind `nameserver`, up to a comment; lines without an IP address are
 * skipped. `search`, `domain` and `options` are for the resolvers on this host: they complete a name before they ask
 * us.
 */
export function parseResolvConf(text: string): readonly SocketAddress[] {
  return text
    .split(/\r\n|\n|\r/)
    .map((line) => /^\uFEFF?[ \t]*nameserver[ \t]+([^\s#;]+)/.exec(line)?.[1] ?? '')
    .filter((address) => isIP(address) !== 0)
    .slice(0, NAMESERVERS_MAX)
    .map((address) => ({ address: reachable(address), port: 53 }))
}

/** Returns "10.0.0.2:53" or "[fd00::2]:53". */
export function socketAddressText({ address, port }: SocketAddress): string {
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`
}

export function sameAddress(left: SocketAddress, right: SocketAddress): boolean {
  return left.address === right.address && left.port === right.port
}

/** Says whether `upstream` is one of our own sockets. A question sent there would come back to us for ever. */
export function isOwnAddress(upstream: SocketAddress, listening: readonly SocketAddress[]): boolean {
  return listening.some(({ address, port }) => {
    if (port !== upstream.port) return false
    if (address === upstream.address) return true
    return (address === '0.0.0.0' || address === '::') && isLocal(upstream.address)
  })
}

/**
 * Returns the loopback address instead of the unspecified address (0.0.0.0, ::), because the kernel delivers packets to
 * the unspecified address to this host itself. Other addresses stay as they are.
 */
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

/** Returns the servers that a file names, or a sentence that says why there are none. */
function readResolvConf(path: string): readonly SocketAddress[] | string {
  let text: string
  try {
    const read = readRegularFile(path)
    if (read === undefined) return `the DNS upstream file ${path} is not a regular file`
    text = read
  } catch (error) {
    const code = codeOf(error) ?? String(error)
    return `the DNS upstream file ${path} cannot be read (${code})`
  }
  const found = parseResolvConf(text)
  return found.length === 0 ? `the DNS upstream file ${path} has no server` : found
}

/**
 * Returns the first 64 KiB of a file. Returns undefined for a pipe, a device or a folder: reading one may never end.
 * O_NONBLOCK, because opening a pipe otherwise waits for a writer. Throws the error of the file system.
 */
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
