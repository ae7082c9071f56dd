// Multiaddrs of the transport: which ones to dial, which ones this host can listen on, and a name for a socket.
// transport.ts is the only caller. The addresses to dial come from records of other members, so they are parsed here
// and refused with a reason.
import { existsSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { shareOf } from '../../core/model/client-share.ts'
import { TransportError } from './errors.ts'
import { peerIdIn } from './origin.ts'
import type { Target } from './redial.ts'

/**
 * Parses the addresses of a target in their order and adds `/p2p/<PeerId>` where the target's origin is known, so that
 * libp2p refuses another peer at that address. Addresses that are no multiaddr or name another peer are left out.
 * Throws an Error that names each of these when no address is left.
 */
export function dialAddresses(target: Target): Multiaddr[] {
  const broken: string[] = []
  const parsed = target.addresses.flatMap((address) => {
    const stated = peerIdIn(address)
    if (target.origin !== undefined && stated !== undefined && stated !== target.origin) {
      broken.push(`${address} has another PeerId than ${target.origin}`)
      return []
    }
    try {
      const whole =
        stated === undefined && target.origin !== undefined ? `${address}/p2p/${target.origin}` : address
      return [multiaddr(whole)]
    } catch {
      broken.push(`${address} is not a multiaddr`)
      return []
    }
  })
  if (parsed.length === 0) throw new Error(broken.join('; '))
  return parsed
}

/**
 * The addresses to listen on: without /ip6/::, which is a default, where the kernel has no IPv6 and another address is
 * left.
 */
export function usable(listen: readonly string[]): readonly string[] {
  const ofKernel = listen.filter((address) => !address.startsWith('/ip6/::/') || hasIpv6())
  return ofKernel.length > 0 ? ofKernel : listen
}

/** Whether the kernel has IPv6: a kernel with ipv6.disable=1 opens no socket of this family. */
function hasIpv6(): boolean {
  return existsSync('/proc/net/if_inet6')
}

/**
 * Returns whether this host has the IP address of a multiaddr now. True for a wildcard of a family that the kernel has,
 * and for an address that is not /ip4 or /ip6.
 */
export function isHere(address: string): boolean {
  const host = /^\/ip[46]\/([^/]+)/.exec(address)?.[1]
  if (host === undefined || host === '0.0.0.0') return true
  if (host === '::') return hasIpv6()
  if (host.startsWith('127.')) return true // Linux listens on all of 127.0.0.0/8, but lists 127.0.0.1 only
  return isOwn(host)
}

/** Returns whether an interface of this host has this IP address now. */
export function isOwn(host: string): boolean {
  return Object.values(networkInterfaces()).some((list) => list?.some((entry) => entry.address === host))
}

/** Throws TransportError LISTEN_INVALID when an address of the setting `listen` is no multiaddr. */
export function checkAddress(address: string): void {
  try {
    multiaddr(address)
  } catch (cause) {
    throw new TransportError('LISTEN_INVALID', `"${address}" is not a multiaddr`, {
      fix: 'set `listen` to multiaddrs such as /ip4/0.0.0.0/tcp/7946',
      listen: [address],
      cause
    })
  }
}

/**
 * Returns address and port of the remote end without /p2p/…. This text is unique for each open socket, and it is the
 * same before the PeerId is known and after.
 */
export function socketKey(address: Multiaddr): string {
  return address.toString().replace(/\/p2p\/[^/]+$/, '')
}

/**
 * Returns the remote host for the limit of connections from one host: an IPv4 address, or the /64 of an IPv6 address,
 * all addresses of which one host may use.
 */
export function hostOf(address: Multiaddr): string {
  const host = socketKey(address).replace(/\/tcp\/\d+$/, '')
  const [, protocol, ip] = /^\/(ip[46])\/([^/]+)$/.exec(host) ?? []
  return protocol === undefined || ip === undefined ? host : `/${protocol}/${shareOf(ip)}`
}
