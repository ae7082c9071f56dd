// The commands that change a host, as data: what `meshctl plan` prints is made of the same values that are run.
// Invariant: no secret is in a command. What is given on stdin and is secret has a name here, and comes from the one who runs it.
import type { Tunnel, WireguardPeer } from '../../../../core/host/host-state.ts'
import type { Ip, WireguardKey } from '../../../../core/model/values.ts'
import type { HostNames, Run } from '../../ports.ts'

export interface Command {
  readonly tool: string
  readonly args: readonly string[]
  /** Text on stdin, or the name of a secret. */
  readonly stdin?: string | { readonly secret: string }
  /** The tool opens /dev/stdin by name. */
  readonly stdinAsFile?: boolean
}

/** As a person would type it. */
export function commandText({ tool, args, stdin }: Command): string {
  const line = [tool, ...args].map(quoted).join(' ')
  if (stdin === undefined) return line
  if (typeof stdin !== 'string') return `${line} < ${stdin.secret}`
  return `${line} <<'END'\n${stdin.endsWith('\n') ? stdin : `${stdin}\n`}END`
}

function quoted(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`
}

/** `secret`: what to give for a secret on stdin. */
export async function runCommand(
  run: Run,
  { tool, args, stdin, stdinAsFile }: Command,
  options: { readonly signal: AbortSignal; readonly secret?: () => string | Promise<string> }
): Promise<void> {
  const { signal, secret } = options
  const text = typeof stdin === 'string' || stdin === undefined ? stdin : `${await secret?.()}\n`
  await run(tool, args, {
    signal,
    ...(text === undefined ? {} : { stdin: text }),
    ...(stdinAsFile === undefined ? {} : { stdinAsFile })
  })
}

/** What a tunnel device has before it is set up; undefined fields: not known, as for a device that is not there. */
export interface DeviceBefore {
  readonly exists: boolean
  readonly publicKey?: WireguardKey | undefined
  readonly fwmark?: number
  readonly listenPort?: number
  readonly addresses?: ReadonlySet<Ip>
}

export function createDeviceCommand(device: string, isUserspace: boolean): Command {
  return isUserspace
    ? { tool: 'wireguard-go', args: [device] }
    : { tool: 'ip', args: ['link', 'add', 'dev', device, 'type', 'wireguard'] }
}

/** The private key and our mark. None where the device has both. */
export function keyCommands(tunnel: Tunnel, names: HostNames, before: DeviceBefore): readonly Command[] {
  if (before.publicKey === tunnel.publicKey && before.fwmark === names.fwmark) return []
  const mark = `0x${names.fwmark.toString(16)}`
  return [
    {
      tool: 'wg',
      args: ['set', tunnel.device, 'fwmark', mark, 'private-key', '/dev/stdin'],
      stdin: { secret: 'PRIVATE-KEY' },
      stdinAsFile: true
    }
  ]
}

export function mtuCommand({ device, mtu }: Tunnel): Command {
  return { tool: 'ip', args: ['link', 'set', 'dev', device, 'mtu', String(mtu)] }
}

export function portCommand({ device, listenPort }: Tunnel): Command {
  return { tool: 'wg', args: ['set', device, 'listen-port', String(listenPort)] }
}

export function upCommand({ device }: Tunnel): Command {
  return { tool: 'ip', args: ['link', 'set', 'dev', device, 'up'] }
}

export function addressCommand(device: string, address: Ip): Command {
  const isIpv6 = address.includes(':')
  const cidr = `${address}/${isIpv6 ? 128 : 32}`
  return {
    tool: 'ip',
    args: ['address', 'replace', cidr, 'dev', device, ...(isIpv6 ? ['nodad'] : [])]
  }
}

/** All of them in order, for people. */
export function tunnelCommands(options: {
  readonly tunnel: Tunnel
  readonly names: HostNames
  readonly addresses: readonly Ip[]
  readonly before: DeviceBefore
  readonly isUserspace: boolean
}): readonly Command[] {
  const { tunnel, names, addresses, before, isUserspace } = options
  return [
    ...(before.exists ? [] : [createDeviceCommand(tunnel.device, isUserspace)]),
    ...keyCommands(tunnel, names, before),
    mtuCommand(tunnel),
    ...(before.listenPort === tunnel.listenPort ? [] : [portCommand(tunnel)]),
    upCommand(tunnel),
    ...addresses
      .filter((address) => before.addresses?.has(address) !== true)
      .map((address) => addressCommand(tunnel.device, address))
  ]
}

export function removeTunnelCommand(device: string): Command {
  return { tool: 'ip', args: ['link', 'delete', 'dev', device] }
}

export function peersCommand(device: string, peers: readonly WireguardPeer[]): Command {
  return {
    tool: 'wg',
    args: ['addconf', device, '/dev/stdin'],
    stdin: peers.map(peerSection).join('\n'),
    stdinAsFile: true
  }
}

/** As wg(8) reads it: a section replaces the peer's allowed IPs, by none if it names none, and takes them from other peers. */
export function peerSection(peer: WireguardPeer): string {
  const lines = [
    '[Peer]',
    `PublicKey = ${peer.publicKey}`,
    ...(peer.allowedIps.length === 0 ? [] : [`AllowedIPs = ${peer.allowedIps.join(', ')}`]),
    ...(peer.peerAddress === undefined ? [] : [`Endpoint = ${peer.peerAddress}`]),
    `PersistentKeepalive = ${peer.keepaliveSeconds === 0 ? 'off' : peer.keepaliveSeconds}`
  ]
  if (lines.some((line) => /[\r\n]/.test(line))) throw new Error('a line break in a WireGuard setting')
  return `${lines.join('\n')}\n`
}

export function removePeersCommand(device: string, keys: readonly WireguardKey[]): Command {
  return { tool: 'wg', args: ['set', device, ...keys.flatMap((key) => ['peer', key, 'remove'])] }
}
