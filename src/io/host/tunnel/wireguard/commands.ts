// The commands of `ip` and `wg` (wg(8)) that set up a WireGuard device and its peers, as data. wireguard.ts runs them,
// and `meshctl plan` prints them, so that both are the same. No command has a secret: the private key is named only.
import type { Tunnel, WireguardPeer } from '../../../../core/host/host-state.ts'
import type { Ip, WireguardKey } from '../../../../core/model/values.ts'
import type { HostNames } from '../../ports.ts'
import type { Command } from '../../tools/command.ts'
import { addressCommand } from '../../tools/ip.ts'

/** The state of the device before it is set up. A field that is undefined is not known, as for a missing device. */
export interface DeviceBefore {
  readonly exists: boolean
  readonly publicKey?: WireguardKey | undefined
  readonly fwmark?: number
  readonly listenPort?: number
  readonly addresses?: ReadonlySet<Ip>
}

/** Returns the command that sets private key and fwmark; no command where the device has both already. */
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

/**
 * Whether the key is set before all else: a new device needs it to be of use. Where a key takes the place of another, it
 * is set last, because from then on packets wait until the peers know it (decision 0068).
 */
export function isKeyFirst({ publicKey }: DeviceBefore): boolean {
  return publicKey === undefined
}

/** Sets the MTU of the device in bytes. */
export function mtuCommand({ device, mtu }: Tunnel): Command {
  return { tool: 'ip', args: ['link', 'set', 'dev', device, 'mtu', String(mtu)] }
}

/** Sets the UDP port on which the device listens. */
export function portCommand({ device, listenPort }: Tunnel): Command {
  return { tool: 'wg', args: ['set', device, 'listen-port', String(listenPort)] }
}

/** Switches the device on. From then on the kernel's WireGuard listens on its port. */
export function upCommand({ device }: Tunnel): Command {
  return { tool: 'ip', args: ['link', 'set', 'dev', device, 'up'] }
}

/** Returns all commands that set up the device, in their order and without those that would change nothing. */
export function tunnelCommands(options: {
  readonly tunnel: Tunnel
  readonly names: HostNames
  readonly addresses: readonly Ip[]
  readonly before: DeviceBefore
  /** The command that makes the device. It is used where `before.exists` is false. */
  readonly create: Command
}): readonly Command[] {
  const { tunnel, names, addresses, before, create } = options
  return [
    ...(before.exists ? [] : [create]),
    ...(isKeyFirst(before) ? keyCommands(tunnel, names, before) : []),
    mtuCommand(tunnel),
    ...(before.listenPort === tunnel.listenPort ? [] : [portCommand(tunnel)]),
    upCommand(tunnel),
    ...addresses
      .filter((address) => before.addresses?.has(address) !== true)
      .map((address) => addressCommand(tunnel.device, address)),
    ...(isKeyFirst(before) ? [] : keyCommands(tunnel, names, before))
  ]
}

/** Adds or sets peers in one command. Peers that are not in the list stay as they are. */
export function peersCommand(device: string, peers: readonly WireguardPeer[]): Command {
  return {
    tool: 'wg',
    args: ['addconf', device, '/dev/stdin'],
    stdin: peers.map(peerSection).join('\n'),
    stdinAsFile: true
  }
}

/**
 * Returns the section of one peer as wg(8) reads it. The section replaces all allowed IPs of the peer; an empty list
 * removes them. WireGuard removes a prefix from the peer that had it before, because each prefix belongs to one peer
 * only. Throws an Error for a value with a line break, which could add settings.
 */
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

/** Removes peers in one command. The caller bounds their number, because all keys are arguments. */
export function removePeersCommand(device: string, keys: readonly WireguardKey[]): Command {
  return { tool: 'wg', args: ['set', device, ...keys.flatMap((key) => ['peer', key, 'remove'])] }
}
