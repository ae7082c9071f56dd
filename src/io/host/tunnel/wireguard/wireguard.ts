// The tunnel by WireGuard (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", 2017). The device is that of
// the kernel, or a process wireguard-go, which keeps running when the agent ends. The tools `ip` and `wg` do the work.
// Invariants
//   1. The device is ours by its name, and so are all its peers. A link of that name that is not WireGuard is left
//      alone.
//   2. The private key goes to `wg` through an unlinked file. No value, message or log has it.
//   3. An address that WireGuard learned is not overwritten while it works, which means: the last handshake is less
//      than 180 s old, and bytes came within 40 s. `observe` then reports the address that was set last, so that the
//      next pass has nothing to do. Otherwise it reports the address of the kernel, and the next pass sets the desired
//      address.
//   4. A peer that is desired without an address dials this host. `observe` reports it without an address, also after
//      WireGuard has learned one in a handshake.
//   5. A device that is down or lacks our mark is observed with UNUSABLE_MTU: it exists but carries no traffic. One
//      that lacks an address is observed with INCOMPLETE_MTU: it carries traffic but is not as desired. The operation
//      setTunnel repairs all three.
import type { PeerStats, Tunnel, WireguardPeer } from '../../../../core/host/host-state.ts'
import { INCOMPLETE_MTU, UNUSABLE_MTU } from '../../../../core/host/host-ops.ts'
import type { Ip, WireguardKey } from '../../../../core/model/values.ts'
import { HostError } from '../../errors.ts'
import type { Run } from '../../ports.ts'
import { allOf } from '../../tools/all-of.ts'
import { commandText, runCommand, type Command } from '../../tools/command.ts'
import { addressesOf, type Link } from '../../tools/ip-json.ts'
import { addAddress, findLink, readLinks, removeLinkCommand } from '../../tools/ip.ts'
import type { TunnelOp, TunnelOptions, TunnelPort } from '../port.ts'
import {
  isKeyFirst,
  keyCommands,
  mtuCommand,
  peersCommand,
  portCommand,
  removePeersCommand,
  tunnelCommands,
  upCommand,
  type DeviceBefore
} from './commands.ts'
import type { WireguardDevice } from './device.ts'
import { isAbsent, KERNEL_WIREGUARD } from './kernel.ts'
import { LearnedAddresses } from './learned-addresses.ts'
import { parseWgDump, type WgDump } from './wg-dump.ts'
import { socketOf, WIREGUARD_GO } from './wireguard-go.ts'

const REMOVED_PER_COMMAND = 500 // 500 keys of 45 bytes are far below the limit of an argument list

/** Whether a peer waits for the answer to a handshake at an address that is not the wanted one any more. */
function isWaiting({ publicKey, peerAddress }: WireguardPeer, live: WgDump): boolean {
  const now = live.peers.find((peer) => peer.publicKey === publicKey)
  return (
    peerAddress !== undefined &&
    now?.peerAddress !== undefined &&
    now.lastHandshakeSeconds === 0 &&
    now.peerAddress !== peerAddress
  )
}

/** Returns the tunnel without making its device. Runs no tool. */
export function createWireguard(options: TunnelOptions): TunnelPort {
  return new Wireguard(options)
}

class Wireguard implements TunnelPort {
  readonly #options: TunnelOptions
  readonly #run: Run
  readonly #device: string
  readonly #learned: LearnedAddresses
  /** The state at the last `observe`, for `describe`. undefined: no device, or not observed yet. */
  #seen: { readonly dump: WgDump; readonly local: ReadonlySet<Ip> } | undefined
  /** The implementation that makes the device first. With `auto`, wireguard-go is tried after it. */
  readonly #implementation: WireguardDevice

  constructor(options: TunnelOptions) {
    this.#options = options
    this.#run = options.run
    this.#device = options.names.device
    this.#learned = new LearnedAddresses(options.nowMs)
    this.#implementation = options.implementation === 'userspace' ? WIREGUARD_GO : KERNEL_WIREGUARD
  }

  async observe(
    signal: AbortSignal
  ): Promise<{ readonly tunnel: Tunnel | undefined; readonly peers: readonly WireguardPeer[] }> {
    const { addresses, names } = this.#options
    const [found, local] = await Promise.all([this.#read(signal), this.#localAddresses(signal)])
    this.#seen = found && { dump: found.dump, local }
    if (found === undefined) return { tunnel: undefined, peers: [] }
    this.#learned.keepOnly(found.dump.peers)
    const usable = found.link.up && found.dump.fwmark === names.fwmark
    const complete = addresses.every((address) => local.has(address))
    return {
      tunnel: {
        device: this.#device,
        listenPort: found.dump.listenPort,
        mtu: !usable ? UNUSABLE_MTU : complete ? found.link.mtu : INCOMPLETE_MTU,
        publicKey: found.dump.publicKey ?? NO_KEY
      },
      peers: found.dump.peers.map((peer) => ({
        publicKey: peer.publicKey,
        peerAddress: this.#learned.observed(peer),
        allowedIps: peer.allowedIps,
        keepaliveSeconds: peer.keepaliveSeconds
      }))
    }
  }

  /**
   * Makes the device if it is missing, then sets what differs, and reads it back. Errors: HostError; DEVICE_TAKEN,
   * PORT_IN_USE, KEY_MISMATCH. A failure may leave a device that is set up in part; the next call continues.
   */
  async setTunnel(tunnel: Tunnel, signal: AbortSignal): Promise<void> {
    const { addresses, names, privateKey } = this.#options
    const existing = await findLink(this.#run, this.#device, signal)
    if (existing === undefined) {
      await removeRenamed(this.#run, tunnel, signal)
      await this.#createDevice(signal)
    } else await this.#refuseForeign(existing)
    const before: DeviceBefore = { exists: true, ...(await this.#dump(signal)) }
    const setKey = async () => {
      for (const command of keyCommands(tunnel, names, before))
        await runCommand(this.#run, command, { signal, secret: privateKey })
    }
    if (isKeyFirst(before)) await setKey()
    // All are tried, also after one has failed, because each is useful without the others.
    await allOf([
      () => this.#change(mtuCommand(tunnel), signal),
      () => this.#setPort(tunnel, signal),
      ...addresses.map((address) => async () => {
        if (!(await this.#localAddresses(signal)).has(address))
          await addAddress(this.#run, this.#device, address, signal)
      }),
      ...(isKeyFirst(before) ? [] : [setKey])
    ])
    const after = await this.#dump(signal)
    if (after.publicKey !== tunnel.publicKey) throw keyMismatch(tunnel, after)
    // wireguard-go reports no error for a busy port while the device goes up.
    if (after.listenPort !== tunnel.listenPort) throw portInUse(tunnel)
  }

  async removeTunnel(signal: AbortSignal): Promise<void> {
    this.#learned.forgetAll()
    const existing = await findLink(this.#run, this.#device, signal)
    if (existing === undefined) return
    await this.#refuseForeign(existing)
    await this.#change(removeLinkCommand(this.#device), signal)
  }

  async setPeers(peers: readonly WireguardPeer[], signal: AbortSignal): Promise<void> {
    const live = await this.#dump(signal)
    // WireGuard repeats a handshake only after 5 s. A peer that is made anew begins one with its next packet.
    const begun = peers.filter((peer) => isWaiting(peer, live))
    if (begun.length > 0)
      await this.#change(
        removePeersCommand(
          this.#device,
          begun.map(({ publicKey }) => publicKey)
        ),
        signal
      )
    await this.#change(this.#peersCommand(peers, live), signal)
    // The addresses are recorded only after success, because a peer that was refused does not have its address.
    this.#learned.setDesired(peers)
  }

  async removePeers(keys: readonly WireguardKey[], signal: AbortSignal): Promise<void> {
    for (let first = 0; first < keys.length; first += REMOVED_PER_COMMAND) {
      const some = keys.slice(first, first + REMOVED_PER_COMMAND)
      await this.#change(removePeersCommand(this.#device, some), signal)
    }
    this.#learned.forget(keys)
  }

  describe(op: TunnelOp): readonly string[] {
    switch (op.kind) {
      case 'setTunnel':
        return this.#tunnelCommands(op.tunnel).map(commandText)
      case 'removeTunnel':
        return [commandText(removeLinkCommand(this.#device))]
      case 'setPeer':
        return [commandText(this.#peersCommand([op.peer], this.#seen?.dump))]
      case 'removePeer':
        return [commandText(removePeersCommand(this.#device, [op.publicKey]))]
      default:
        return op satisfies never
    }
  }

  async fingerprint(signal: AbortSignal): Promise<string> {
    const known = await this.#withoutTool()
    if (known !== undefined)
      return known.peers.map(({ publicKey, allowedIps }) => `${publicKey} ${allowedIps.join(' ')}`).join('\n')
    const shown = await this.#run('wg', ['show', this.#device, 'allowed-ips'], { signal, okCodes: [1] })
    return shown.stdout
  }

  async stats(signal: AbortSignal): Promise<readonly PeerStats[]> {
    const found = await this.#read(signal)
    return (found?.dump.peers ?? []).map((peer) => ({
      publicKey: peer.publicKey,
      peerAddress: peer.peerAddress,
      lastHandshakeMs: peer.lastHandshakeSeconds === 0 ? undefined : peer.lastHandshakeSeconds * 1000,
      rxBytes: peer.rxBytes,
      txBytes: peer.txBytes
    }))
  }

  #tunnelCommands(tunnel: Tunnel): readonly Command[] {
    const { names, addresses } = this.#options
    const seen = this.#seen
    return tunnelCommands({
      tunnel,
      names,
      addresses,
      before: seen === undefined ? { exists: false } : { exists: true, ...seen.dump, addresses: seen.local },
      create: this.#implementation.createCommand(tunnel.device)
    })
  }

  /**
   * Returns the command that sets these peers. The address of a peer is left out where the device has learned another
   * one that works (invariant 3). `live`: the present state of the device; undefined: there is no device.
   */
  #peersCommand(peers: readonly WireguardPeer[], live: WgDump | undefined): Command {
    return peersCommand(
      this.#device,
      live === undefined ? peers : this.#learned.withoutLearned(peers, live.peers)
    )
  }

  #change(command: Command, signal: AbortSignal): Promise<void> {
    return runCommand(this.#run, command, { signal })
  }

  /** Reads the device, which must exist, and records what was heard from its peers. */
  async #dump(signal: AbortSignal): Promise<WgDump> {
    const found =
      (await this.#withoutTool()) ??
      parseWgDump((await this.#run('wg', ['show', this.#device, 'dump'], { signal })).stdout)
    this.#learned.heard(found.peers)
    return found
  }

  /** Reads the device by netlink, or by the socket of wireguard-go; undefined: `wg` must be asked. */
  async #withoutTool(): Promise<WgDump | undefined> {
    const { kernel } = this.#run
    return (await kernel?.wireguard(this.#device)) ?? (await kernel?.wireguardGo(socketOf(this.#device)))
  }

  /** Reads the link and the state of the device; undefined: there is no device. Errors: HostError; DEVICE_TAKEN. */
  async #read(signal: AbortSignal): Promise<{ link: Link; dump: WgDump } | undefined> {
    const found = await findLink(this.#run, this.#device, signal)
    if (found === undefined) return undefined
    await this.#refuseForeign(found)
    return { link: found, dump: await this.#dump(signal) }
  }

  /** Returns the addresses on all devices of this host; an empty set, without running `ip`, if the tunnel has none. */
  async #localAddresses(signal: AbortSignal): Promise<ReadonlySet<Ip>> {
    if (this.#options.addresses.length === 0) return new Set()
    return addressesOf(await readLinks(this.#run, signal))
  }

  async #createDevice(signal: AbortSignal): Promise<void> {
    const { implementation } = this.#options
    try {
      await this.#implementation.create(this.#run, this.#device, signal)
    } catch (error) {
      if (implementation !== 'auto' || !isAbsent(error)) throw error
      await WIREGUARD_GO.create(this.#run, this.#device, signal)
    }
  }

  /**
   * Sets the port and switches the device on. The kernel refuses a busy port when the device goes up, wireguard-go when
   * the port is set: so the port is set before the device goes up, and set again after it if it differs. Errors:
   * HostError PORT_IN_USE.
   */
  async #setPort(tunnel: Tunnel, signal: AbortSignal): Promise<void> {
    const ensurePort = async () => {
      if ((await this.#dump(signal)).listenPort !== tunnel.listenPort)
        await this.#change(portCommand(tunnel), signal)
    }
    try {
      await ensurePort()
      await this.#change(upCommand(tunnel), signal)
      await ensurePort()
    } catch (error) {
      if (error instanceof HostError && /address already in use/i.test(error.stderr))
        throw portInUse(tunnel, error)
      throw error
    }
  }

  /** Throws DEVICE_TAKEN for a link that neither implementation has made. */
  async #refuseForeign(found: Link): Promise<void> {
    if (await KERNEL_WIREGUARD.owns(found, this.#device)) return
    if (await WIREGUARD_GO.owns(found, this.#device)) return
    throw new HostError({
      code: 'DEVICE_TAKEN',
      message: `the interface ${this.#device} exists, and is not a WireGuard device of this agent`,
      fix: `set device (--device, RHIZOME_DEVICE) to another name, or delete the interface: ip link delete dev ${this.#device}`
    })
  }
}

/** 32 zero bytes: the key that `observe` reports for a device without a key. No desired tunnel has this key. */
const NO_KEY = `${'A'.repeat(43)}=` as WireguardKey

/**
 * Removes devices that have our key and another name. This agent made them before an operator renamed them or changed
 * the setting device. They would keep the UDP port busy.
 */
async function removeRenamed(run: Run, { device, publicKey }: Tunnel, signal: AbortSignal): Promise<void> {
  const { stdout } = await run('wg', ['show', 'all', 'public-key'], { signal, okCodes: [1] })
  for (const line of stdout.split('\n')) {
    const [name = '', key] = line.split('\t')
    if (key === publicKey && name !== device) await runCommand(run, removeLinkCommand(name), { signal })
  }
}

function portInUse(tunnel: Tunnel, cause?: unknown): HostError {
  return new HostError({
    code: 'PORT_IN_USE',
    tool: 'wg',
    message: `another process uses the UDP port ${tunnel.listenPort} of WireGuard`,
    fix: `find the other process with \`ss -lnup 'sport = ${tunnel.listenPort}'\` and stop it, or set wireguard-port to another port`,
    cause
  })
}

function keyMismatch(tunnel: Tunnel, after: WgDump): HostError {
  return new HostError({
    code: 'KEY_MISMATCH',
    message: `the private key of this agent belongs to ${after.publicKey ?? 'none'}, not to ${tunnel.publicKey}`
  })
}
