// The WireGuard device: the kernel's where the kernel has it, else wireguard-go, which outlives us.
// Invariants
//   1. The device is ours by its name, and so are all its peers. A link of that name that is no WireGuard is left alone.
//   2. The private key goes to `wg` through an unlinked file and comes back in no value, message or log.
//   3. An address that WireGuard learned from a handshake not older than 180 s is never written over while the peer is heard from there,
//      and the peer is then observed with the address last wished for, so that the next pass has nothing to do. Once the handshake is
//      stale, or nothing was heard for 40 s, the kernel's address is observed as it is, and the wish is set again.
//   4. A peer wished without an address dials us: it is observed without one, wherever it roams.
//   5. A device that is down or lacks our mark is observed with UNUSABLE_MTU: there, but of no use. One that lacks an address is
//      observed with INCOMPLETE_MTU: of use, but not as wanted. Setting the tunnel anew repairs all three.
import { connect } from 'node:net'
import { readFile, rm } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { PeerStats, Tunnel, WireguardPeer } from '../../../../core/host/host-state.ts'
import type { Ip, PeerAddress, WireguardKey } from '../../../../core/model/values.ts'
import { UNUSABLE_MTU } from '../../../../core/host/host-ops.ts'
import {
  addressCommand,
  createDeviceCommand,
  keyCommands,
  mtuCommand,
  peersCommand,
  portCommand,
  removePeersCommand,
  removeTunnelCommand,
  runCommand,
  tunnelCommands,
  upCommand,
  type Command,
  type DeviceBefore
} from './commands.ts'
import { HostError } from '../../errors.ts'
import { parseAddresses, parseLink, type Link } from '../../tools/ip-json.ts'
import type { HostNames, Run } from '../../ports.ts'
import { parseWgDump, type WgDump, type WgPeer } from './wg-dump.ts'

/** WireGuard's own REJECT_AFTER_TIME: no session is older, so no address learned before it is in use. */
const HANDSHAKE_RECENT_SECONDS = 180
/** Keepalives come each 25 s by default: a peer that was heard from no more has moved, or we have. */
const HEARD_MS = 40_000
const SOCKET_FOLDER = '/var/run/wireguard'
/** It ends within milliseconds; two seconds are for a busy host. */
const RENAMED_LOOKS = 40
const RENAMED_LOOK_MS = 50
const SOCKET_ANSWER_MS = 1_000
const REMOVED_PER_COMMAND = 500 // 45 bytes of key each, far below the limit of an argument list

export interface Wireguard {
  observe(
    signal: AbortSignal
  ): Promise<{ readonly tunnel: Tunnel | undefined; readonly peers: readonly WireguardPeer[] }>
  setTunnel(tunnel: Tunnel, signal: AbortSignal): Promise<void>
  removeTunnel(signal: AbortSignal): Promise<void>
  setPeers(peers: readonly WireguardPeer[], signal: AbortSignal): Promise<void>
  removePeers(keys: readonly WireguardKey[], signal: AbortSignal): Promise<void>
  stats(signal: AbortSignal): Promise<readonly PeerStats[]>
  /** What setTunnel and setPeers run on a device as it was at the last look. */
  tunnelCommands(tunnel: Tunnel): readonly Command[]
  peersCommand(peers: readonly WireguardPeer[]): Command
  /** Text that changes whenever a peer or a prefix of a peer comes or goes; '' where there is no device. */
  fingerprint(signal: AbortSignal): Promise<string>
}

export interface WireguardOptions {
  readonly run: Run
  readonly names: HostNames
  /** 32 bytes in base64, asked for when the tunnel is set. */
  readonly privateKey: () => string | Promise<string>
  /** Put on the device as /32 or /128 unless another device of this host has them. */
  readonly addresses: readonly Ip[]
  readonly implementation: 'auto' | 'kernel' | 'userspace'
  readonly nowMs: () => number
}

export function createWireguard(options: WireguardOptions): Wireguard {
  const { run, names, addresses } = options
  const { device } = names
  // What we last wished for each peer; bounded by the device's peers.
  const wishes = new Map<WireguardKey, PeerAddress | undefined>()

  // Bytes received of each peer, and when they last grew; bounded by the device's peers.
  const heard = new Map<WireguardKey, { rxBytes: number; atMs: number }>()
  /** At the last look; undefined: no device, or no look yet. */
  let seen: { readonly dump: WgDump; readonly local: ReadonlySet<Ip> } | undefined
  /** The kernel was found to have no WireGuard. */
  let isUserspace = options.implementation === 'userspace'

  const link = (signal: AbortSignal) => findLink(run, device, signal)

  async function dump(signal: AbortSignal): Promise<WgDump> {
    const found = parseWgDump((await run('wg', ['show', device, 'dump'], { signal })).stdout)
    const known = new Set(found.peers.map((peer) => peer.publicKey))
    for (const key of heard.keys()) if (!known.has(key)) heard.delete(key)
    for (const { publicKey, rxBytes } of found.peers)
      if (heard.get(publicKey)?.rxBytes !== rxBytes) heard.set(publicKey, { rxBytes, atMs: options.nowMs() })
    return found
  }

  /** undefined: there is no device. Errors: DEVICE_TAKEN. */
  async function read(signal: AbortSignal): Promise<{ link: Link; dump: WgDump } | undefined> {
    const found = await link(signal)
    if (found === undefined) return undefined
    await refuseForeign(found)
    return { link: found, dump: await dump(signal) }
  }

  async function localAddresses(signal: AbortSignal): Promise<ReadonlySet<Ip>> {
    if (addresses.length === 0) return new Set()
    return parseAddresses((await run('ip', ['-j', 'address', 'show'], { signal })).stdout)
  }

  const recent = (peer: WgPeer | undefined): boolean =>
    peer !== undefined &&
    options.nowMs() / 1000 - peer.lastHandshakeSeconds < HANDSHAKE_RECENT_SECONDS &&
    options.nowMs() - (heard.get(peer.publicKey)?.atMs ?? 0) < HEARD_MS

  function observedAddress(peer: WgPeer): PeerAddress | undefined {
    if (!wishes.has(peer.publicKey)) return peer.peerAddress
    const wish = wishes.get(peer.publicKey)
    return wish === undefined || recent(peer) ? wish : peer.peerAddress
  }

  return {
    async observe(signal) {
      const [found, local] = await Promise.all([read(signal), localAddresses(signal)])
      seen = found && { dump: found.dump, local }
      if (found === undefined) return { tunnel: undefined, peers: [] }
      const known = new Set(found.dump.peers.map((peer) => peer.publicKey))
      for (const key of wishes.keys()) if (!known.has(key)) wishes.delete(key)
      const usable = found.link.up && found.dump.fwmark === names.fwmark
      const complete = addresses.every((address) => local.has(address))
      return {
        tunnel: {
          device,
          listenPort: found.dump.listenPort,
          mtu: !usable ? UNUSABLE_MTU : complete ? found.link.mtu : INCOMPLETE_MTU,
          publicKey: found.dump.publicKey ?? NO_KEY
        },
        peers: found.dump.peers.map((peer) => ({
          publicKey: peer.publicKey,
          peerAddress: observedAddress(peer),
          allowedIps: peer.allowedIps,
          keepaliveSeconds: peer.keepaliveSeconds
        }))
      }
    },

    async setTunnel(tunnel, signal) {
      const existing = await link(signal)
      if (existing === undefined) {
        await removeRenamed(run, tunnel, signal)
        isUserspace = await createDevice(options, isUserspace, signal)
      } else await refuseForeign(existing)
      const before: DeviceBefore = { exists: true, ...(await dump(signal)) }
      for (const command of keyCommands(tunnel, names, before))
        await runCommand(run, command, { signal, secret: options.privateKey })
      // Each of these is of use without the others.
      await allOf([
        () => runCommand(run, mtuCommand(tunnel), { signal }),
        () => setPort(tunnel, signal),
        ...addresses.map((address) => async () => {
          if (!(await localAddresses(signal)).has(address)) await addAddress(run, device, address, signal)
        })
      ])
      const after = await dump(signal)
      if (after.publicKey !== tunnel.publicKey) throw keyMismatch(tunnel, after)
      // wireguard-go takes a busy port without a word while the device goes up.
      if (after.listenPort !== tunnel.listenPort) throw portInUse(tunnel)
    },

    async removeTunnel(signal) {
      wishes.clear()
      const existing = await link(signal)
      if (existing === undefined) return
      await refuseForeign(existing)
      await runCommand(run, removeTunnelCommand(device), { signal })
    },

    async setPeers(peers, signal) {
      await runCommand(run, peersCommand(device, withoutLearned(peers, await dump(signal))), { signal })
      for (const peer of peers) wishes.set(peer.publicKey, peer.peerAddress)
    },

    async removePeers(keys, signal) {
      for (let first = 0; first < keys.length; first += REMOVED_PER_COMMAND) {
        const some = keys.slice(first, first + REMOVED_PER_COMMAND)
        await runCommand(run, removePeersCommand(device, some), { signal })
      }
      for (const key of keys) wishes.delete(key)
    },

    tunnelCommands: (tunnel) =>
      tunnelCommands({
        tunnel,
        names,
        addresses,
        before:
          seen === undefined ? { exists: false } : { exists: true, ...seen.dump, addresses: seen.local },
        isUserspace
      }),

    peersCommand: (peers) =>
      peersCommand(device, seen === undefined ? peers : withoutLearned(peers, seen.dump)),

    async fingerprint(signal) {
      const shown = await run('wg', ['show', device, 'allowed-ips'], { signal, okCodes: [1] })
      return shown.stdout
    },

    async stats(signal) {
      const found = await read(signal)
      return (found?.dump.peers ?? []).map((peer) => ({
        publicKey: peer.publicKey,
        peerAddress: peer.peerAddress,
        lastHandshakeMs: peer.lastHandshakeSeconds === 0 ? undefined : peer.lastHandshakeSeconds * 1000,
        rxBytes: peer.rxBytes,
        txBytes: peer.txBytes
      }))
    }
  }

  /** An address that WireGuard learned from a recent handshake is not written over. */
  function withoutLearned(
    peers: readonly WireguardPeer[],
    { peers: live }: WgDump
  ): readonly WireguardPeer[] {
    const byKey = new Map(live.map((peer) => [peer.publicKey, peer]))
    return peers.map((peer) => {
      const now = byKey.get(peer.publicKey)
      const learned =
        recent(now) && now?.peerAddress !== undefined && now.peerAddress !== wishes.get(peer.publicKey)
      return learned ? { ...peer, peerAddress: undefined } : peer
    })
  }

  /** The kernel refuses a busy port when the device is up, wireguard-go when the port is set. */
  async function setPort(tunnel: Tunnel, signal: AbortSignal): Promise<void> {
    try {
      const ensurePort = async () => {
        if ((await dump(signal)).listenPort !== tunnel.listenPort)
          await runCommand(run, portCommand(tunnel), { signal })
      }
      await ensurePort()
      await runCommand(run, upCommand(tunnel), { signal })
      await ensurePort()
    } catch (error) {
      if (error instanceof HostError && /address already in use/i.test(error.stderr))
        throw portInUse(tunnel, error)
      throw error
    }
  }

  async function refuseForeign(found: Link): Promise<void> {
    if (found.kind === 'wireguard') return
    if (found.kind === 'tun' && (await isOurSocket(device))) return
    throw new HostError({
      code: 'DEVICE_TAKEN',
      message: `the interface ${device} exists and is no WireGuard device that we can steer`,
      fix: `set device (--device, RHIZOME_DEVICE) to another name, or remove it: ip link delete dev ${device}`
    })
  }
}

/** No MTU that anyone wishes for. */
const INCOMPLETE_MTU = 1

/** All zero: what WireGuard itself has where there is no key. Equal to no wish. */
const NO_KEY = `${'A'.repeat(43)}=` as WireguardKey

export async function findLink(run: Run, device: string, signal?: AbortSignal): Promise<Link | undefined> {
  const result = await run('ip', ['-j', '-d', 'link', 'show', 'dev', device], {
    okCodes: [1],
    ...(signal === undefined ? {} : { signal })
  })
  if (result.exitCode === 0) return parseLink(result.stdout)
  if (/does not exist/.test(result.stderr)) return undefined
  throw new HostError({
    code: 'TOOL_FAILED',
    tool: 'ip',
    stderr: result.stderr,
    message: `ip failed: ${result.stderr}`
  })
}

export async function addAddress(run: Run, device: string, address: Ip, signal: AbortSignal): Promise<void> {
  await runCommand(run, addressCommand(device, address), { signal })
}

/** Does all of them in order, whatever fails. Errors: the first one, at the end. */
export async function allOf(steps: readonly (() => Promise<unknown>)[]): Promise<void> {
  const failed: unknown[] = []
  for (const step of steps) {
    try {
      await step()
    } catch (error) {
      failed.push(error)
    }
  }
  if (failed.length > 0) throw failed[0]
}

/** Returns whether it is userspace's. */
async function createDevice(
  { run, names, implementation }: WireguardOptions,
  isUserspace: boolean,
  signal: AbortSignal
): Promise<boolean> {
  if (!isUserspace) {
    try {
      await runCommand(run, createDeviceCommand(names.device, false), { signal })
      return false
    } catch (error) {
      const absent = error instanceof HostError && /unknown device type|not supported/i.test(error.stderr)
      if (!absent || implementation === 'kernel') throw error
    }
  }
  await freeSocket(names.device, signal)
  try {
    await runCommand(run, createDeviceCommand(names.device, true), { signal })
  } catch (error) {
    if (error instanceof HostError && /\/dev\/net\/tun/.test(error.stderr)) throw noTun(error)
    throw error
  }
  return implementation === 'userspace'
}

/** wireguard-go's sockets lie in one folder for all network namespaces; a Unix socket shows only in its own. */
async function isOurSocket(device: string): Promise<boolean> {
  const sockets = await readFile('/proc/self/net/unix', 'utf8')
  return sockets.split('\n').some((line) => line.endsWith(`/wireguard/${device}.sock`))
}

/** A device of the kernel with our key is ours under another name, and has our port. */
async function removeRenamed(run: Run, { device, publicKey }: Tunnel, signal: AbortSignal): Promise<void> {
  const { stdout } = await run('wg', ['show', 'all', 'public-key'], { signal, okCodes: [1] })
  for (const line of stdout.split('\n')) {
    const [name = '', key] = line.split('\t')
    if (key === publicKey && name !== device) await runCommand(run, removeTunnelCommand(name), { signal })
  }
}

/**
 * Removes a socket that no process answers on, and ends a wireguard-go of this host whose link has another name now: it ends when its
 * socket is removed. Errors: DEVICE_TAKEN when a process of another network namespace answers.
 */
async function freeSocket(device: string, signal: AbortSignal): Promise<void> {
  const path = `${SOCKET_FOLDER}/${device}.sock`
  if (await isOurSocket(device)) {
    await rm(path, { force: true })
    // It must not see the socket of the next one in the place of its own, and still has the port.
    for (let look = 0; look < RENAMED_LOOKS && (await isOurSocket(device)); look++)
      await delay(RENAMED_LOOK_MS, undefined, { signal })
  }
  if (await answers(path)) {
    throw new HostError({
      code: 'DEVICE_TAKEN',
      message: `a wireguard-go with a device ${device} runs in another network namespace, and both would share ${path}`,
      fix: 'give this agent a tunnel device of another name: --device, RHIZOME_DEVICE or the key device'
    })
  }
  await rm(path, { force: true })
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    const finish = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    // Neither refused nor accepted in time: somebody is there.
    socket.setTimeout(SOCKET_ANSWER_MS, () => finish(true))
    socket.on('connect', () => finish(true))
    socket.on('error', () => finish(false))
  })
}

function portInUse(tunnel: Tunnel, cause?: unknown): HostError {
  return new HostError({
    code: 'PORT_IN_USE',
    tool: 'wg',
    message: `UDP port ${tunnel.listenPort} for WireGuard is in use by another process`,
    fix: 'stop it, or choose another with the setting wireguard-port',
    cause
  })
}

function keyMismatch(tunnel: Tunnel, after: WgDump): HostError {
  return new HostError({
    code: 'KEY_MISMATCH',
    message: `the private key of this agent belongs to ${after.publicKey ?? 'none'}, not to ${tunnel.publicKey}`
  })
}

export function noTun(cause?: unknown): HostError {
  return new HostError({
    code: 'NO_TUN',
    message: 'the kernel has no WireGuard, and wireguard-go cannot open /dev/net/tun',
    fix: 'load the kernel module wireguard or tun; in a container pass the device /dev/net/tun',
    cause
  })
}
