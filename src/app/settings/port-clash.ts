// Finds two settings that ask for one port of one address. Without this check the second socket fails to open, and its error
// would blame another process.
import { familyOf, parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import { type ListenAddress, textOfListen } from './listen-address.ts'

/** The settings that open sockets, after parsing. */
interface Listening {
  /** Multiaddrs of TCP ports. */
  readonly listen: readonly string[]
  readonly 'http-listen': ListenAddress | 'off'
  readonly 'feed-listen': ListenAddress | 'auto' | 'off'
  readonly 'webhook-listen': ListenAddress | 'off'
  readonly 'dns-listen': readonly (ListenAddress | 'auto')[] | 'off'
  readonly 'wireguard-port': number
  readonly 'probe-port': number
}

/** One TCP socket that a setting asks for. */
interface Socket extends ListenAddress {
  readonly setting: string
}

/**
 * Returns a sentence about the first two settings that clash, and a fix; undefined: none do. `0.0.0.0` and `::` stand for
 * all addresses of their family. Addresses that the agent chooses itself (`auto`) are not compared.
 */
export function portClash(
  settings: Listening
): { readonly message: string; readonly fix: string } | undefined {
  const sockets = socketsOf(settings)
  for (const [at, one] of sockets.entries()) {
    const other = sockets
      .slice(0, at)
      .find((before) => before.setting !== one.setting && overlaps(before, one))
    if (other === undefined) continue
    const [first, second] = [other, one].map((socket) => `${socket.setting} (${textOfListen(socket)})`)
    return {
      message: `settings ${first} and ${second} ask for the same TCP port: only one socket can have it`,
      fix: `give ${other.setting} or ${one.setting} another port`
    }
  }
  // WireGuard binds its port on every address of the host, so the probe cannot bind the same port on an address of the
  // tunnel.
  if (settings['probe-port'] !== settings['wireguard-port']) return undefined
  return {
    message: `settings wireguard-port and probe-port are both ${settings['probe-port']}: two sockets cannot share one UDP port`,
    fix: 'give one of them another port'
  }
}

function socketsOf(settings: Listening): readonly Socket[] {
  const dns = settings['dns-listen']
  const named = [
    ...settings.listen.flatMap(fromMultiaddr).map((where) => ['listen', where] as const),
    ...(['http-listen', 'feed-listen', 'webhook-listen'] as const).map(
      (setting) => [setting, settings[setting]] as const
    ),
    ...(dns === 'off' ? [] : dns).map((where) => ['dns-listen', where] as const)
  ]
  return named.flatMap(([setting, where]) => (typeof where === 'string' ? [] : [{ setting, ...where }]))
}

/** The address of "/ip4/192.0.2.1/tcp/7946"; none for port 0, which is any free one. */
function fromMultiaddr(multiaddr: string): readonly ListenAddress[] {
  const [, , text = '', , port = ''] = multiaddr.split('/')
  const host = parseIp(text)
  return host === undefined || port === '0' ? [] : [{ host, port: Number(port) }]
}

function overlaps(one: ListenAddress, other: ListenAddress): boolean {
  if (one.port !== other.port || familyOf(one.host) !== familyOf(other.host)) return false
  return one.host === other.host || isAny(one.host) || isAny(other.host)
}

function isAny(host: Ip): boolean {
  return host === '0.0.0.0' || host === '::'
}
