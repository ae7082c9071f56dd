// Addresses of the transport: those to dial, those to listen on, and the name of a socket.
import { networkInterfaces } from 'node:os'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { TransportError } from './errors.ts'
import { peerIdIn } from './origin.ts'
import type { Target } from './redial.ts'

/** One address of the target per line, with its PeerId where known; those that do not parse are named in the error. */
export function dialAddresses(target: Target): Multiaddr[] {
  const broken: string[] = []
  const parsed = target.addresses.flatMap((address) => {
    const stated = peerIdIn(address)
    if (target.origin !== undefined && stated !== undefined && stated !== target.origin) {
      broken.push(`${address} names another peer than ${target.origin}`)
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

/** Whether this host has the address of a multiaddr to listen on; a wildcard is always here. */
export function isHere(address: string): boolean {
  const host = /^\/ip[46]\/([^/]+)/.exec(address)?.[1]
  if (host === undefined || host === '0.0.0.0' || host === '::') return true
  if (host.startsWith('127.')) return true // the whole of 127.0.0.0/8 is
  return isOwn(host)
}

export function isOwn(host: string): boolean {
  return Object.values(networkInterfaces()).some((list) => list?.some((entry) => entry.address === host))
}

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

/** Address and port of the remote end, without /p2p/…: unique per open socket, the same before and after the upgrade. */
export function socketKey(address: Multiaddr): string {
  return address.toString().replace(/\/p2p\/[^/]+$/, '')
}

export function hostOf(address: Multiaddr): string {
  return socketKey(address).replace(/\/tcp\/\d+$/, '')
}
