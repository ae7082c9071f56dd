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
  /** '' if `ip` was asked for one protocol only and therefore leaves it out. */
  readonly protocol: string
  /** "unicast" if `ip` leaves it out. */
  readonly type: string
  /** Addresses of the next hops; empty if the destination is on the link. */
  readonly gateways: readonly Ip[]
  /** Bytes; undefined if the route has no MTU of its own. */
  readonly mtu: number | undefined
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

const ADDRESSES = z.array(
  z.object({ addr_info: z.array(z.object({ local: z.string().optional() })).optional() })
)

const DEVICES = z.array(
  z.object({
    ifname: z.string(),
    flags: z.array(z.string()),
    master: z.string().optional(),
    linkinfo: z
      .object({ info_kind: z.string().optional(), info_slave_kind: z.string().optional() })
      .optional(),
    addr_info: z.array(z.object({ scope: z.string().optional() })).optional()
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
    metrics: z.array(z.object({ mtu: z.number().optional() })).optional()
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

// Packets that come in by a port belong to the device above it. A device in a VRF (slave of kind `vrf`) keeps its own.
const PORT_KINDS: ReadonlySet<string> = new Set(['bridge', 'bond', 'team', 'openvswitch'])
// Kinds of devices that are ends of containers or virtual machines, when they are ports of a bridge.
const CONTAINER_KINDS: ReadonlySet<string> = new Set(['veth', 'netkit', 'tun'])

/**
 * Returns the devices of `ip -d -j address show` by which packets come to this host: those with an address that is not
 * link-local, and physical ones. Ports of others, loopback, and devices that are switched off without an address are
 * left out. Errors: TOOL_FAILED.
 */
export function parseDevices(text: string): readonly Omit<HostDevice, 'isDefault'>[] {
  const links = read(DEVICES, text)
  const hasAddress = ({ addr_info = [] }: (typeof links)[number]) =>
    addr_info.some(({ scope }) => scope !== 'link' && scope !== 'host')
  return links
    .filter((link) => {
      const { info_kind: kind, info_slave_kind: slaveKind = '' } = link.linkinfo ?? {}
      if (link.flags.includes('LOOPBACK') || PORT_KINDS.has(slaveKind)) return false
      return kind === undefined || hasAddress(link)
    })
    .map(({ ifname: name, linkinfo }) => {
      const ports = links.filter(({ master }) => master === name)
      const isOfContainer = (port: (typeof links)[number]) =>
        CONTAINER_KINDS.has(port.linkinfo?.info_kind ?? '')
      return {
        name,
        isPhysical: linkinfo?.info_kind === undefined,
        holdsContainers: linkinfo?.info_kind === 'bridge' && ports.every(isOfContainer)
      }
    })
}

/** Returns the addresses of all links in the output. Errors: TOOL_FAILED. */
export function parseAddresses(text: string): ReadonlySet<Ip> {
  const entries = read(ADDRESSES, text).flatMap((link) => link.addr_info ?? [])
  return new Set(entries.map((entry) => parseIp(entry.local ?? '')).filter((ip) => ip !== undefined))
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
        type: route.type ?? 'unicast',
        gateways: [route, ...hops].flatMap(({ gateway }) => parseIp(gateway ?? '') ?? []),
        mtu: route.metrics?.find(({ mtu }) => mtu !== undefined)?.mtu
      }
    ]
  })
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

/** Returns the device of the default route with the lowest metric; undefined if there is none. Errors: TOOL_FAILED. */
export function parseDefaultDevice(text: string): string | undefined {
  const schema = z.array(z.object({ dev: z.string().optional(), metric: z.number().optional() }))
  const routes = read(schema, text).filter((route) => route.dev !== undefined)
  return routes.sort((a, b) => (a.metric ?? 0) - (b.metric ?? 0))[0]?.dev
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
