// Parses the output of `ip -json` and keeps the fields that this agent uses. Fields of other versions of iproute2 are
// ignored; a field that `ip` leaves out gets the default that its comment names.
import * as z from 'zod'
import { parseOutput } from '../errors.ts'
import { parseCidr, parseIp } from '../../../core/model/cidr.ts'
import type { HostDevice } from '../../../core/host/surroundings.ts'
import type { Cidr, Ip } from '../../../core/model/values.ts'

/** A network device. */
export interface Link {
  readonly name: string
  /** The word of `ip link add … type <kind>`, such as "wireguard"; '' for a physical device. Needs `ip -d`. */
  readonly kind: string
  /** MTU of the device in bytes. */
  readonly mtu: number
  /** True if the device is switched on, whether it has a carrier or not. */
  readonly up: boolean
}

/** A route of the kernel. A route with several next hops has the device of the first one. */
export interface KernelRoute {
  readonly destination: Cidr
  /** '' for a route without a device, such as `unreachable`. */
  readonly device: string
  readonly source: Ip | undefined
  /** A number; '' if `ip` leaves it out, as it does for routes that `ip` made itself and if it was asked for one protocol. */
  readonly protocol: string
  /** "unicast" if `ip` leaves it out. */
  readonly type: string
  /** Addresses of the next hops; empty if the destination is on the link. */
  readonly gateways: readonly Ip[]
  /** Bytes; undefined if the route has no MTU of its own. */
  readonly mtu: number | undefined
  /** The kernel prefers the route with the lower number. 0 if `ip` leaves it out. */
  readonly metric: number
}

/** A network device with the addresses that it has. */
export interface LinkWithAddresses {
  readonly name: string
  readonly isLoopback: boolean
  /** The device above it, such as its bridge. */
  readonly master: string | undefined
  /** As in Link. */
  readonly kind: string
  /** What the device above it is, such as "bridge"; '' if there is none. */
  readonly slaveKind: string
  readonly addresses: readonly { readonly ip: Ip; readonly scope: 'link' | 'host' | 'other' }[]
}

/** A routing rule. Without a mark, `fwmark` and `fwmask` are 0. */
export interface Rule {
  readonly preference: number
  /** Name or number, as `ip` prints it (a number with `-N`). */
  readonly table: string
  readonly protocol: string
  /** True if the rule applies to packets that do not match its condition. */
  readonly not: boolean
  readonly fwmark: number
  readonly fwmask: number
  /** The device by which packets came in; "lo" for packets of this host. undefined: any. */
  readonly iif: string | undefined
  /** True if the rule is for UDP only. */
  readonly udp: boolean
  /** Ports of the packet; undefined: any. */
  readonly sport: number | undefined
  readonly dport: number | undefined
}

const LINKS = z.array(
  z.object({
    ifname: z.string(),
    mtu: z.number(),
    flags: z.array(z.string()),
    linkinfo: z.object({ info_kind: z.string().optional() }).optional()
  })
)

const DEVICES = z.array(
  z.object({
    // Some versions of iproute2 print an empty object for a device that they leave out.
    ifname: z.string().default(''),
    flags: z.array(z.string()).default([]),
    master: z.string().optional(),
    linkinfo: z
      .object({ info_kind: z.string().optional(), info_slave_kind: z.string().optional() })
      .optional(),
    addr_info: z.array(z.object({ local: z.string().optional(), scope: z.string().optional() })).optional()
  })
)

const ROUTES = z.array(
  z.object({
    dst: z.string(),
    dev: z.string().optional(),
    prefsrc: z.string().optional(),
    protocol: z.string().optional(),
    type: z.string().optional(),
    gateway: z.string().optional(),
    nexthops: z.array(z.object({ dev: z.string().optional(), gateway: z.string().optional() })).optional(),
    metrics: z.array(z.object({ mtu: z.number().optional() })).optional(),
    metric: z.number().optional()
  })
)

const RULES = z.array(
  z.object({
    priority: z.number(),
    table: z.string().optional(),
    protocol: z.string().optional(),
    not: z.null().optional(),
    fwmark: z.string().optional(),
    fwmask: z.string().optional(),
    iif: z.string().optional(),
    ipproto: z.string().optional(),
    sport: z.number().optional(),
    dport: z.number().optional()
  })
)

/** Returns the first link of the output; undefined if there is none. Errors: TOOL_FAILED. */
export function parseLink(text: string): Link | undefined {
  const [link] = read(LINKS, text)
  if (link === undefined) return undefined
  return {
    name: link.ifname,
    kind: link.linkinfo?.info_kind ?? '',
    mtu: link.mtu,
    up: link.flags.includes('UP')
  }
}

// RTN_UNSPEC … RTN_THROW (linux/rtnetlink.h), with the words of `ip`.
const ROUTE_TYPES: readonly string[] = [
  'none',
  'unicast',
  'local',
  'broadcast',
  'anycast',
  'multicast',
  'blackhole',
  'unreachable',
  'prohibit',
  'throw'
]

// Packets that come in by a port belong to the device above it. A device in a VRF (slave of kind `vrf`) keeps its own.
const PORT_KINDS: ReadonlySet<string> = new Set(['bridge', 'bond', 'team', 'openvswitch'])
// Kinds of devices that are ends of containers or virtual machines, when they are ports of a bridge.
const CONTAINER_KINDS: ReadonlySet<string> = new Set(['veth', 'netkit', 'tun'])

/** Returns the devices of `ip -d -j address show`. Errors: TOOL_FAILED. */
export function parseLinks(text: string): readonly LinkWithAddresses[] {
  const listed = read(DEVICES, text).filter(({ ifname }) => ifname !== '')
  return listed.map(({ ifname: name, flags, master, linkinfo, addr_info = [] }) => ({
    name,
    isLoopback: flags.includes('LOOPBACK'),
    master,
    kind: linkinfo?.info_kind ?? '',
    slaveKind: linkinfo?.info_slave_kind ?? '',
    addresses: addr_info.flatMap(({ local = '', scope }) => {
      const ip = parseIp(local)
      return ip === undefined ? [] : [{ ip, scope: scope === 'link' || scope === 'host' ? scope : 'other' }]
    })
  }))
}

/**
 * Returns the devices by which packets come to this host: those with an address that is not link-local, and physical
 * ones. Ports of others, loopback, and devices that are switched off without an address are left out.
 */
export function outerDevices(links: readonly LinkWithAddresses[]): readonly Omit<HostDevice, 'isDefault'>[] {
  const hasAddress = ({ addresses }: LinkWithAddresses) => addresses.some(({ scope }) => scope === 'other')
  return links
    .filter((link) => {
      if (link.isLoopback || PORT_KINDS.has(link.slaveKind)) return false
      return link.kind === '' || hasAddress(link)
    })
    .map(({ name, kind }) => {
      const ports = links.filter(({ master }) => master === name)
      return {
        name,
        isPhysical: kind === '',
        holdsContainers: kind === 'bridge' && ports.every((port) => CONTAINER_KINDS.has(port.kind))
      }
    })
}

/** Returns the addresses of all links. */
export function addressesOf(links: readonly LinkWithAddresses[]): ReadonlySet<Ip> {
  return new Set(links.flatMap(({ addresses }) => addresses.map(({ ip }) => ip)))
}

/**
 * Returns the routes. "default" becomes 0.0.0.0/0 or ::/0, a single address becomes a /32 or /128. A destination that
 * is not a prefix is left out. Errors: TOOL_FAILED.
 */
export function parseRoutes(text: string, family: 4 | 6): readonly KernelRoute[] {
  return read(ROUTES, text).flatMap((route) => {
    const destination = destinationOf(route.dst, family)
    if (destination === undefined) return []
    const hops = route.nexthops ?? []
    return [
      {
        destination,
        device: route.dev ?? hops[0]?.dev ?? '',
        source: parseIp(route.prefsrc ?? ''),
        protocol: route.protocol ?? '',
        type: routeType(route.type ?? 'unicast'),
        gateways: [route, ...hops].flatMap(({ gateway }) => parseIp(gateway ?? '') ?? []),
        mtu: route.metrics?.find(({ mtu }) => mtu !== undefined)?.mtu,
        metric: route.metric ?? 0
      }
    ]
  })
}

/** Returns the word of `ip` for the type of a route, for which `ip -N` and the kernel have a number. */
export function routeType(type: string | number): string {
  return ROUTE_TYPES[Number(type)] ?? String(type)
}

/** Returns the rules in their order. A mark without a mask has the mask of all 32 bits. Errors: TOOL_FAILED. */
export function parseRules(text: string): readonly Rule[] {
  return read(RULES, text).map((rule) => ({
    preference: rule.priority,
    table: rule.table ?? '',
    protocol: rule.protocol ?? '',
    // `ip` prints "not": null for a rule with `not`, and no such field for others.
    not: rule.not === null,
    fwmark: Number(rule.fwmark ?? 0),
    fwmask: Number(rule.fwmask ?? (rule.fwmark === undefined ? 0 : 0xffff_ffff)),
    iif: rule.iif,
    // With `-N`, `ip` prints "ipproto-17".
    udp: rule.ipproto === 'udp' || rule.ipproto === 'ipproto-17' || rule.ipproto === '17',
    sport: rule.sport,
    dport: rule.dport
  }))
}

/** Returns the device of the default route with the lowest metric; undefined if there is none. */
export function defaultDevice(routes: readonly KernelRoute[]): string | undefined {
  return routes
    .filter(({ destination, device }) => /^(0\.0\.0\.0|::)\/0$/.test(destination) && device !== '')
    .sort((a, b) => a.metric - b.metric)[0]?.device
}

function destinationOf(text: string, family: 4 | 6): Cidr | undefined {
  const full = text === 'default' ? (family === 4 ? '0.0.0.0/0' : '::/0') : text
  const parsed = parseCidr(full.includes('/') ? full : `${full}/${family === 4 ? 32 : 128}`)
  return parsed.kind === 'cidr' ? parsed.cidr : undefined
}

/** `ip` prints nothing if a list is empty, and a single "[" if a table does not exist: both are an empty list. */
function json(text: string): unknown {
  const trimmed = text.trim()
  return trimmed === '' || trimmed === '[' ? [] : JSON.parse(trimmed)
}

/** Returns the text of `ip -json` parsed by `schema`. Errors: TOOL_FAILED for text of another form, with a fix. */
function read<T>(schema: z.ZodType<T>, text: string): T {
  return parseOutput('ip', () => schema.parse(json(text)))
}
