// What this host says of itself without being told: addresses to dial, and its own address inside the pod prefixes.
import { bytesToIp, cidrContains, cidrToPrefix, familyOf, hostCidr, parseIp } from '../../core/model/cidr.ts'
import { MULTIADDRS_MAX, PEER_ADDRESSES_MAX } from '../../core/wire/value-codec.ts'
import type { AgentValue, Cidr, Ip, Origin, PeerAddress, WireguardKey } from '../../core/model/values.ts'
import { publicKeyOf } from '../../core/model/identity.ts'
import { usefulAddresses, type OwnAddress, type OwnNetwork } from '../../core/host/own-addresses.ts'
import { outerOf } from '../../core/host/surroundings.ts'
import type { OuterAddress } from '../settings/outer-address.ts'
import { CONTROL_PORT, FEED_PORT, type Settings } from '../settings/settings.ts'
import { sourceKind } from '../sources/source.ts'

export interface LocalFacts {
  /**
   * Source of host traffic and target of probes: inside the pod prefixes. Where no interface of this host is, the last address
   * of the first prefix, which the tunnel device then bears: without a source the kernel would take a service address. One of several
   * gateways takes another of the last, by its PeerId: two with one address could not be told apart.
   */
  readonly nodeAddress: Ip | undefined
  /** Where others send the tunnel, best first; no more than a record may have. */
  readonly wireguardAddresses: readonly PeerAddress[]
  /** Where others dial the control connection, best first; no more than a record may have. */
  readonly multiaddrs: readonly string[]
}

export interface MeshPrefixes {
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
}

/** What the facts are made of, besides settings and prefixes. */
export interface FactSources {
  readonly network: OwnNetwork
  /** The multiaddrs the transport really has, with their ports. */
  readonly listening: readonly string[]
  /** Of this agent. */
  readonly origin: Origin
  /** Addresses of the names in settings, as last known. */
  readonly resolved: ReadonlyMap<string, readonly Ip[]>
}

export function localFacts(
  settings: Settings,
  own: MeshPrefixes,
  { network, listening, origin, resolved }: FactSources
): LocalFacts {
  const inside = (ip: Ip): boolean => own.podPrefixes.some((prefix) => cidrContains(prefix, ip))
  const without = { devices: [settings.device] }
  const outside = usefulAddresses(network, {
    ...without,
    prefixes: [...own.podPrefixes, ...own.servicePrefixes]
  })
  // A flat network has its hosts inside the pod prefix: then there is nothing else to name.
  const reachable =
    outside.length > 0
      ? outside
      : usefulAddresses(network, { ...without, prefixes: own.servicePrefixes }).filter((ip) =>
          network.defaultSources.includes(ip)
        )
  const told = {
    wireguardAddresses: wireguardAddresses(settings, { reachable, resolved }).slice(0, PEER_ADDRESSES_MAX),
    multiaddrs: multiaddrs(settings, { reachable, resolved, listening }).slice(0, MULTIADDRS_MAX)
  }
  // Peers reach their outer addresses outside the tunnel: one of those could be no address inside it.
  const outer = outerOf(told)
  const isFree = ({ ip, device }: OwnAddress): boolean =>
    device !== settings.device && inside(ip) && !outer.includes(ip)
  return {
    nodeAddress:
      (settings['node-address'] === '' ? undefined : settings['node-address']) ??
      network.addresses.find(isFree)?.ip ??
      own.podPrefixes.map((prefix) =>
        sourceKind(settings) === 'folder' ? lastAddress(prefix) : lateAddress(prefix, origin)
      )[0],
    ...told
  }
}

/** The own record. */
export function agentValueOf(
  settings: Settings,
  facts: LocalFacts,
  more: {
    readonly wireguardKey: WireguardKey
    readonly software: string
    readonly nodePrefixes: readonly Cidr[] | undefined
  }
): AgentValue {
  return {
    kind: 'agent',
    wireguardKey: more.wireguardKey,
    wireguardAddresses: facts.wireguardAddresses,
    multiaddrs: facts.multiaddrs,
    tunnelAddress: facts.nodeAddress,
    node: settings['node-name'],
    role: 'gateway',
    version: more.software,
    probePort: facts.nodeAddress === undefined ? 0 : settings['probe-port'],
    ...(more.nodePrefixes && { nodePrefixes: more.nodePrefixes })
  }
}

interface Found {
  readonly reachable: readonly Ip[]
  readonly resolved: ReadonlyMap<string, readonly Ip[]>
}

function wireguardAddresses(settings: Settings, found: Found): PeerAddress[] {
  const named = settings['wireguard-address']
  if (named.length === 0) return found.reachable.map((ip) => withPort(ip, settings['wireguard-port']))
  const addresses = named.flatMap((address) =>
    ipsOf(address, found.resolved).map((ip) => withPort(ip, address.port || settings['wireguard-port']))
  )
  return [...new Set(addresses)]
}

/** A name is told as its addresses and as itself: a peer may have no DNS, or another view of it. */
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

function ipsOf(address: OuterAddress, resolved: Found['resolved']): readonly Ip[] {
  if (address.kind === 'ip') return [address.ip]
  return (resolved.get(address.name) ?? []).filter(
    (ip) => address.family === undefined || familyOf(ip) === address.family
  )
}

/** Of a multiaddr that is listened on, those that another host can dial. */
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

/** Of a port that the kernel chose. */
function actualPort(ip: Ip, listening: readonly string[]): number | undefined {
  const exact = listening.find((multiaddr) => hostOf(multiaddr) === ip)
  const family = listening.find((multiaddr) => {
    const host = hostOf(multiaddr)
    return host !== undefined && familyOf(host) === familyOf(ip)
  })
  const found = exact ?? family
  return found === undefined ? undefined : portOf(found)
}

function byUsefulness(list: readonly string[], reachable: readonly Ip[]): string[] {
  const rank = (multiaddr: string): number => reachable.indexOf(hostOf(multiaddr) ?? ('' as Ip))
  return list.toSorted((a, b) => rank(a) - rank(b))
}

/** The address of a multiaddr of an address and a TCP port. */
function hostOf(multiaddr: string): Ip | undefined {
  return parseIp(/^\/ip[46]\/([^/]+)\/tcp\/\d+$/.exec(multiaddr)?.[1] ?? '')
}

function portOf(multiaddr: string): number {
  return Number(/\/tcp\/(\d+)/.exec(multiaddr)?.[1] ?? 0)
}

/** The last that is not the broadcast address: where neither installers nor people begin to count. */
function lastAddress(prefix: Cidr): Ip | undefined {
  const { address, length } = cidrToPrefix(prefix)
  const bytes = address.map((byte, index) => byte | (0xff >> Math.min(8, Math.max(0, length - index * 8))))
  if (length < address.length * 8 - 1) bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) & 0xfe
  return bytesToIp(bytes)
}

/** One of the last sixteenth of a prefix, of at most 4,096: a chance as small that two gateways meet there. */
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

function withPort(ip: Ip, port: number): PeerAddress {
  return (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`) as PeerAddress
}

/** Where the DNS responder listens. */
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

/** Servers for all names that are not ours; a path is a resolv.conf. */
export function dnsUpstreams(settings: Settings): readonly string[] {
  const upstreams = settings['dns-upstream']
  if (upstreams === 'none') return []
  return upstreams.length === 0 ? ['/etc/resolv.conf'] : upstreams
}

/** Where the feed for CoreDNS listens: loopback only, since whoever reaches it reads the names of the whole mesh. */
export function feedAddress(settings: Settings): { address: string; port: number } | undefined {
  const listen = settings['feed-listen']
  if (listen === 'off') return undefined
  if (listen !== 'auto') return { address: listen.host, port: listen.port }
  const isRead = sourceKind(settings) === 'kubernetes' || settings.corefile !== ''
  return isRead ? { address: '127.0.0.1', port: FEED_PORT } : undefined
}
