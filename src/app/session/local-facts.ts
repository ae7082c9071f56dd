// What this host tells about itself: the addresses that others dial, and its own address inside the pod prefixes. All
// are found from the kernel's addresses unless a setting names them. The file also decides where the DNS responder
// and the feed listen. Pure, except that `sourceKind` looks whether the agent runs in a pod.
import { bytesToIp, cidrContains, cidrToPrefix, familyOf, hostCidr, parseIp } from '../../core/model/cidr.ts'
import { MULTIADDRS_MAX, PEER_ADDRESSES_MAX } from '../../core/wire/value-codec.ts'
import type { AgentValue, Cidr, Ip, Origin, PeerAddress, TunnelKey } from '../../core/model/values.ts'
import { publicKeyOf } from '../../core/model/identity.ts'
import { withObserved } from '../../core/host/observed-addresses.ts'
import { usefulAddresses, type OwnAddress, type OwnNetwork } from '../../core/host/own-addresses.ts'
import { outerOf } from '../../core/host/surroundings.ts'
import type { OuterAddress } from '../settings/outer-address.ts'
import { relays, roleOf } from '../settings/role.ts'
import { CONTROL_PORT, FEED_PORT, type Settings } from '../settings/settings.ts'
import { sourceKind } from '../sources/source.ts'

/** The addresses of this agent. own-facts.ts keeps them up to date. */
export interface LocalFacts {
  /**
   * An address inside the pod prefixes: the source of traffic that this host starts, and the target of probes
   * (docs/decisions/0008). The setting node-address comes first, then an address of an interface. A host without
   * either gets an address from the end of its first pod prefix, which the tunnel device then has: without a source
   * the kernel would take a service address. Several gateways of one cluster take different ones, by their PeerIds,
   * because two gateways with one address could not be told apart. undefined: there are no pod prefixes.
   */
  readonly nodeAddress: Ip | undefined
  /** The addresses to which others send the packets of the tunnel, best first; at most PEER_ADDRESSES_MAX. */
  readonly wireguardAddresses: readonly PeerAddress[]
  /** The addresses at which others dial the control connection, best first; at most MULTIADDRS_MAX. */
  readonly multiaddrs: readonly string[]
}

/** The prefixes of this cluster. */
export interface MeshPrefixes {
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
}

/** The sources of the facts, besides settings and prefixes. */
export interface FactSources {
  readonly network: OwnNetwork
  /** The multiaddrs on which the transport listens, with the ports that the kernel chose. */
  readonly listening: readonly string[]
  /** The PeerId of this agent. */
  readonly origin: Origin
  /** The last known addresses of the names in settings. */
  readonly resolved: ReadonlyMap<string, readonly Ip[]>
  /** Pod prefixes of this host alone; left out or empty: not known, or none. */
  readonly nodePrefixes?: readonly Cidr[] | undefined
  /** The addresses at which members see the tunnel of this host (core/host/observed-addresses.ts); left out: none. */
  readonly observed?: readonly PeerAddress[]
}

/**
 * Computes the facts. Addresses inside this cluster's prefixes are not offered to others, since others reach those
 * through the tunnel only.
 */
export function localFacts(
  settings: Settings,
  own: MeshPrefixes,
  { network, listening, origin, resolved, nodePrefixes = [], observed = [] }: FactSources
): LocalFacts {
  // The gateways send a node what is for its own prefixes only, so its address is in one of these.
  const isNode = roleOf(settings) === 'node' && nodePrefixes.length > 0
  const pods = isNode ? nodePrefixes : own.podPrefixes
  const inside = (ip: Ip): boolean => pods.some((prefix) => cidrContains(prefix, ip))
  const without = { devices: [settings.device] }
  const outside = usefulAddresses(network, {
    ...without,
    prefixes: [...own.podPrefixes, ...own.servicePrefixes]
  })
  // In a flat network, the host's own address lies inside the pod prefix. When there is no other address, the source
  // address of the default route is offered.
  const reachable =
    outside.length > 0
      ? outside
      : usefulAddresses(network, { ...without, prefixes: own.servicePrefixes }).filter((ip) =>
          network.defaultSources.includes(ip)
        )
  const told = {
    wireguardAddresses: wireguardAddresses(settings, { reachable, resolved, observed }).slice(
      0,
      PEER_ADDRESSES_MAX
    ),
    multiaddrs: multiaddrs(settings, { reachable, resolved, listening }).slice(0, MULTIADDRS_MAX)
  }
  // Peers send packets to a host's outer addresses outside the tunnel, so none of them can be its address inside the
  // tunnel.
  const outer = outerOf(told)
  const isFree = ({ ip, device }: OwnAddress): boolean =>
    device !== settings.device && inside(ip) && !outer.includes(ip)
  return {
    nodeAddress:
      (settings['node-address'] === '' ? undefined : settings['node-address']) ??
      network.addresses.find(isFree)?.ip ??
      pods.map((prefix) =>
        sourceKind(settings) === 'folder' || isNode ? lastAddress(prefix) : lateAddress(prefix, origin)
      )[0],
    ...told
  }
}

/**
 * Returns the record in which this agent announces itself. `nodePrefixes`: pod prefixes of this node; undefined: not
 * known, or none.
 */
export function agentValueOf(
  settings: Settings,
  facts: LocalFacts,
  more: {
    readonly tunnelKeys: readonly TunnelKey[]
    readonly software: string
    readonly nodePrefixes: readonly Cidr[] | undefined
    /** Left out: this agent hands nothing over. */
    readonly handOver?: AgentValue['handOver'] | undefined
  }
): AgentValue {
  return {
    kind: 'agent',
    tunnelKeys: more.tunnelKeys,
    wireguardAddresses: facts.wireguardAddresses,
    // A node is dialled by no other agent, also not by one of an older version that does not ask for its role.
    multiaddrs: roleOf(settings) === 'node' ? [] : facts.multiaddrs,
    tunnelAddress: facts.nodeAddress,
    node: settings['node-name'],
    role: roleOf(settings),
    version: more.software,
    probePort: facts.nodeAddress === undefined ? 0 : settings['probe-port'],
    ...(more.nodePrefixes && { nodePrefixes: more.nodePrefixes }),
    ...(more.handOver && { handOver: more.handOver }),
    ...(relays(settings) && { relayRate: settings['relay-rate'] })
  }
}

/** The addresses from which both lists are made. */
interface Found {
  readonly reachable: readonly Ip[]
  readonly resolved: ReadonlyMap<string, readonly Ip[]>
}

/**
 * The addresses of the setting wireguard-address, or all useful addresses of the host with those at which members see it. An
 * entry without a port gets the wireguard-port.
 */
function wireguardAddresses(
  settings: Settings,
  found: Found & { readonly observed: readonly PeerAddress[] }
): readonly PeerAddress[] {
  const named = settings['wireguard-address']
  if (named.length === 0)
    return withObserved(
      found.reachable.map((ip) => withPort(ip, settings['wireguard-port'])),
      found.observed
    )
  const addresses = named.flatMap((address) =>
    ipsOf(address, found.resolved).map((ip) => withPort(ip, address.port || settings['wireguard-port']))
  )
  return [...new Set(addresses)]
}

/**
 * The addresses of the setting announce, or those that are listened on. A name is announced as its addresses and as
 * itself: a peer may have no DNS, or its DNS may give another address.
 */
function multiaddrs(
  settings: Settings,
  found: Found & { readonly listening: readonly string[] }
): readonly string[] {
  if (settings.announce.length === 0) {
    const dialable = settings.listen.flatMap((listen) => dialableOf(listen, found))
    return byUsefulness([...new Set(dialable)], found.reachable)
  }
  const defaultPort = settings.listen.map(portOf).find((port) => port > 0) ?? CONTROL_PORT
  const named = settings.announce.flatMap((address) => {
    const port = address.port || defaultPort
    const ips = ipsOf(address, found.resolved).map((ip) => `/ip${familyOf(ip)}/${ip}/tcp/${port}`)
    return address.kind === 'ip' ? ips : [...ips, `/dns${address.family ?? ''}/${address.name}/tcp/${port}`]
  })
  return [...new Set(named)]
}

/** The addresses of an entry: a name gives those that it resolves to, of the family that the entry asks for. */
function ipsOf(address: OuterAddress, resolved: Found['resolved']): readonly Ip[] {
  if (address.kind === 'ip') return [address.ip]
  return (resolved.get(address.name) ?? []).filter(
    (ip) => address.family === undefined || familyOf(ip) === address.family
  )
}

/**
 * Returns the multiaddrs at which another host can dial a listen address. A wildcard (0.0.0.0, ::) stands for all
 * useful addresses of its family; an address that is not useful has none.
 */
function dialableOf(
  listen: string,
  { reachable, listening }: { readonly reachable: readonly Ip[]; readonly listening: readonly string[] }
): string[] {
  const host = hostOf(listen)
  if (host === undefined) return []
  const isEvery = host === '0.0.0.0' || host === '::'
  const hosts = reachable.filter((ip) => (isEvery ? familyOf(ip) === familyOf(host) : ip === host))
  return hosts.flatMap((ip) => {
    const port = portOf(listen) || actualPort(ip, listening)
    return port === undefined ? [] : [`/ip${familyOf(ip)}/${ip}/tcp/${port}`]
  })
}

/**
 * Returns the port that the kernel chose for a listen address with port 0; undefined: nothing listens for this
 * address.
 */
function actualPort(ip: Ip, listening: readonly string[]): number | undefined {
  const exact = listening.find((multiaddr) => hostOf(multiaddr) === ip)
  const family = listening.find((multiaddr) => {
    const host = hostOf(multiaddr)
    return host !== undefined && familyOf(host) === familyOf(ip)
  })
  const found = exact ?? family
  return found === undefined ? undefined : portOf(found)
}

/** Sorts multiaddrs into the order of the host's useful addresses. */
function byUsefulness(list: readonly string[], reachable: readonly Ip[]): string[] {
  const rank = (multiaddr: string): number => reachable.indexOf(hostOf(multiaddr) ?? ('' as Ip))
  return list.toSorted((a, b) => rank(a) - rank(b))
}

/** Returns the address of a multiaddr "/ip4/…/tcp/…"; undefined for one of another form. */
function hostOf(multiaddr: string): Ip | undefined {
  return parseIp(/^\/ip[46]\/([^/]+)\/tcp\/\d+$/.exec(multiaddr)?.[1] ?? '')
}

/** Returns the TCP port of a multiaddr; 0 when it has none, or when the kernel is to choose. */
function portOf(multiaddr: string): number {
  return Number(/\/tcp\/(\d+)/.exec(multiaddr)?.[1] ?? 0)
}

/**
 * Returns the last address of a prefix that is not the broadcast address. Installers and people assign addresses from
 * the other end.
 */
function lastAddress(prefix: Cidr): Ip | undefined {
  const { address, length } = cidrToPrefix(prefix)
  const bytes = address.map((byte, index) => byte | (0xff >> Math.min(8, Math.max(0, length - index * 8))))
  if (length < address.length * 8 - 1) bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) & 0xfe
  return bytesToIp(bytes)
}

/**
 * Returns an address from the last sixteenth of a prefix, chosen by the PeerId among at most 4,096. So gateways of
 * one cluster get different addresses, with high probability, and each gets the same after a restart.
 */
function lateAddress(prefix: Cidr, origin: Origin): Ip | undefined {
  const last = lastAddress(prefix)
  const key = publicKeyOf(origin)
  if (last === undefined || key === undefined) return last
  const { address, length } = cidrToPrefix(prefix)
  const bits = Math.max(0, Math.min(12, address.length * 8 - length - 4))
  const back = (((key[0] ?? 0) << 8) | (key[1] ?? 0)) % (1 << bits)
  const bytes = cidrToPrefix(hostCidr(last)).address.slice()
  const [high, low] = [bytes.length - 2, bytes.length - 1]
  const tail = (((bytes[high] ?? 0) << 8) | (bytes[low] ?? 0)) - back
  bytes[high] = tail >> 8
  bytes[low] = tail & 0xff
  return bytesToIp(bytes)
}

/** "203.0.113.7:51820", with an IPv6 address in brackets. */
function withPort(ip: Ip, port: number): PeerAddress {
  return (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`) as PeerAddress
}

/**
 * Returns where the DNS responder listens; empty: it is off. `auto` is port 53 of the node address. Without a node
 * address, or beside a CoreDNS of the agent, it is 127.0.0.1:5353.
 */
export function dnsAddresses(
  settings: Settings,
  nodeAddress: Ip | undefined
): { address: string; port: number }[] {
  const listen = settings['dns-listen']
  if (listen === 'off') return []
  return listen.map((item) => {
    if (item !== 'auto') return { address: item.host, port: item.port }
    return nodeAddress === undefined || settings.corefile !== ''
      ? { address: '127.0.0.1', port: 5353 }
      : { address: nodeAddress, port: 53 }
  })
}

/**
 * Returns the servers for all names outside the mesh: addresses, or paths of resolv.conf files. Empty: such names are
 * refused.
 */
export function dnsUpstreams(settings: Settings): readonly string[] {
  const upstreams = settings['dns-upstream']
  if (upstreams === 'none') return []
  return upstreams.length === 0 ? ['/etc/resolv.conf'] : upstreams
}

/**
 * Returns where the feed for CoreDNS listens; undefined: it is off. `auto` takes the loopback address only: every
 * client of the feed can read all names of the mesh.
 */
export function feedAddress(settings: Settings): { address: string; port: number } | undefined {
  const listen = settings['feed-listen']
  if (listen === 'off') return undefined
  if (listen !== 'auto') return { address: listen.host, port: listen.port }
  const isRead = sourceKind(settings) === 'kubernetes' || settings.corefile !== ''
  return isRead ? { address: '127.0.0.1', port: FEED_PORT } : undefined
}
