// The addresses outside the tunnel in an agent's record: multiaddrs for control connections, and address:port for
// WireGuard. A member chooses them freely, and every other agent dials them.
import { parseIp } from './cidr.ts'
import { isLinkOnly, isUnroutable } from './unroutable.ts'
import type { Ip } from './values.ts'

/** Returns the address in a multiaddr: "203.0.113.7" of "/ip4/203.0.113.7/tcp/7946…", or '' when there is none. */
export function hostOfMultiaddr(multiaddr: string): string {
  return /^\/ip[46]\/([^/]+)(\/|$)/.exec(multiaddr)?.[1] ?? ''
}

/** Returns the address in "203.0.113.7:51820" or "[2001:db8::1]:51820", or '' when there is none. */
export function hostOfPeerAddress(address: string): string {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):\d+$/.exec(address)
  return match?.[1] ?? match?.[2] ?? ''
}

/** What the reader of an outer address knows, to judge whether it may send there. */
export interface OuterAddressRules {
  /** The cluster whose certified prefixes hold the address; undefined: none does. */
  readonly holder: (ip: Ip) => string | undefined
  /** The cluster that publishes the address. */
  readonly cluster: string
  /** Addresses of this host. */
  readonly own: ReadonlySet<Ip>
  /** True where this agent itself listens on loopback: then several agents are on one host. */
  readonly allowsLoopback: boolean
}

/**
 * Why no packet may be sent to an outer address; undefined: it is allowed. `multiaddr`: /ip4 or /ip6 with a TCP port;
 * `peer`: address:port of WireGuard. Agents publish no names, because a name may lead to any of these later. An address
 * inside a prefix of another cluster would take that pod's packets out of the tunnel. One inside the prefixes of its own
 * cluster is allowed: in a flat network, gateways have addresses of pods.
 */
export function outerRefusal(
  kind: 'multiaddr' | 'peer',
  address: string,
  { holder, cluster, own, allowsLoopback }: OuterAddressRules
): string | undefined {
  const ip = parseIp(kind === 'peer' ? hostOfPeerAddress(address) : dialledHost(address))
  if (ip === undefined || isLinkOnly(ip) || (isUnroutable(ip) && !allowsLoopback)) return UNREACHABLE
  if (own.has(ip)) return 'are addresses of this host'
  const owner = holder(ip)
  return owner === undefined || owner === cluster ? undefined : `are inside a prefix of cluster ${owner}`
}

const UNREACHABLE = 'are none at which other hosts reach an agent'

function dialledHost(multiaddr: string): string {
  return /^\/ip[46]\/[^/]+\/tcp\/\d+(\/p2p\/[^/]+)?$/.test(multiaddr) ? hostOfMultiaddr(multiaddr) : ''
}
