// Parsers of the settings that say where this host listens: address:port for TCP and UDP servers, and multiaddrs for
// control connections. Whether the address belongs to this host is found out only when a server binds it.
import { familyOf, parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import { isPort, PORT_MAX, splitHostPort } from './host-port.ts'
import { Refused } from './refused.ts'

/**
 * An address to bind, and a port from 1 to 65535. The address can be 0.0.0.0 or ::, which stand for all addresses of
 * this host.
 */
export interface ListenAddress {
  readonly host: Ip
  readonly port: number
}

/**
 * Parses an address with a port; without a port, `defaultPort` is taken. "localhost" is 127.0.0.1; other names are
 * refused.
 */
export function listenAddress(found: string, defaultPort: number): ListenAddress | Refused {
  const example = `use 127.0.0.1:${defaultPort}, [::1]:${defaultPort} or 0.0.0.0:${defaultPort}`
  const split = splitHostPort(found)
  if (split === undefined) return new Refused('it is not an address:port', example)
  const ip = split.host === 'localhost' ? ('127.0.0.1' as Ip) : parseIp(split.host)
  if (ip === undefined) return new Refused('it does not begin with an IPv4 or IPv6 address', example)
  const port = split.port ?? defaultPort
  return isPort(port) ? { host: ip, port } : new Refused(`${port} is not a port from 1 to 65535`, example)
}

/** Formats an address for logs, with brackets around IPv6: "[::1]:9465". A word such as "off" stays as it is. */
export function textOfListen(listen: ListenAddress | string): string {
  if (typeof listen === 'string') return listen
  return listen.host.includes(':') ? `[${listen.host}]:${listen.port}` : `${listen.host}:${listen.port}`
}

/** Makes a parser that accepts one of `words`, such as "auto" and "off", or an address as `listenAddress` does. */
export function listenOr<const W extends readonly string[]>(
  words: W,
  defaultPort: number
): (text: string) => W[number] | ListenAddress | Refused {
  return (found) => words.find((word) => word === found) ?? listenAddress(found, defaultPort)
}

/**
 * Parses /ip4/<address>/tcp/<port>, /ip6/<address>/tcp/<port> or address:port, and returns a multiaddr, which is the
 * form that libp2p listens on. Here port 0 is allowed: the kernel then picks a free port.
 */
export function listenMultiaddr(found: string, defaultPort: number): string | Refused {
  const example = `use /ip4/0.0.0.0/tcp/${defaultPort} or /ip6/::/tcp/${defaultPort}`
  const match = /^\/(ip[46])\/([^/]{1,45})\/tcp\/(\d{1,5})$/.exec(found)
  const split = match === null ? splitHostPort(found) : { host: match[2] ?? '', port: Number(match[3]) }
  const ip = parseIp(split?.host ?? '')
  if (ip === undefined || found.startsWith('/') !== (match !== null))
    return new Refused('it is not a multiaddr of an address of this host and a TCP port', example)
  const family = familyOf(ip)
  if (match !== null && match[1] !== `ip${family}`)
    return new Refused(`${ip} does not fit /${match[1]}`, example)
  const port = split?.port ?? defaultPort
  return port <= PORT_MAX
    ? `/ip${family}/${ip}/tcp/${port}`
    : new Refused(`${port} is not a port up to 65535`, example)
}
