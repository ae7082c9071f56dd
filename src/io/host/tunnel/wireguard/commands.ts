// The commands that set up a WireGuard device and its peers, as data.
import type { Tunnel, WireguardPeer } from '../../../../core/host/host-state.ts'
import type { Ip, WireguardKey } from '../../../../core/model/values.ts'
import type { HostNames } from '../../ports.ts'
import type { Command } from '../../tools/command.ts'
import { addressCommand } from '../../tools/ip.ts'

/** What a tunnel device has before it is set up; undefined fields: not known, as for a device that is not there. */
export interface DeviceBefore {
  readonly exists: boolean
  readonly publicKey?: WireguardKey | undefined
  readonly fwmark?: number
  readonly listenPort?: number
  readonly addresses?: ReadonlySet<Ip>
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

/** All of them in order, for people. */
export function tunnelCommands(options: {
  readonly tunnel: Tunnel
  readonly names: HostNames
  readonly addresses: readonly Ip[]
  readonly before: DeviceBefore
  /** Makes the device where there is none. */
  readonly create: Command
}): readonly Command[] {
  const { tunnel, names, addresses, before, create } = options
  return [
    ...(before.exists ? [] : [create]),
    ...keyCommands(tunnel, names, before),
    mtuCommand(tunnel),
    ...(before.listenPort === tunnel.listenPort ? [] : [portCommand(tunnel)]),
    upCommand(tunnel),
    ...addresses
      .filter((address) => before.addresses?.has(address) !== true)
      .map((address) => addressCommand(tunnel.device, address))
  ]
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
