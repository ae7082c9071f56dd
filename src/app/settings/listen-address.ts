// Addresses on which this host listens: address:port of TCP and UDP servers, and multiaddrs of control connections.
import { familyOf, parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import { isPort, PORT_MAX, splitHostPort } from './host-port.ts'
import { Refused } from './refused.ts'

/** An address of this host and a port. */
export interface ListenAddress {
  readonly host: Ip
  readonly port: number
}

/** An address of this host with a port; without one, `defaultPort`. */
export function listenAddress(found: string, defaultPort: number): ListenAddress | Refused {
  const example = `use 127.0.0.1:${defaultPort}, [::1]:${defaultPort} or 0.0.0.0:${defaultPort}`
  const split = splitHostPort(found)
  if (split === undefined) return new Refused('it is no address:port', example)
  const ip = split.host === 'localhost' ? ('127.0.0.1' as Ip) : parseIp(split.host)
  if (ip === undefined) return new Refused('it does not begin with an IPv4 or IPv6 address', example)
  const port = split.port ?? defaultPort
  return isPort(port) ? { host: ip, port } : new Refused(`${port} is no port from 1 to 65535`, example)
}

export function textOfListen(listen: ListenAddress | string): string {
  if (typeof listen === 'string') return listen
  return listen.host.includes(':') ? `[${listen.host}]:${listen.port}` : `${listen.host}:${listen.port}`
}

/** One of `words`, or an address as in `listenAddress`. */
export function listenOr<const W extends readonly string[]>(
  words: W,
  defaultPort: number
): (text: string) => W[number] | ListenAddress | Refused {
  return (found) => words.find((word) => word === found) ?? listenAddress(found, defaultPort)
}

/** A multiaddr of an own address and a TCP port (0 = any), or address:port. The answer is a multiaddr. */
export function listenMultiaddr(found: string, defaultPort: number): string | Refused {
  const example = `use /ip4/0.0.0.0/tcp/${defaultPort} or /ip6/::/tcp/${defaultPort}`
  const match = /^\/(ip[46])\/([^/]{1,45})\/tcp\/(\d{1,5})$/.exec(found)
  const split = match === null ? splitHostPort(found) : { host: match[2] ?? '', port: Number(match[3]) }
  const ip = parseIp(split?.host ?? '')
  if (ip === undefined || found.startsWith('/') !== (match !== null))
    return new Refused('it is no multiaddr of an own address and a TCP port', example)
  const family = familyOf(ip)
  if (match !== null && match[1] !== `ip${family}`)
    return new Refused(`${ip} does not fit /${match[1]}`, example)
  const port = split?.port ?? defaultPort
  return port <= PORT_MAX
    ? `/ip${family}/${ip}/tcp/${port}`
    : new Refused(`${port} is no port up to 65535`, example)
}
