// Finds members on the same link again when both ends have moved, and so nobody has anybody's present address: an agent that misses a
// member calls out on its links who and where it is, and a member that hears it dials it.
// Invariants:
//  1. A call is a hint and nothing more: who answers at the address proves its PeerId as always. Calls of strangers are dropped by the
//     caller of this module, which knows the members.
//  2. Calls are made on the links of the addresses that this agent tells its peers, and only addresses on these links are taken: a call
//     cannot make this agent dial another network, and containers hear none.
//  3. Calls are few: a series after each change, further and further apart, that ends as soon as no member is missed.
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

// A switch that has just seen a link come up forwards after some seconds only.
const SERIES_MS: readonly number[] = [0, 500, 1000, 2000, 4000, 8000, 16_000, 32_000]
const CALL_BYTES_MAX = 512
const ADDRESSES_MAX = 4
// All nodes of a link (RFC 4291, section 2.7.1).
const ALL_NODES = 'ff02::1'

interface BeaconOptions {
  readonly origin: Origin
  /** UDP port of the calls, the same on every member: that of the control connections. */
  readonly port: number
  /** Own multiaddrs, best first. */
  readonly addresses: () => readonly string[]
  /** Whether a member is missed. */
  readonly isNeeded: () => boolean
  /** A member called, or a stranger: a multiaddr on one of this host's links. */
  readonly onCall: (origin: Origin, address: string) => void
  readonly log: (event: string, fields: object) => void
}

export interface Beacon {
  /** Begins a series of calls, now. */
  call(): void
  stop(): void
}

/** Never throws: where a family or the port is not to be had, nothing is heard on it. */
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
  socket.on('error', (error) => log('beacon', { type, error: error.message })) // of one datagram, or the port is taken
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

function shout({ type, socket, isReady }: Open, { origin, port, addresses }: BeaconOptions): void {
  if (!isReady) return
  const own = addresses()
  const call = encodeCall(origin, own)
  for (const { device, cidr } of ownLinks(own)) {
    if ((familyOf(cidr) === 4) !== (type === 'udp4')) continue
    const to = type === 'udp4' ? broadcastOf(cidr) : `${ALL_NODES}%${device}`
    if (to !== undefined) socket.send(call, port, to, () => undefined) // a link that is down now; the next call may pass
  }
}

export function encodeCall(origin: Origin, addresses: readonly string[]): Buffer {
  return Buffer.from(`rhizome-here/1 ${origin} ${addresses.slice(0, ADDRESSES_MAX).join(' ')}\n`)
}

/** undefined: not a call. */
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

function ipOf(address: string): Ip | undefined {
  const match = /^\/ip([46])\/([0-9a-f:.]{2,45})\/tcp\/([1-9]\d{0,4})$/.exec(address)
  const ip = parseIp(match?.[2] ?? '')
  return ip !== undefined && `${familyOf(ip)}` === match?.[1] && Number(match[3]) <= 65_535 ? ip : undefined
}

interface Link {
  readonly device: string
  readonly cidr: Cidr
}

/** Networks of this host's devices that have one of these addresses. */
function ownLinks(addresses: readonly string[]): Link[] {
  const told = addresses.map(ipOf).filter((ip) => ip !== undefined)
  return Object.entries(networkInterfaces()).flatMap(([device, list]) =>
    (list ?? []).flatMap((entry) => {
      const cidr = entry.internal ? undefined : networkOf(entry)
      return cidr === undefined || !told.some((ip) => cidrContains(cidr, ip)) ? [] : [{ device, cidr }]
    })
  )
}

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

/** undefined: a network of one or two addresses has none. */
function broadcastOf(cidr: Cidr): Ip | undefined {
  const { address, length } = cidrToPrefix(cidr)
  if (length > 30) return undefined
  return bytesToIp(
    address.map((byte, index) => byte | (0xff >> Math.min(8, Math.max(0, length - index * 8))))
  )
}
