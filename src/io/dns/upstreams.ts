// Where names that are not ours go.
import { readFileSync } from 'node:fs'
import { isIP, isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'

import { DnsError } from './errors.ts'

export interface SocketAddress {
  readonly address: string
  readonly port: number
}

/** As many as a resolver reads from resolv.conf (resolv.conf(5), MAXNS). */
const NAMESERVERS_MAX = 3

/**
 * "10.0.0.2", "10.0.0.2:53", "[fd00::2]:53", or the path of a resolv.conf file, whose `nameserver` lines count.
 * Throws DnsError BAD_UPSTREAM.
 */
export function parseUpstreams(settings: readonly string[]): readonly SocketAddress[] {
  return settings.flatMap((setting) => {
    if (setting.startsWith('/')) return parseResolvConf(readResolvConf(setting))
    const upstream = parseSocketAddress(setting)
    if (upstream !== undefined) return [upstream]
    throw new DnsError('BAD_UPSTREAM', {
      message: `the DNS upstream ${JSON.stringify(setting)} is neither an address nor a path`,
      fix: 'Write it as 10.0.0.2, 10.0.0.2:53, [fd00::2]:53, or as the path of a resolv.conf file.'
    })
  })
}

export function parseResolvConf(text: string): readonly SocketAddress[] {
  return text
    .split('\n')
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? '')
    .filter((address) => isIP(address.replace(/%.*$/, '')) !== 0)
    .slice(0, NAMESERVERS_MAX)
    .map((address) => ({ address, port: 53 }))
}

/** Whether sending to `upstream` would reach one of our own sockets, and so go round for ever. */
export function isOwnAddress(upstream: SocketAddress, listening: readonly SocketAddress[]): boolean {
  return listening.some(({ address, port }) => {
    if (port !== upstream.port) return false
    if (address === upstream.address) return true
    return (address === '0.0.0.0' || address === '::') && isLocal(upstream.address)
  })
}

function isLocal(address: string): boolean {
  if (address.startsWith('127.') || address === '::1') return true
  return Object.values(networkInterfaces()).some((own) => own?.some((entry) => entry.address === address))
}

function parseSocketAddress(text: string): SocketAddress | undefined {
  if (isIP(text) !== 0) return { address: text, port: 53 }
  const match = /^(?:\[(.+)\]|([^:]+)):(\d{1,5})$/.exec(text)
  const address = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3])
  const isBracketed = match?.[1] !== undefined
  if (isIP(address) === 0 || isIPv6(address) !== isBracketed || port < 1 || port > 65_535) return undefined
  return { address, port }
}

function readResolvConf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new DnsError(
      'BAD_UPSTREAM',
      {
        message: `the DNS upstream file ${path} cannot be read`,
        fix: 'Give a readable resolv.conf, or the addresses.'
      },
      error
    )
  }
}
