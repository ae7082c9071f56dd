// Parsers of the settings `announce` and `wireguard-address`: addresses at which other clusters reach this host. The
// session resolves the names among them (session/followed-names.ts), and session/local-facts.ts puts the addresses into
// this agent's record.
import { familyOf, parseIp } from '../../core/model/cidr.ts'
import { isDnsSubdomain } from '../../core/model/dns-name.ts'
import type { Ip } from '../../core/model/values.ts'
import { isPort, LINK_LOCAL, NO_HOST, notOneHost, splitHostPort } from './host-port.ts'
import { Refused } from './refused.ts'

/**
 * An address at which others reach this host, or a name whose addresses are looked up again and again, as for dynamic
 * DNS.
 * Port 0: the setting has none, and the reader takes the port on which this host listens.
 */
export type OuterAddress =
  | { readonly kind: 'ip'; readonly ip: Ip; readonly port: number }
  | {
      readonly kind: 'name'
      readonly name: string
      readonly port: number
      /** Addresses of this family only, as /dns4 and /dns6 ask for; undefined: both families. */
      readonly family: 4 | 6 | undefined
    }

/** Parses an address or a name, with or without a port. Without one, `port` of the result is 0. */
export function outerAddress(found: string): OuterAddress | Refused {
  return hostWithPort(
    found,
    'use an address or a name with or without a port, as in 203.0.113.7:51820 or gw.example.com'
  )
}

/** The same; `example` is the fix of a wrong text, with the port that the setting is about. */
function hostWithPort(found: string, example: string): OuterAddress | Refused {
  const split = splitHostPort(found)
  if (split === undefined) return new Refused('it is not an address:port', example)
  if (split.port !== undefined && !isPort(split.port))
    return new Refused(`${split.port} is not a port from 1 to 65535`, example)
  return outerHost(split.host, { port: split.port ?? 0, family: undefined }, example)
}

/**
 * Parses a multiaddr of ip4, ip6, dns, dns4 or dns6 with a TCP port from 1 to 65535, or a text that `outerAddress`
 * accepts.
 */
export function outerMultiaddr(found: string): OuterAddress | Refused {
  const example = 'use /ip4/203.0.113.7/tcp/7946, /dns4/gw.example.com/tcp/7946 or gw.example.com:7946'
  if (!found.startsWith('/')) return hostWithPort(found, example)
  const match = MULTIADDR.exec(found)
  if (match === null)
    return new Refused('it is not a multiaddr of an address or name and a TCP port', example)
  const [, protocol = '', host = '', port = ''] = match
  if (!isPort(Number(port))) return new Refused(`${port} is not a port from 1 to 65535`, example)
  const family = protocol.endsWith('4') ? 4 : protocol.endsWith('6') ? 6 : undefined
  const isIpProtocol = protocol.startsWith('ip')
  const ip = parseIp(host)
  if (isIpProtocol !== (ip !== undefined) || (ip !== undefined && familyOf(ip) !== family))
    return new Refused(`${host} does not fit /${protocol}`, example)
  return outerHost(host, { port: Number(port), family }, example)
}

const MULTIADDR = /^\/(ip4|ip6|dns|dns4|dns6)\/([^/]{1,253})\/tcp\/(\d{1,5})$/

/**
 * Parses the host of an address or of a multiaddr, for both functions above. `example` is the fix of a refusal. Names
 * become lower case without a final dot, as records hold them.
 */
function outerHost(
  host: string,
  { port, family }: { readonly port: number; readonly family: 4 | 6 | undefined },
  example: string
): OuterAddress | Refused {
  const ip = parseIp(host)
  if (ip !== undefined) return notOneHost(ip, [...NO_HOST, ...LINK_LOCAL]) ?? { kind: 'ip', ip, port }
  const name = host.toLowerCase().replace(/\.$/, '')
  // A name of digits and dots only is a mistyped address. isDnsSubdomain refuses underscores (RFC 1123).
  if (!isDnsSubdomain(name) || /^[\d.]+$/.test(name))
    return new Refused(`${JSON.stringify(host)} is neither an address nor a host name`, example)
  return { kind: 'name', name, port, family }
}
