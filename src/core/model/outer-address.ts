// The addresses outside the tunnel in an agent's record: multiaddrs for control connections, and address:port for
// WireGuard. A member chooses them freely, and every other agent dials them.
import { parseIp } from './cidr.ts'
import { isLinkOnly } from './unroutable.ts'

/** Returns the address in a multiaddr: "203.0.113.7" of "/ip4/203.0.113.7/tcp/7946…", or '' when there is none. */
export function hostOfMultiaddr(multiaddr: string): string {
  return /^\/ip[46]\/([^/]+)(\/|$)/.exec(multiaddr)?.[1] ?? ''
}

/** Returns the address in "203.0.113.7:51820" or "[2001:db8::1]:51820", or '' when there is none. */
export function hostOfPeerAddress(address: string): string {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):\d+$/.exec(address)
  return match?.[1] ?? match?.[2] ?? ''
}

/**
 * Whether an agent may be dialled at this multiaddr of its record: an IP address and a TCP port, and not link-local,
 * multicast, broadcast or unspecified. Agents publish no names, because a name may lead to any of these later. Loopback
 * is allowed, because several agents on one host use it.
 */
export function isDialable(multiaddr: string): boolean {
  return /^\/ip[46]\/[^/]+\/tcp\/\d+(\/p2p\/[^/]+)?$/.test(multiaddr) && isOfHost(hostOfMultiaddr(multiaddr))
}

/** The same for an address of WireGuard. */
export function isPeerReachable(address: string): boolean {
  return isOfHost(hostOfPeerAddress(address))
}

function isOfHost(host: string): boolean {
  const ip = parseIp(host)
  return ip !== undefined && !isLinkOnly(ip)
}
