// Finds members on the same link again after all of them have new addresses, so that none knows where to dial. An agent
// that is not connected to a member sends a UDP packet (a "call") with its PeerId and its addresses to all hosts of its
// links, and a member that receives the call dials the agent. IPv4 uses the broadcast address of the link, IPv6 the
// multicast group of all nodes. app/session/link-calls.ts is the caller.
// Packet: "rhizome-here/1 <PeerId> <multiaddr> …" and a line feed, at most CALL_BYTES_MAX bytes.
// Invariants
//   1. A call is a hint only. The peer that answers at the address proves its PeerId in the handshake, as in any other
//      dial. The caller of this module drops calls of agents that are no members.
//   2. Calls are sent on the links of the addresses that this agent tells its peers, and only addresses on these links
//      are accepted. So a call cannot make this agent dial into another network, and containers of this host receive
//      none.
//   3. Calls are few: each change of the network starts one series with growing gaps, which ends once no member is
//      missed.
import { createSocket, type Socket } from 'node:dgram'
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os'
import {
  cidrContains,
  cidrToPrefix,
  bytesToIp,
  familyOf,
  ipToBytes,
  parseIp,
  prefixToCidr
} from '../../core/model/cidr.ts'
import type { Cidr, Ip, Origin } from '../../core/model/values.ts'
import { parseOrigin } from '../../core/model/identity.ts'

// Milliseconds before each call of a series, together 63.5 s. The series is that long because a switch may begin to
// forward only some seconds after a link came up.
const SERIES_MS: readonly number[] = [0, 500, 1000, 2000, 4000, 8000, 16_000, 32_000]
// Most bytes of a call. A longer packet is ignored.
const CALL_BYTES_MAX = 512
// Most addresses in one call. Further addresses are neither sent nor read.
const ADDRESSES_MAX = 4
// All nodes of a link (RFC 4291, section 2.7.1).
const ALL_NODES = 'ff02::1'

interface BeaconOptions {
  readonly origin: Origin
  /** UDP port of the calls, the same on every member: that of the control connections. */
  readonly port: number
  /** Multiaddrs of this agent, best first. */
  readonly addresses: () => readonly string[]
  /** Returns whether this agent is not connected to some member; asked before each call. */
  readonly isNeeded: () => boolean
  /**
   * Called for each address in a call that is on a link of this host. `origin` may be any agent, also one that is no
   * member.
   */
  readonly onCall: (origin: Origin, address: string) => void
  readonly log: (event: string, fields: object) => void
}

/** The open sockets of one agent's calls. */
export interface Beacon {
  /**
   * Begins a new series of calls at once; a series that runs ends. Called at the start and when the addresses have
   * changed.
   */
  call(): void
  stop(): void
}

/**
 * Opens one socket for IPv4 and one for IPv6. It never throws: when the port or an address family is not available,
 * calls of that family are neither sent nor received, and the reason is logged.
 */
export function startBeacon(options: BeaconOptions): Beacon {
  let timer: NodeJS.Timeout | undefined
  const sockets = (['udp4', 'udp6'] as const).map((type) => open(type, options))
  const step = (index: number): void => {
    clearTimeout(timer)
    const waitMs = SERIES_MS[index]
    if (waitMs === undefined) return
    timer = setTimeout(() => {
      if (!options.isNeeded()) return
      for (const socket of sockets) shout(socket, options)
      step(index + 1)
    }, waitMs).unref()
  }
  return {
    call: () => step(0),
    stop() {
      clearTimeout(timer)
      for (const socket of sockets) socket.close()
    }
  }
}

type Type = 'udp4' | 'udp6'

interface Open {
  readonly type: Type
  readonly socket: Socket
  isReady: boolean
  close(): void
}

/**
 * Opens the socket of one family, which sends and receives calls. `reuseAddr` lets other processes of this host listen
 * on the same port.
 */
function open(type: Type, options: BeaconOptions): Open {
  const { port, onCall, log, origin } = options
  const socket = createSocket({ type, reuseAddr: true, ipv6Only: type === 'udp6' })
  const opened: Open = {
    type,
    socket,
    isReady: false,
    close() {
      opened.isReady = false
      socket.close()
    }
  }
  // The port is taken, or one packet could not be sent.
  socket.on('error', (error) => log('beacon', { type, error: error.message }))
  socket.on('message', (message) => {
    const call = parseCall(message)
    if (call === undefined || call.origin === origin) return
    const links = ownLinks(options.addresses())
    for (const address of call.addresses) {
      const ip = ipOf(address)
      if (ip !== undefined && links.some(({ cidr }) => cidrContains(cidr, ip))) onCall(call.origin, address)
    }
  })
  socket.bind(port, () => {
    try {
      if (type === 'udp4') socket.setBroadcast(true)
      opened.isReady = true
    } catch (error) {
      log('beacon', { type, error: String(error) })
    }
  })
  socket.unref()
  return opened
}

/** Sends one call on each link of this family. */
function shout({ type, socket, isReady }: Open, { origin, port, addresses }: BeaconOptions): void {
  if (!isReady) return
  const own = addresses()
  const call = encodeCall(origin, own)
  for (const { device, cidr } of ownLinks(own)) {
    if ((familyOf(cidr) === 4) !== (type === 'udp4')) continue
    const to = type === 'udp4' ? broadcastOf(cidr) : `${ALL_NODES}%${device}`
    // An error is ignored: a link that is down now may be up at the next call.
    if (to !== undefined) socket.send(call, port, to, () => undefined)
  }
}

/** Encodes a call with the first ADDRESSES_MAX of these multiaddrs. */
export function encodeCall(origin: Origin, addresses: readonly string[]): Buffer {
  return Buffer.from(`rhizome-here/1 ${origin} ${addresses.slice(0, ADDRESSES_MAX).join(' ')}\n`)
}

/**
 * Decodes a packet of any host; undefined when it is no call. Addresses that are not /ip4|ip6/…/tcp/… are left out.
 * Never throws.
 */
export function parseCall(
  message: Uint8Array
): { readonly origin: Origin; readonly addresses: readonly string[] } | undefined {
  if (message.length > CALL_BYTES_MAX) return undefined
  const [magic, name, ...addresses] = Buffer.from(message).toString('latin1').trimEnd().split(' ')
  const origin = magic === 'rhizome-here/1' ? parseOrigin(name ?? '') : undefined
  if (origin === undefined) return undefined
  return {
    origin,
    addresses: addresses.slice(0, ADDRESSES_MAX).filter((address) => ipOf(address) !== undefined)
  }
}

/** Returns the IP address of a multiaddr with a TCP port and nothing after it; undefined for any other text. */
function ipOf(address: string): Ip | undefined {
  const match = /^\/ip([46])\/([0-9a-f:.]{2,45})\/tcp\/([1-9]\d{0,4})$/.exec(address)
  const ip = parseIp(match?.[2] ?? '')
  return ip !== undefined && `${familyOf(ip)}` === match?.[1] && Number(match[3]) <= 65_535 ? ip : undefined
}

/** A network that a device of this host is connected to. */
interface Link {
  readonly device: string
  readonly cidr: Cidr
}

/**
 * Returns the networks of this host's devices that contain one of these multiaddrs' addresses; loopback is left out.
 */
function ownLinks(addresses: readonly string[]): Link[] {
  const told = addresses.map(ipOf).filter((ip) => ip !== undefined)
  return Object.entries(networkInterfaces()).flatMap(([device, list]) =>
    (list ?? []).flatMap((entry) => {
      const cidr = entry.internal ? undefined : networkOf(entry)
      return cidr === undefined || !told.some((ip) => cidrContains(cidr, ip)) ? [] : [{ device, cidr }]
    })
  )
}

/** Returns the network of an interface's address, as in 192.0.2.0/24 for 192.0.2.7/24. */
function networkOf({ cidr }: NetworkInterfaceInfo): Cidr | undefined {
  const [address = '', length = ''] = (cidr ?? '').split('/')
  const ip = parseIp(address)
  if (ip === undefined) return undefined
  const bytes = ipToBytes(ip).map((byte, index) => {
    const kept = Math.min(8, Math.max(0, Number(length) - index * 8))
    return byte & (0xff << (8 - kept))
  })
  return prefixToCidr({ address: bytes, length: Number(length) })
}

/** Returns the broadcast address of an IPv4 network; undefined for /31 (RFC 3021) and /32, which have none. */
function broadcastOf(cidr: Cidr): Ip | undefined {
  const { address, length } = cidrToPrefix(cidr)
  if (length > 30) return undefined
  return bytesToIp(
    address.map((byte, index) => byte | (0xff >> Math.min(8, Math.max(0, length - index * 8))))
  )
}
