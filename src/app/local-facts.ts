// What this host says of itself without being told: addresses to dial, and its own address inside the pod prefixes.
import { networkInterfaces } from 'node:os'
import { bytesToIp, cidrContains, cidrToPrefix, hostCidr, parseIp } from '../core/cidr.ts'
import type { Cidr, Ip, Origin, PeerAddress } from '../core/model.ts'
import { publicKeyOf } from '../core/origin.ts'
import { AppError } from './errors.ts'
import { parseListen } from './http.ts'
import type { Settings } from './settings.ts'
import { sourceKind } from './source.ts'

export interface LocalFacts {
  /**
   * Source of host traffic and target of probes: inside the pod prefixes. Where no interface of this host is, the last address
   * of the first prefix, which the tunnel device then bears: without a source the kernel would take a service address. One of several
   * gateways takes another of the last, by its PeerId: two with one address could not be told apart.
   */
  readonly nodeAddress: Ip | undefined
  /** Where others send the tunnel, best first. */
  readonly wireguardAddresses: readonly PeerAddress[]
  /** Where others dial the control connection, best first. */
  readonly multiaddrs: readonly string[]
}

export interface MeshPrefixes {
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
}

/** `listening`: the multiaddrs the transport really has, with their ports. `origin`: of this agent. */
export function localFacts(
  settings: Settings,
  own: MeshPrefixes,
  { listening, origin }: { readonly listening: readonly string[]; readonly origin: Origin }
): LocalFacts {
  const addresses = hostAddresses(settings.device)
  const inside = (ip: Ip): boolean => own.podPrefixes.some((prefix) => cidrContains(prefix, ip))
  const service = (ip: Ip): boolean => own.servicePrefixes.some((prefix) => cidrContains(prefix, ip))
  const reachable = addresses.filter((ip) => !inside(ip) && !service(ip))
  return {
    nodeAddress:
      parseIp(settings['node-address']) ??
      addresses.find(inside) ??
      own.podPrefixes.map((prefix) =>
        sourceKind(settings) === 'folder' ? lastAddress(prefix) : lateAddress(prefix, origin)
      )[0],
    wireguardAddresses:
      settings['wireguard-address'].length > 0
        ? (settings['wireguard-address'] as PeerAddress[])
        : reachable.map((ip) => withPort(ip, settings['wireguard-port'])),
    multiaddrs: settings.announce.length > 0 ? settings.announce : dialable(listening, reachable)
  }
}

/** Addresses of this host that another host could reach: no loopback, no link-local, none of the tunnel; IPv4 first. */
function hostAddresses(device: string): Ip[] {
  const found = Object.entries(networkInterfaces())
    .filter(([name]) => name !== device)
    .flatMap(([, list]) => list ?? [])
    .filter(
      (entry) =>
        !entry.internal && !entry.address.startsWith('fe80:') && !entry.address.startsWith('169.254.')
    )
    .toSorted((a, b) => a.family.localeCompare(b.family))
  return found.map((entry) => parseIp(entry.address)).filter((ip) => ip !== undefined)
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

/** Of the addresses listened on (a wildcard is expanded already), those that another host can reach. */
function dialable(listening: readonly string[], reachable: readonly Ip[]): string[] {
  return listening.filter((multiaddr) => {
    const host = parseIp(/^\/ip[46]\/([^/]+)\/tcp\/\d+$/.exec(multiaddr)?.[1] ?? '')
    return host !== undefined && reachable.includes(host)
  })
}

/** Where the DNS responder listens. */
export function dnsAddresses(
  settings: Settings,
  nodeAddress: Ip | undefined
): { address: string; port: number }[] {
  return settings['dns-listen'].flatMap((text) => {
    if (text === 'off') return []
    if (text === 'auto')
      return [
        nodeAddress === undefined || settings.corefile !== ''
          ? { address: '127.0.0.1', port: 5353 }
          : { address: nodeAddress, port: 53 }
      ]
    const parsed = parseListen(text)
    return parsed === undefined ? [] : [{ address: parsed.host, port: parsed.port }]
  })
}

/** Servers for all names that are not ours; a path is a resolv.conf. */
export function dnsUpstreams(settings: Settings): readonly string[] {
  const upstreams = settings['dns-upstream']
  return upstreams.length === 0 ? ['/etc/resolv.conf'] : upstreams.filter((upstream) => upstream !== 'none')
}

/** Where the feed for CoreDNS listens: loopback only, since whoever reaches it reads the names of the whole mesh. */
export function feedAddress(settings: Settings): { address: string; port: number } | undefined {
  const text = settings['feed-listen']
  if (text === 'off') return undefined
  if (text === 'auto') {
    const isRead = sourceKind(settings) === 'kubernetes' || settings.corefile !== ''
    return isRead ? { address: '127.0.0.1', port: 7948 } : undefined
  }
  const parsed = parseListen(text)
  if (parsed === undefined) {
    throw new AppError(
      'BAD_SETTING',
      `setting feed-listen: ${JSON.stringify(text)} is not address:port`,
      'use 127.0.0.1:7948, [::1]:7948 or off'
    )
  }
  return { address: parsed.host, port: parsed.port }
}
