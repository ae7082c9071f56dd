// This host's addresses as the kernel has them now, without a tool and without rights, and a watch over them.
import { createSocket } from 'node:dgram'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import type { OwnAddress, OwnNetwork } from '../../core/host/own-addresses.ts'

/** Never rejects: what cannot be read is left out. */
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

export interface OwnNetworkWatch {
  /** Looks now, as after a hint of the kernel. */
  look(): void
  stop(): void
}

/**
 * Calls back after each change, at most once an interval. A look costs two sockets and one system call, some 0.1 ms; a child of
 * `ip monitor` would be quicker to tell and may be missing.
 */
export function watchOwnNetwork(options: {
  readonly intervalMs: number
  readonly known: OwnNetwork
  readonly onChange: (network: OwnNetwork) => void
}): OwnNetworkWatch {
  let known = textOf(options.known)
  let looking = false
  let stopped = false
  const look = async (): Promise<void> => {
    if (looking || stopped) return
    looking = true
    const network = await readOwnNetwork().finally(() => (looking = false))
    const text = textOf(network)
    if (stopped || text === known) return
    known = text
    options.onChange(network)
  }
  const timer = setInterval(() => void look(), options.intervalMs)
  return {
    look: () => void look(),
    stop() {
      stopped = true
      clearInterval(timer)
    }
  }
}

function ownAddresses(): OwnAddress[] {
  let found: ReturnType<typeof networkInterfaces>
  try {
    found = networkInterfaces()
  } catch {
    return [] // the kernel gave none, as in a sandbox
  }
  return Object.entries(found).flatMap(([device, list]) =>
    (list ?? []).flatMap(({ address }) => {
      const ip = parseIp(address)
      return ip === undefined ? [] : [{ ip, device }]
    })
  )
}

// Addresses of documentation (RFC 5737, RFC 3849): connecting a UDP socket to one asks the kernel for the route and sends nothing.
const BEYOND = { udp4: '192.0.2.1', udp6: '2001:db8::1' } as const
// Discard; nothing is sent.
const BEYOND_PORT = 9

/** The source that the kernel takes on the default route; undefined: there is no such route. */
function defaultSource(type: 'udp4' | 'udp6'): Promise<Ip | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(type)
    const settle = (ip: Ip | undefined): void => {
      socket.removeAllListeners()
      socket.on('error', () => undefined)
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

/** A bridge of which no part is a card, a bond or a VLAN of one. */
function isInnerBridge(device: string): boolean {
  const folder = `/sys/class/net/${device}`
  if (!existsSync(`${folder}/bridge`)) return false
  try {
    return !readdirSync(`${folder}/brif`).some((port) => isOuterPort(port))
  } catch {
    return false
  }
}

function isOuterPort(port: string): boolean {
  const folder = `/sys/class/net/${port}`
  if (existsSync(`${folder}/device`)) return true
  try {
    return /^DEVTYPE=(bond|vlan|wlan|team)$/m.test(readFileSync(`${folder}/uevent`, 'utf8'))
  } catch {
    return false
  }
}

function textOf({ addresses, defaultSources, innerBridges }: OwnNetwork): string {
  return JSON.stringify([addresses, defaultSources, [...innerBridges]])
}
