// The nftables table of the load balancer as text for `nft -f`, and back from the listing of nft. The table has a
// constant number of chains; virtual servers are elements of six sets and maps. The form of kube-proxy, a chain for
// each service and endpoint, takes minutes to load with 10,000 services; this one takes seconds. A packet is looked up
// in `services`, whose verdict leads to a chain that draws a slot number (r: at random, h: by a hash of the source),
// and `slots` has the backend of that slot (src/core/host/slots.ts).
//
//   services4/6  vip . proto . port                 : goto r<N> | h<N> | refuse     comment "<scheduler> <affinity>"
//   slots4/6     vip . proto . port . slot number   : backend ip . port
//   weights4/6   vip . proto . port . ip . port     comment "<weight>"              where the slots do not say it
//
// Properties of nft 1.0.6 that the text allows for: it has no `destroy`; it refuses the priority name `dstnat` in an
// output hook; `}` right after a statement needs a `;`; after a lookup without a match the next rule follows, so the
// last one is `goto refuse`; protocols are numbers, because names need /etc/protocols.
import { familyOf, parseIp } from '../../../../core/model/cidr.ts'
import type { RealServer, Scheduler, VirtualServer } from '../../../../core/host/host-state.ts'
import type { Ip, Protocol } from '../../../../core/model/values.ts'
import { HASH_SIZES, RANDOM_SIZES, slotTable } from '../../../../core/host/slots.ts'
import {
  ABOUT_SET,
  asRecord,
  commentOf,
  keyOfRow,
  parseListing,
  PROTOCOL_NUMBER,
  PROTOCOLS
} from '../../tools/nft-listing.ts'
import { compareRealServers, keyOfVirtualServer } from '../order.ts'

/** One element of a set or map. `key` is unique in its set. */
export interface Element {
  /** Name of the set or map, such as "services4". */
  readonly set: string
  /** The key as nft reads it: "10.96.0.1 . 6 . 80". */
  readonly key: string
  /** The text of nft after the key: a comment, a value, or both. */
  readonly tail: string
  /** Key of the virtual server to which the element belongs (keyOfVirtualServer). */
  readonly server: string
}

/** The table as the kernel has it. See NftListing for `shape` and `about`. */
export interface NftTable {
  /** The elements, in no particular order. */
  readonly elements: readonly Element[]
  readonly shape: string
  readonly about: string | undefined
  /** The number of elements that no virtual server could have, so another program wrote them. */
  readonly foreign: number
}

/**
 * Affinity of an irregular server, whose elements in the kernel are not those that elementsOf() makes. No desired
 * server has −1, so the plan sets it again.
 */
export const IRREGULAR_AFFINITY = -1

const SCHEDULERS: ReadonlySet<string> = new Set<Scheduler>(['rr', 'wrr', 'mh', 'lc'])

/**
 * The lowest priority that the kernel accepts for a nat chain. It orders nat chains among themselves only: all of them
 * run at the kernel's priority −100, and after the first one that translates a connection no other is asked. So our
 * chain decides before those of kube-proxy, the CNI and firewalls (docs/decisions/0036-first-translation-wins.md).
 */
const LB_NAT_PRIORITY = -199

/**
 * Returns the whole table with empty sets, for `nft -f -` after the table has been deleted. The chain `refuse` answers
 * TCP with a reset and other protocols with an ICMP error. 6, 17 and 132 are TCP, UDP and SCTP.
 */
export function skeleton(table: string): string {
  const key = (ip: string) => `${ip} daddr . meta l4proto . th dport`
  const draw = (name: string, number: (ip: string) => string) => `  chain ${name} {
    dnat ip to ${key('ip')} . ${number('ip')} map @slots4
    dnat ip6 to ${key('ip6')} . ${number('ip6')} map @slots6
    goto refuse
  }`
  const hook = (name: string, point: string) => `  chain ${name} {
    type nat hook ${point} priority ${LB_NAT_PRIORITY}; policy accept;
    meta l4proto { 6, 17, 132 } ${key('ip')} vmap @services4
    meta l4proto { 6, 17, 132 } ${key('ip6')} vmap @services6
  }`
  const family = (n: 4 | 6, ip: string) => `  map services${n} {
    type ipv${n}_addr . inet_proto . inet_service : verdict
  }
  map slots${n} {
    typeof ${key(ip)} . numgen random mod 2 : ${ip} daddr . th dport
  }
  set weights${n} {
    type ipv${n}_addr . inet_proto . inet_service . ipv${n}_addr . inet_service
  }`
  return [
    `table inet ${table} {`,
    ABOUT_SET,
    family(4, 'ip'),
    family(6, 'ip6'),
    '  chain refuse {\n    meta l4proto 6 reject with tcp reset\n    reject with icmpx port-unreachable\n  }',
    ...RANDOM_SIZES.map((size) => draw(`r${size}`, () => `numgen random mod ${size}`)),
    // One seed for every host: a client keeps its backend when its traffic moves to another gateway.
    ...HASH_SIZES.map((size) => draw(`h${size}`, (ip) => `jhash ${ip} saddr mod ${size} seed 0x52680001`)),
    hook('prerouting', 'prerouting'),
    hook('output', 'output'),
    '}\n'
  ].join('\n')
}

/**
 * Returns the elements of a virtual server: one of `services`, one of `slots` for each slot, and one of `weights` for
 * each backend whose weight the slots do not show (not 1, or without a slot). `weights` and the comments exist only to
 * be read back; no chain uses them.
 */
export function elementsOf(server: VirtualServer): readonly Element[] {
  const family = familyOf(server.vip)
  const { draw, slots } = slotTable(server)
  const key = `${server.vip} . ${PROTOCOL_NUMBER[server.protocol]} . ${server.port}`
  const owner = keyOfVirtualServer(server)
  const chain = slots.length === 0 ? 'refuse' : `${draw === 'hash' ? 'h' : 'r'}${slots.length}`
  const served = new Set(slots)
  return [
    {
      set: `services${family}`,
      key,
      tail: ` comment "${server.scheduler} ${server.affinitySeconds}" : goto ${chain}`,
      server: owner
    },
    ...slots.map((real, slot) => ({
      set: `slots${family}`,
      key: `${key} . ${slot}`,
      tail: ` : ${real.ip} . ${real.port}`,
      server: owner
    })),
    ...server.realServers
      .filter((real) => real.weight !== 1 || !served.has(real))
      .map((real) => ({
        set: `weights${family}`,
        key: `${key} . ${real.ip} . ${real.port}`,
        tail: ` comment "${real.weight}"`,
        server: owner
      }))
  ]
}

/** Returns the commands of nft that turn the elements `have` into `want`, in the order of elementSteps(). */
export function elementCommands(
  table: string,
  have: readonly Element[],
  want: readonly Element[]
): readonly string[] {
  return elementSteps(have, want).flatMap((step) => stepCommands(table, step))
}

/** Returns the commands of nft for one step. */
export function stepCommands(table: string, { gone, fresh }: ElementStep): readonly string[] {
  return [...commands('delete', table, gone), ...commands('add', table, fresh)]
}

/** What one transaction deletes, and what it adds. */
export interface ElementStep {
  readonly gone: readonly Element[]
  readonly fresh: readonly Element[]
}

/**
 * Returns the steps that lead from `have` to `want`: one transaction, or two where a virtual server gets fewer slots. The
 * slots that it loses are deleted in the second one: a packet may have drawn one of them just before the first, and looks it
 * up just after. The elements of the map `services` are deleted first and added last. An element whose value or comment
 * (`tail`) has changed is deleted and added again.
 */
export function elementSteps(have: readonly Element[], want: readonly Element[]): readonly ElementStep[] {
  const before = new Map(have.map((element) => [idOf(element), element]))
  const after = new Map(want.map((element) => [idOf(element), element]))
  const served = new Set(want.filter(({ set }) => set.startsWith('services')).map(({ server }) => server))
  const isStale = ([id, { set, server }]: readonly [string, Element]): boolean =>
    set.startsWith('slots') && !after.has(id) && served.has(server)
  const gone = [...before].filter(([id, element]) => after.get(id)?.tail !== element.tail)
  const fresh = [...after].filter(([id, element]) => before.get(id)?.tail !== element.tail)
  const stale = gone.filter(isStale)
  const steps = [
    {
      gone: gone
        .filter((each) => !isStale(each))
        .map(([, element]) => element)
        .sort(publishedFirst),
      fresh: fresh.map(([, element]) => element).sort((a, b) => publishedFirst(b, a))
    },
    { gone: stale.map(([, element]) => element), fresh: [] }
  ]
  return steps.filter((step) => step.gone.length + step.fresh.length > 0)
}

/**
 * Parses `nft -j list table` of our table. An element that no virtual server could have is only counted. Errors:
 * HostError TOOL_FAILED for text that is no listing of nft.
 */
export function parseTable(json: string): NftTable {
  const { rows, shape, about } = parseListing(json)
  const elements: Element[] = []
  let foreign = 0
  for (const [set, list] of rows) {
    if (set === 'about') continue
    for (const row of list) {
      const element = parseElement(set, row)
      if (element === undefined) foreign++
      else elements.push(element)
    }
  }
  return { elements, shape, about, foreign }
}

/**
 * Returns the virtual server of these elements, which must all be of one server. It gets IRREGULAR_AFFINITY if
 * elementsOf() would not make exactly these elements. undefined: the list is empty.
 */
export function serverOf(elements: readonly Element[]): VirtualServer | undefined {
  const [vip, protocol, port] = (elements[0]?.server ?? '').split(' ')
  if (vip === undefined || protocol === undefined || port === undefined) return undefined
  const reals = new Map<string, RealServer>()
  let [scheduler, affinitySeconds]: [Scheduler, number] = ['rr', IRREGULAR_AFFINITY]
  for (const { set, key, tail } of elements) {
    if (set.startsWith('services')) {
      const said = /^ comment "(\w+) (\d+)" : goto /.exec(tail)
      if (said && isScheduler(said[1])) [scheduler, affinitySeconds] = [said[1], Number(said[2])]
      continue
    }
    const isWeight = set.startsWith('weights')
    const [ip = '', realPort = ''] = isWeight ? key.split(' . ').slice(3) : tail.slice(3).split(' . ')
    const name = `${ip} ${realPort}`
    if (!isWeight && reals.has(name)) continue
    const weight = isWeight ? Number(/"(\d+)"/.exec(tail)?.[1] ?? 0) : 1
    reals.set(name, { ip: ip as Ip, port: Number(realPort), weight })
  }
  const server: VirtualServer = {
    vip: vip as Ip,
    protocol: protocol as Protocol,
    port: Number(port),
    scheduler,
    affinitySeconds,
    realServers: [...reals.values()].sort(compareRealServers)
  }
  const regular = elementCommands('', elements, elementsOf(server)).length === 0
  return regular ? server : { ...server, affinitySeconds: IRREGULAR_AFFINITY }
}

// nft accepts any number of elements in a command, but its error message quotes the whole line.
const ELEMENTS_PER_COMMAND = 500

/** Joins consecutive elements of one set to commands, in the given order. Deleting needs the keys alone. */
function commands(verb: 'add' | 'delete', table: string, elements: readonly Element[]): readonly string[] {
  const lines: string[] = []
  for (let start = 0; start < elements.length;) {
    const set = elements[start]?.set
    let end = start
    while (elements[end]?.set === set && end < elements.length && end - start < ELEMENTS_PER_COMMAND) end++
    const list = elements.slice(start, end).map(({ key, tail }) => (verb === 'add' ? key + tail : key))
    lines.push(`${verb} element inet ${table} ${set} { ${list.join(', ')} }`)
    start = end
  }
  return lines
}

/** Sorts `services` before `slots` before `weights`. Elements of one set keep their order, because sort is stable. */
function publishedFirst(left: Element, right: Element): number {
  return left.set === right.set ? 0 : left.set < right.set ? -1 : 1
}

function idOf(element: Element): string {
  return `${element.set} ${element.key}`
}

/** Returns the element of a row of nft; undefined where it is not of the form that elementsOf() makes. */
function parseElement(set: string, row: unknown): Element | undefined {
  // The row of a map is [key, value]; the row of a set is its key.
  const [keyPart, value] = Array.isArray(row) ? (row as unknown[]) : [row, undefined]
  const parts = concatOf(keyPart)
  const family = /^(?:services|slots|weights)([46])$/.exec(set)?.[1]
  const vip = ipText(parts[0], family)
  const protocol = PROTOCOLS.get(parts[1])
  const port = parts[2]
  if (vip === undefined || protocol === undefined || typeof port !== 'number') return undefined
  const comment = commentOf(keyPart)
  const tail = tailOf(set, comment, value, family)
  const rest = set.startsWith('weights') ? [ipText(parts[3], family), parts[4]] : parts.slice(3)
  if (tail === undefined || rest.includes(undefined)) return undefined
  return {
    set,
    key: [vip, PROTOCOL_NUMBER[protocol], port, ...rest].join(' . '),
    tail,
    server: keyOfVirtualServer({ vip, protocol, port })
  }
}

/** Returns the text after the key as elementsOf() would write it; undefined for a slot without a backend. */
function tailOf(
  set: string,
  comment: string | undefined,
  value: unknown,
  family: string | undefined
): string | undefined {
  const said = comment === undefined ? '' : ` comment "${comment}"`
  if (set.startsWith('weights')) return said
  if (set.startsWith('slots')) {
    const [ip, port] = concatOf(value)
    const backend = ipText(ip, family)
    return backend === undefined ? undefined : `${said} : ${backend} . ${String(port)}`
  }
  // Another verdict than `goto` (accept, drop) is kept as text: the server is irregular, and its element is deleted.
  const [verb = '', body] = Object.entries(asRecord(value))[0] ?? []
  const target = asRecord(body)['target']
  return `${said} : ${verb}${typeof target === 'string' ? ` ${target}` : ''}`
}

/** Returns the parts of a key or value that nft prints as {"concat": […]}; one part where there is no concat. */
function concatOf(value: unknown): readonly unknown[] {
  const inner = keyOfRow(value)
  const list = asRecord(inner)['concat']
  return Array.isArray(list) ? (list as unknown[]) : [inner]
}

/** Returns the address in canonical form; undefined where it is none of this family. */
function ipText(value: unknown, family: string | undefined): Ip | undefined {
  const ip = typeof value === 'string' ? parseIp(value) : undefined
  return ip !== undefined && String(familyOf(ip)) === family ? ip : undefined
}

function isScheduler(text: string | undefined): text is Scheduler {
  return text !== undefined && SCHEDULERS.has(text)
}
