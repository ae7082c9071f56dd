// What `ip -json` prints, reduced to what we ask of it.
import { z } from 'zod'
import { unreadable } from '../errors.ts'
import { parseCidr, parseIp } from '../../../core/model/cidr.ts'
import type { Cidr, Ip } from '../../../core/model/values.ts'

export interface Link {
  readonly name: string
  /** As in `ip link add … type <kind>`; '' for a physical one. */
  readonly kind: string
  readonly mtu: number
  readonly up: boolean
}

export interface KernelRoute {
  readonly destination: Cidr
  readonly device: string
  readonly source: Ip | undefined
  /** '' where `ip` was asked for one protocol only and so leaves it out. */
  readonly protocol: string
  /** "unicast" where `ip` leaves it out. */
  readonly type: string
  /** Next hops; empty where the destination is on the link. */
  readonly gateways: readonly Ip[]
  /** Bytes; undefined where the route has none of its own. */
  readonly mtu: number | undefined
}

export interface Rule {
  readonly preference: number
  readonly table: string
  readonly protocol: string
  readonly not: boolean
  readonly fwmark: number
  readonly fwmask: number
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
    fwmask: z.string().optional()
  })
)

/** The first link. */
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

export function parseAddresses(text: string): ReadonlySet<Ip> {
  const entries = read(ADDRESSES, text).flatMap((link) => link.addr_info ?? [])
  return new Set(entries.map((entry) => parseIp(entry.local ?? '')).filter((ip) => ip !== undefined))
}

/** "default" and a host's bare address become prefixes; what is none (multicast's "ff00::/8" is one) is left out. */
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

export function parseRules(text: string): readonly Rule[] {
  return read(RULES, text).map((rule) => ({
    preference: rule.priority,
    table: rule.table ?? '',
    protocol: rule.protocol ?? '',
    not: rule.not === null,
    fwmark: Number(rule.fwmark ?? 0),
    fwmask: Number(rule.fwmask ?? (rule.fwmark === undefined ? 0 : 0xffff_ffff))
  }))
}

/** The device of the default route with the lowest metric. */
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

/** `ip` prints nothing at all where there is nothing, and a lone "[" where a table does not exist. */
function json(text: string): unknown {
  const trimmed = text.trim()
  return trimmed === '' || trimmed === '[' ? [] : JSON.parse(trimmed)
}

/** Errors: TOOL_FAILED for what is no such list, in words: the text may be anything. */
function read<T>(schema: z.ZodType<T>, text: string): T {
  try {
    return schema.parse(json(text))
  } catch (cause) {
    throw unreadable('ip', cause)
  }
}
