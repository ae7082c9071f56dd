// Reads links, addresses, routes and rules from the kernel (rtnetlink(7)) as `ip` prints them, without a process. An idle
// agent asked `ip` and `wg` 8 times a second: each process cost 5 ms of a processor, and a question here costs 0.1 ms.
// test/lab/rtnetlink.test.ts compares each reading with that of `ip`. The numbers are those of linux/rtnetlink.h,
// linux/if_link.h, linux/if_addr.h and linux/fib_rules.h; all but addresses are in the byte order of the machine.
import { bytesToIp, prefixToCidr } from '../../../core/model/cidr.ts'
import type { Cidr, Ip } from '../../../core/model/values.ts'
import {
  routeType,
  type KernelRoute,
  type Link,
  type LinkWithAddresses,
  type Rule
} from '../tools/ip-json.ts'
import { attribute, attributeMap, attributesOf, textOf } from './message.ts'
import type { Questions } from './questions.ts'

type Family = 4 | 6

/** Reads the network of this namespace. Each call rejects where the kernel gives no whole answer. */
export interface Rtnetlink {
  /** Returns the device of this name; undefined: there is none. */
  link(name: string): Promise<Link | undefined>
  /** Returns all devices with their addresses. */
  links(): Promise<readonly LinkWithAddresses[]>
  /** Returns the routes of a table, those of one protocol where a protocol is given. */
  routes(question: {
    readonly family: Family
    readonly table: number
    readonly protocol?: number | undefined
  }): Promise<readonly KernelRoute[]>
  rules(family: Family): Promise<readonly Rule[]>
}

const RTM_GETLINK = 18
const RTM_GETADDR = 22
const RTM_GETROUTE = 26
const RTM_GETRULE = 34

const AF: Readonly<Record<Family, number>> = { 4: 2, 6: 10 }
// Numbers of errno(3). The kernel has no such table, device or family: the list is empty.
const ABSENT: ReadonlySet<number> = new Set([2, 19, 95, 97])

/** Returns the reader of the namespace in which the socket was opened. */
export function createRtnetlink(questions: Questions): Rtnetlink {
  /** Asks for a list. Empty where the kernel knows no such thing; rejects for any other refusal. */
  async function list<T>(
    type: number,
    body: Buffer,
    read: (payload: Buffer) => T | undefined
  ): Promise<readonly T[]> {
    const found = await questions.ask({ type, body, isList: true }, ({ type: got, payload }) =>
      got === type - 2 ? read(payload) : undefined
    )
    return typeof found === 'number' ? refused(found) : found
  }

  async function byName(kind: number, value: Uint8Array): Promise<Entry | undefined> {
    const body = Buffer.concat([Buffer.alloc(IFINFO_BYTES), attribute(kind, value), NO_STATISTICS])
    const found = await questions.ask({ type: RTM_GETLINK, body, isList: false }, ({ type, payload }) =>
      type === RTM_GETLINK - 2 ? entryOf(payload) : undefined
    )
    return (typeof found === 'number' ? refused(found) : found)[0]
  }

  const allLinks = () =>
    list(RTM_GETLINK, Buffer.concat([Buffer.alloc(IFINFO_BYTES), NO_STATISTICS]), entryOf)

  return {
    async link(name) {
      const text = Buffer.from(`${name}\0`)
      // A device may have further names (ip-link(8), altname), which no other device can take.
      const found = (await byName(IFLA_IFNAME, text)) ?? (await byName(IFLA_ALT_IFNAME, text))
      if (found === undefined) return undefined
      return { name: found.name, kind: found.kind, mtu: found.mtu, up: (found.flags & IFF_UP) !== 0 }
    },

    async links() {
      const [links, addresses] = [
        await allLinks(),
        await list(RTM_GETADDR, Buffer.alloc(IFADDR_BYTES), addressOf)
      ]
      const names = new Map(links.map(({ index, name }) => [index, name]))
      const byLink = Map.groupBy(addresses, ({ index }) => index)
      return links.map(({ index, name, flags, master, kind, slaveKind }) => ({
        name,
        isLoopback: (flags & IFF_LOOPBACK) !== 0,
        master: names.get(master),
        kind,
        slaveKind,
        addresses: (byLink.get(index) ?? []).map(({ ip, scope }) => ({ ip, scope }))
      }))
    },

    async routes({ family, table, protocol }) {
      const head = Buffer.alloc(RTMSG_BYTES)
      head[0] = AF[family]
      head[5] = protocol ?? 0
      const body = Buffer.concat([head, attribute(RTA_TABLE, u32(table))])
      const found = (await list(RTM_GETROUTE, body, routeOf)).filter(
        (route) =>
          route.family === AF[family] &&
          route.table === table &&
          (protocol === undefined || route.protocol === protocol)
      )
      // Without a route there is no device to name.
      const names = new Map(
        found.length === 0 ? [] : (await allLinks()).map(({ index, name }) => [index, name])
      )
      return found.map(({ destination, index, source, protocol: by, type, gateways, mtu, metric }) => ({
        destination,
        device: names.get(index) ?? '',
        source,
        protocol: String(by),
        type,
        gateways,
        mtu,
        metric
      }))
    },

    async rules(family) {
      const head = Buffer.alloc(FIB_RULE_BYTES)
      head[0] = AF[family]
      return list(RTM_GETRULE, head, (payload) => (payload[0] === AF[family] ? ruleOf(payload) : undefined))
    }
  }
}

function refused(errno: number): readonly never[] {
  if (ABSENT.has(errno)) return []
  throw new Error(`the kernel refused a question for its network with error ${errno}`)
}

// struct ifinfomsg: family (1), padding (1), type (2), index (4), flags (4), change (4).
const IFINFO_BYTES = 16
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_MASTER = 10
const IFLA_LINKINFO = 18
const IFLA_INFO_KIND = 1
const IFLA_INFO_SLAVE_KIND = 4
const IFLA_EXT_MASK = 29
const IFLA_ALT_IFNAME = 53
const RTEXT_FILTER_SKIP_STATS = 8
const IFF_UP = 1
const IFF_LOOPBACK = 8

const NO_STATISTICS = attribute(IFLA_EXT_MASK, u32(RTEXT_FILTER_SKIP_STATS))

/** One link as the kernel tells it. `master`: the index of the link above; 0: none. */
interface Entry {
  readonly index: number
  readonly name: string
  readonly flags: number
  readonly mtu: number
  readonly master: number
  readonly kind: string
  readonly slaveKind: string
}

function entryOf(payload: Buffer): Entry {
  const found = attributeMap(payload.subarray(IFINFO_BYTES))
  const info = attributeMap(found.get(IFLA_LINKINFO) ?? Buffer.alloc(0))
  return {
    index: payload.readInt32LE(4),
    name: textOf(found.get(IFLA_IFNAME) ?? Buffer.alloc(0)),
    flags: payload.readUInt32LE(8),
    mtu: number(found.get(IFLA_MTU)),
    master: number(found.get(IFLA_MASTER)),
    kind: textOf(info.get(IFLA_INFO_KIND) ?? Buffer.alloc(0)),
    slaveKind: textOf(info.get(IFLA_INFO_SLAVE_KIND) ?? Buffer.alloc(0))
  }
}

// struct ifaddrmsg: family (1), prefix length (1), flags (1), scope (1), index (4).
const IFADDR_BYTES = 8
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
// RT_SCOPE_LINK and RT_SCOPE_HOST.
const SCOPES: ReadonlyMap<number, 'link' | 'host'> = new Map([
  [253, 'link'],
  [254, 'host']
])

function addressOf(payload: Buffer): { index: number; ip: Ip; scope: 'link' | 'host' | 'other' } | undefined {
  const found = attributeMap(payload.subarray(IFADDR_BYTES))
  // On a point-to-point link IFA_ADDRESS is that of the other end.
  const ip = bytesToIp(found.get(IFA_LOCAL) ?? found.get(IFA_ADDRESS) ?? Buffer.alloc(0))
  if (ip === undefined) return undefined
  return { index: payload.readUInt32LE(4), ip, scope: SCOPES.get(payload[3] ?? 0) ?? 'other' }
}

// struct rtmsg: family, destination length, source length, tos, table, protocol, scope, type (1 each), flags (4).
const RTMSG_BYTES = 12
const RTA_DST = 1
const RTA_OIF = 4
const RTA_GATEWAY = 5
const RTA_PRIORITY = 6
const RTA_PREFSRC = 7
const RTA_METRICS = 8
const RTA_MULTIPATH = 9
const RTA_TABLE = 15
const RTAX_MTU = 2
const RTM_F_CLONED = 0x200
interface RouteEntry {
  readonly family: number
  readonly table: number
  readonly destination: Cidr
  readonly index: number
  readonly source: Ip | undefined
  readonly protocol: number
  readonly type: string
  readonly gateways: readonly Ip[]
  readonly mtu: number | undefined
  readonly metric: number
}

/** undefined: a copy in the cache, or a destination that is no prefix. */
function routeOf(payload: Buffer): RouteEntry | undefined {
  if ((payload.readUInt32LE(8) & RTM_F_CLONED) !== 0) return undefined
  const found = attributeMap(payload.subarray(RTMSG_BYTES))
  const family = payload[0] ?? 0
  const address = found.get(RTA_DST) ?? Buffer.alloc(family === AF[4] ? 4 : 16)
  const destination = prefixToCidr({ address, length: payload[1] ?? 0 })
  if (destination === undefined) return undefined
  const hops = [...hopsOf(found.get(RTA_MULTIPATH) ?? Buffer.alloc(0))]
  const mtu = number(attributeMap(found.get(RTA_METRICS) ?? Buffer.alloc(0)).get(RTAX_MTU))
  return {
    family,
    table: found.has(RTA_TABLE) ? number(found.get(RTA_TABLE)) : (payload[4] ?? 0),
    destination,
    index: number(found.get(RTA_OIF)) || (hops[0]?.index ?? 0),
    source: ipOf(found.get(RTA_PREFSRC)),
    protocol: payload[5] ?? 0,
    type: routeType(payload[7] ?? 0),
    gateways: [ipOf(found.get(RTA_GATEWAY)), ...hops.map(({ gateway }) => gateway)].filter(
      (ip) => ip !== undefined
    ),
    mtu: mtu === 0 ? undefined : mtu,
    metric: number(found.get(RTA_PRIORITY))
  }
}

// struct rtnexthop: length (2), flags (1), hops (1), index (4).
const RTNEXTHOP_BYTES = 8

function* hopsOf(list: Buffer): Generator<{ index: number; gateway: Ip | undefined }> {
  for (let at = 0; at + RTNEXTHOP_BYTES <= list.length;) {
    const length = list.readUInt16LE(at)
    if (length < RTNEXTHOP_BYTES || at + length > list.length) return
    const hop = attributeMap(list.subarray(at + RTNEXTHOP_BYTES, at + length))
    yield { index: list.readInt32LE(at + 4), gateway: ipOf(hop.get(RTA_GATEWAY)) }
    at += (length + 3) & ~3
  }
}

// struct fib_rule_hdr: family, destination length, source length, tos, table, two unused, action (1 each), flags (4).
const FIB_RULE_BYTES = 12
const FR_ACT_TO_TBL = 1
const FIB_RULE_INVERT = 2
const FRA_IIFNAME = 3
const FRA_PRIORITY = 6
const FRA_FWMARK = 10
const FRA_TABLE = 15
const FRA_FWMASK = 16
const FRA_PROTOCOL = 21
const FRA_IP_PROTO = 22
const FRA_SPORT_RANGE = 23
const FRA_DPORT_RANGE = 24
const FRA_L3MDEV = 19
const IPPROTO_UDP = 17

function ruleOf(payload: Buffer): Rule {
  const found = new Map(attributesOf(payload.subarray(FIB_RULE_BYTES)))
  const fwmark = number(found.get(FRA_FWMARK))
  const iif = found.get(FRA_IIFNAME)
  const leads = payload[7] === FR_ACT_TO_TBL && (found.get(FRA_L3MDEV)?.[0] ?? 0) === 0
  return {
    preference: number(found.get(FRA_PRIORITY)),
    table: leads ? String(found.has(FRA_TABLE) ? number(found.get(FRA_TABLE)) : payload[4]) : '',
    protocol: String(found.get(FRA_PROTOCOL)?.[0] ?? ''),
    not: (payload.readUInt32LE(8) & FIB_RULE_INVERT) !== 0,
    fwmark,
    fwmask: found.has(FRA_FWMASK) ? number(found.get(FRA_FWMASK)) : fwmark === 0 ? 0 : 0xffff_ffff,
    iif: iif === undefined ? undefined : textOf(iif),
    udp: found.get(FRA_IP_PROTO)?.[0] === IPPROTO_UDP,
    sport: singlePort(found.get(FRA_SPORT_RANGE)),
    dport: singlePort(found.get(FRA_DPORT_RANGE))
  }
}

/** The port of a range of one; undefined: no range, or one of several ports. */
function singlePort(range: Buffer | undefined): number | undefined {
  if (range === undefined || range.length < 4) return undefined
  return range.readUInt16LE(0) === range.readUInt16LE(2) ? range.readUInt16LE(0) : undefined
}

function ipOf(bytes: Buffer | undefined): Ip | undefined {
  return bytes === undefined ? undefined : bytesToIp(bytes)
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

/** A number of 32 bits; 0 where the attribute is missing. */
function number(bytes: Buffer | undefined): number {
  return bytes === undefined || bytes.length < 4 ? 0 : bytes.readUInt32LE(0)
}
