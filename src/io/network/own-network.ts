// Reads the addresses of this host from the kernel, and watches them. The session announces them to the mesh
// (own-facts.ts), after core/host/own-addresses.ts has put them in order. No tool is run and no privilege is needed, so
// this also works where `ip` is missing. Sources: getifaddrs(3) through node:os, connected UDP sockets, and bridges in
// /sys/class/net.
import { createSocket } from 'node:dgram'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import type { OwnAddress, OwnNetwork } from '../../core/host/own-addresses.ts'
import { Loop } from '../timing/loop.ts'

/**
 * Reads now: the addresses of this host, the source address of the default route of each family, and the bridges behind
 * which only containers and virtual machines are. Parts that cannot be read are left out; the promise never rejects.
 */
export async function readOwnNetwork(): Promise<OwnNetwork> {
  const addresses = ownAddresses()
  const sources = await Promise.all([defaultSource('udp4'), defaultSource('udp6')])
  const own = new Set(addresses.map(({ ip }) => ip))
  return {
    addresses,
    defaultSources: sources.filter((ip): ip is Ip => ip !== undefined && own.has(ip)),
    innerBridges: new Set([...new Set(addresses.map(({ device }) => device))].filter(isInnerBridge))
  }
}

/** A running watch over this host's addresses. */
export interface OwnNetworkWatch {
  /**
   * Reads the addresses now. Called when `ip monitor` has reported a change, so that the next interval need not be
   * awaited.
   */
  look(): void
  /** Ends the watch; a reading under way calls back no more. */
  stop(): void
}

/**
 * Reads the addresses every `intervalMs` milliseconds and calls `onChange` when they differ from the last ones; `known`
 * are those that the caller has already. A reading costs two sockets and one system call, about 0.1 ms. The watch polls
 * because a child process of `ip monitor`, which reports changes sooner, may be missing on the host.
 */
export function watchOwnNetwork(options: {
  readonly intervalMs: number
  readonly known: OwnNetwork
  readonly onChange: (network: OwnNetwork) => void
}): OwnNetworkWatch {
  const { intervalMs, onChange } = options
  let known = textOf(options.known)
  // Readings never overlap: an older result could otherwise arrive after a newer one and look like a change.
  const readings = new Loop({
    act: async (signal) => {
      const network = await readOwnNetwork()
      const text = textOf(network)
      if (signal.aborted || text === known) return
      known = text
      onChange(network)
    },
    intervalMs,
    firstMs: intervalMs
  })
  readings.start()
  return {
    look: () => readings.mark(),
    stop: () => void readings.stop()
  }
}

/**
 * Lists all addresses of all devices, loopback and link-local ones too; core/host/own-addresses.ts leaves those out.
 */
function ownAddresses(): OwnAddress[] {
  let found: ReturnType<typeof networkInterfaces>
  try {
    found = networkInterfaces()
  } catch {
    return [] // the system call is forbidden, as in some sandboxes
  }
  return Object.entries(found).flatMap(([device, list]) =>
    (list ?? []).flatMap(({ address }) => {
      const ip = parseIp(address)
      return ip === undefined ? [] : [{ ip, device }]
    })
  )
}

// Addresses for documentation (RFC 5737, RFC 3849). Connecting a UDP socket to one makes the kernel choose a route and
// a source address; no packet is sent. No host has a route of its own to these addresses, so the route is the default
// route.
const BEYOND = { udp4: '192.0.2.1', udp6: '2001:db8::1' } as const
// The port of the discard service (RFC 863). connect(2) needs a port other than 0.
const BEYOND_PORT = 9

/** Returns the source address that the kernel chooses on the default route; undefined when there is no such route. */
function defaultSource(type: 'udp4' | 'udp6'): Promise<Ip | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(type)
    const settle = (ip: Ip | undefined): void => {
      socket.removeAllListeners()
      socket.on('error', () => undefined) // an 'error' event without a listener would end the process
      socket.close()
      resolve(ip)
    }
    socket.once('error', () => settle(undefined))
    socket.once('connect', () => {
      try {
        settle(parseIp(socket.address().address))
      } catch {
        settle(undefined)
      }
    })
    try {
      socket.connect(BEYOND_PORT, BEYOND[type])
    } catch {
      settle(undefined)
    }
  })
}

/**
 * Returns true for a bridge without an outer port: containers and virtual machines are behind it, and no other host is.
 * An empty bridge counts too. A device that cannot be examined counts as no inner bridge, so its addresses are
 * announced.
 */
function isInnerBridge(device: string): boolean {
  const folder = `/sys/class/net/${device}`
  if (!existsSync(`${folder}/bridge`)) return false
  try {
    return !readdirSync(`${folder}/brif`).some((port) => isOuterPort(port))
  } catch {
    return false
  }
}

/**
 * Returns true for a port that leads out of this host: a network card (it has `device`), a bond, a team, a VLAN or
 * Wi-Fi.
 */
function isOuterPort(port: string): boolean {
  const folder = `/sys/class/net/${port}`
  if (existsSync(`${folder}/device`)) return true
  try {
    return /^DEVTYPE=(bond|vlan|wlan|team)$/m.test(readFileSync(`${folder}/uevent`, 'utf8'))
  } catch {
    return false
  }
}

/**
 * Returns a text that differs when the network differs. A Set is encoded as a list, because JSON would make `{}` of it.
 */
function textOf({ addresses, defaultSources, innerBridges }: OwnNetwork): string {
  return JSON.stringify([addresses, defaultSources, [...innerBridges]])
}
