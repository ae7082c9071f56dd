// What may come out of the tunnel, and what must not be changed on its way into it: one nftables table of our own.
//   forward, input   default deny for the tunnel device; nothing else is looked at. Of this host, other clusters reach the probe and the
//                    endpoints of exported services that are the host itself; other ports of its pod-side addresses are refused at once
//   guard            a port of a guarded service address without a load balancer reaches no process of this host. The chain runs after
//                    IPVS (input 98) and after DNAT (prerouting), so a packet that still has such an address was not balanced
//   claim            others' DNAT for local addresses (hostPort, `docker -p`, NodePort) would take every service address, since the VIP route makes
//                    it local. A connection is translated once: one to a guarded address is translated to itself, before any other
//                    nat chain (IPVS balances it after that), but after the load balancer's own
//   keep             source NAT to the same source, before the CNI's masquerade at 100: a flow is translated once, and an
//                    `accept` in a table of ours would not stop another's
//   hairpin          a pod whose connection to a service address comes back to the pod itself: with its own source it would drop the
//                    packet, so it sees this host's address. nft compares no two fields, so `note` writes down (client, client)
//                    before the address is translated, and (source, destination) is looked up after
//   strays           sources outside the pod prefixes that went into the tunnel all the same, written down
//   mss              clamped on the way in and on the way out: with one alone, a peer behind a path that drops ICMP still hangs
import {
  compareCidr,
  cidrContains,
  familyOf,
  parseCidr,
  parseIp,
  hostCidr
} from '../../../core/model/cidr.ts'
import { sortedEndpoints } from '../../../core/host/normalize.ts'
import type { Filter, HostEndpoint } from '../../../core/host/host-state.ts'
import type { Cidr, Ip, Protocol } from '../../../core/model/values.ts'
import { HostError } from '../errors.ts'
import { canMakeChain } from '../tools/nft-trial.ts'
import {
  ABOUT_SET,
  aboutCommand,
  asRecord,
  digest,
  keyOfRow,
  parseListing,
  PROTOCOL_NUMBER,
  PROTOCOLS,
  type NftListing
} from '../tools/nft-listing.ts'
import type { FilterPort, HostNames, Run } from '../ports.ts'

export interface FilterOptions {
  readonly run: Run
  readonly names: Pick<HostNames, 'nftTable' | 'device'>
  /** Told once when this kernel cannot filter. */
  readonly warn?: (message: string) => void
}

/** The filter of this kernel: nftables, or none with a warning where nftables has no families. */
export function createFilter(options: FilterOptions): FilterPort {
  let chosen: Promise<FilterPort> | undefined
  const port = () => (chosen ??= choose(options))
  return {
    observe: async (signal) => (await port()).observe(signal),
    set: async (filter, signal) => (await port()).set(filter, signal),
    describe: (filter) => describeFilter(options, filter),
    cleanup: async (signal) => (await port()).cleanup(signal)
  }
}

/** Errors: HostError. */
export function createNftFilter(options: FilterOptions): FilterPort {
  const { run, names } = options
  const table = tableOf(names)
  const nft = (text: string, signal: AbortSignal) =>
    run('nft', ['-f', '-'], { stdin: text, stdinAsFile: true, signal })

  async function list(flags: readonly string[], signal: AbortSignal): Promise<NftListing | undefined> {
    try {
      return parseListing(
        (await run('nft', ['-j', ...flags, 'list', 'table', 'inet', table], { signal })).stdout
      )
    } catch (error) {
      if (error instanceof HostError && error.stderr.includes('No such file or directory')) return undefined
      throw error
    }
  }

  return {
    async observe(signal) {
      const listing = await list([], signal)
      const filter = listing && filterOf(listing)
      // A table that another program changed, or that was made by another version or for another device, counts as missing and is set
      // again.
      return filter && listing.about === aboutOf(names, filter, listing.shape) ? filter : undefined
    },
    async set(filter, signal) {
      await nft(`${removal(table)}${filter === undefined ? '' : tableText(names, filter)}`, signal)
      if (filter === undefined) return
      const listing = await list(['-t'], signal)
      await nft(aboutCommand(table, aboutOf(names, filter, listing?.shape ?? '')), signal)
    },
    describe: (filter) => describeFilter(options, filter),
    async cleanup(signal) {
      await nft(removal(table), signal)
    }
  }
}

/** For a kernel without nftables: remembers the wish, so that plans are calm, and says what that means. */
export function createNoFilter(options: Pick<FilterOptions, 'warn'>): FilterPort {
  let wish: Filter | undefined
  let warned = false
  return {
    observe: async () => wish,
    async set(filter) {
      wish = filter
      if (filter === undefined || warned) return
      warned = true
      options.warn?.(NO_FILTER)
    },
    describe: () => [`# ${NO_FILTER}`],
    async cleanup() {
      wish = undefined
    }
  }
}

export const NO_FILTER =
  'filter: none in this kernel (it has no nftables), so traffic from the tunnel is limited by WireGuard’s AllowedIPs alone'

async function choose(options: FilterOptions): Promise<FilterPort> {
  return (await canMakeChain(options.run, 'filter', 'input'))
    ? createNftFilter(options)
    : createNoFilter(options)
}

function describeFilter({ names }: FilterOptions, filter: Filter | undefined): readonly string[] {
  const removing = removal(tableOf(names))
  if (filter === undefined) return [`nft -f - <<'END'\n${removing}END`]
  return [
    `nft -f - <<'END'\n${removing}${tableText(names, filter)}END`,
    '# and then the digest of what nft lists of this table, as an element of its set "about"'
  ]
}

function tableOf(names: FilterOptions['names']): string {
  return `${names.nftTable}-filter`
}

function removal(table: string): string {
  return `add table inet ${table}\ndelete table inet ${table}\n`
}

/** Names of the sets, and the part of a filter that each holds. */
const LISTS = {
  remote: 'remoteSources',
  local: 'localDestinations',
  vips: 'guardedVips',
  own: 'ownNetworks'
} as const
type ListName = keyof typeof LISTS
const LIST_NAMES = Object.keys(LISTS) as readonly ListName[]

function tableText(names: FilterOptions['names'], filter: Filter): string {
  const sets = LIST_NAMES.flatMap((name) =>
    ([4, 6] as const).flatMap((family) => setTexts(name, family, filter[LISTS[name]] ?? []))
  )
  return [
    `table inet ${tableOf(names)} {`,
    ABOUT_SET,
    ...sets,
    endpointSet(4, filter.hostEndpoints ?? []),
    endpointSet(6, filter.hostEndpoints ?? []),
    hairpinSet(4),
    hairpinSet(6),
    straySet(4),
    straySet(6),
    chains(names.device, filter),
    '}\n'
  ].join('\n')
}

function chains(device: string, { mtu, probePort }: Filter): string {
  const probe = [
    `    ip saddr @remote4 udp dport ${probePort} accept`,
    `    ip6 saddr @remote6 udp dport ${probePort} accept`
  ]
  const clamp = (side: string) => [
    `    ${side} "${device}" meta nfproto ipv4 tcp flags syn tcp option maxseg size set ${mtu - 40}`,
    `    ${side} "${device}" meta nfproto ipv6 tcp flags syn tcp option maxseg size set ${mtu - 60}`
  ]
  const byRoute = (side: string) => [
    `    ${side} "${device}" tcp flags syn tcp option maxseg size set rt mtu`
  ]
  const chain = (name: string, ...lines: readonly string[]) =>
    [`  chain ${name} {`, ...lines, '  }'].join('\n')
  return [
    chain('refuse', '    meta l4proto 6 reject with tcp reset', '    reject with icmpx port-unreachable'),
    chain(
      'forward',
      '    type filter hook forward priority -10; policy accept;',
      `    iifname != "${device}" accept`,
      '    ct state established,related accept',
      '    ip saddr @remote4 ip daddr @local4 accept',
      '    ip6 saddr @remote6 ip6 daddr @local6 accept',
      '    counter drop'
    ),
    chain(
      'input',
      '    type filter hook input priority -10; policy accept;',
      `    iifname != "${device}" accept`,
      '    ct state established,related accept',
      '    ip saddr @remote4 icmp type echo-request accept',
      '    ip6 saddr @remote6 icmpv6 type echo-request accept',
      ...(probePort === 0 ? [] : probe),
      '    ip saddr @remote4 ip daddr . meta l4proto . th dport @endpoints4 accept',
      '    ip6 saddr @remote6 ip6 daddr . meta l4proto . th dport @endpoints6 accept',
      '    ip saddr @remote4 ip daddr @local4 goto refuse',
      '    ip6 saddr @remote6 ip6 daddr @local6 goto refuse',
      '    counter drop'
    ),
    chain(
      'guard',
      '    type filter hook input priority 110; policy accept;',
      '    ip daddr @own4 accept',
      '    ip6 daddr @own6 accept',
      '    ip daddr @vips4 goto refuse',
      '    ip6 daddr @vips6 goto refuse'
    ),
    ...(['prerouting', 'output'] as const).map((hook) =>
      chain(
        `claim-${hook}`,
        `    type nat hook ${hook} priority ${CLAIM_PRIORITY}; policy accept;`,
        '    ip daddr @own4 accept',
        '    ip6 daddr @own6 accept',
        '    ip daddr @vips4 dnat ip to ip daddr',
        '    ip6 daddr @vips6 dnat ip6 to ip6 daddr'
      )
    ),
    chain(
      'keep',
      '    type nat hook postrouting priority 90; policy accept;',
      '    ip saddr . ip daddr @hairpin4 masquerade',
      '    ip6 saddr . ip6 daddr @hairpin6 masquerade',
      `    oifname "${device}" ip saddr @local4 ip daddr @remote4 snat ip to ip saddr`,
      `    oifname "${device}" ip6 saddr @local6 ip6 daddr @remote6 snat ip6 to ip6 saddr`,
      '    ip saddr @remote4 ip daddr @local4 snat ip to ip saddr',
      '    ip6 saddr @remote6 ip6 daddr @local6 snat ip6 to ip6 saddr'
    ),
    chain(
      'note',
      '    type filter hook prerouting priority -120; policy accept;',
      '    ct state new ip saddr @local4 ip daddr @vips4 update @hairpin4 { ip saddr . ip saddr }',
      '    ct state new ip6 saddr @local6 ip6 daddr @vips6 update @hairpin6 { ip6 saddr . ip6 saddr }'
    ),
    // After every translation of source addresses.
    chain(
      'strays',
      '    type filter hook postrouting priority 300; policy accept;',
      // The kernel's own talk on a link (its neighbours, its groups) is for that link and no sender's mistake.
      `    oifname "${device}" ip saddr != { 0.0.0.0, 169.254.0.0/16 } ip daddr != 224.0.0.0/4 ip saddr != @local4 update @stray4 { ip saddr }`,
      `    oifname "${device}" ip6 saddr != { ::, fe80::/10 } ip6 daddr != ff00::/8 ip6 saddr != @local6 update @stray6 { ip6 saddr }`
    ),
    chain('mss-in', '    type filter hook prerouting priority -150; policy accept;', ...clamp('iifname')),
    chain('mss-out', '    type filter hook postrouting priority -150; policy accept;', ...clamp('oifname')),
    // By the MTU of the route to the other cluster, where that is less: its path carries no more.
    chain(
      'mss-path',
      '    type filter hook forward priority -150; policy accept;',
      ...byRoute('iifname'),
      ...byRoute('oifname')
    ),
    chain('mss-host', '    type filter hook postrouting priority -149; policy accept;', ...byRoute('oifname'))
  ].join('\n')
}

// Right after LB_NAT_PRIORITY of load-balancer/nftables/table.ts.
const CLAIM_PRIORITY = -198

function endpointSet(family: 4 | 6, endpoints: readonly HostEndpoint[]): string {
  const keys = endpoints
    .map((endpoint) => endpoint.split(' '))
    .filter(([ip = '']) => familyOf(ip as Ip) === family)
    .map(([ip, protocol, port]) => `${ip} . ${PROTOCOL_NUMBER[protocol as Protocol]} . ${port}`)
  const elements = keys.length === 0 ? '' : `    elements = { ${keys.join(', ')} }\n`
  return `  set endpoints${family} {
    type ipv${family}_addr . inet_proto . inet_service
${elements}  }`
}

/** One element a client of this host; it is read within the turn of the packet that wrote it. */
function hairpinSet(family: 4 | 6): string {
  return `  set hairpin${family} {
    type ipv${family}_addr . ipv${family}_addr
    size 65535
    flags dynamic,timeout
    timeout 1m
  }`
}

/** Sources from outside the pod prefixes that went into the tunnel: the other side drops them, and doctor and status name them. */
function straySet(family: 4 | 6): string {
  return `  set stray${family} {
    type ipv${family}_addr
    size 64
    flags dynamic,timeout
    timeout 2m
  }`
}

/** One set, and more for nested prefixes, which nft refuses in one: those only remember, as the outer prefix matches. */
function setTexts(name: ListName, family: 4 | 6, prefixes: readonly Cidr[]): readonly string[] {
  const layers = layersOf(prefixes.filter((prefix) => familyOf(prefix) === family))
  return (layers.length === 0 ? [[]] : layers).map((layer, depth) => {
    const elements = layer.length === 0 ? '' : `    elements = { ${layer.join(', ')} }\n`
    return `  set ${name}${family}${depth === 0 ? '' : `-${depth}`} {
    type ipv${family}_addr
    flags interval
${elements}  }`
  })
}

function layersOf(prefixes: readonly Cidr[]): readonly (readonly Cidr[])[] {
  const layers: Cidr[][] = []
  // Outer prefixes sort before inner ones: the last of a layer is the only one that could contain the next.
  for (const prefix of [...prefixes].sort(compareCidr)) {
    const layer = layers.find((taken) => {
      const last = taken.at(-1)
      return last === undefined || !cidrContains(last, prefix)
    })
    if (layer) layer.push(prefix)
    else layers.push([prefix])
  }
  return layers
}

/** What the listing says; undefined where the mark is missing. */
function filterOf({ rows, about }: NftListing): Filter | undefined {
  const said = /^(\d+) (\d+) /.exec(about ?? '')
  if (!said) return undefined
  const prefixes = (name: ListName) =>
    [...rows]
      .filter(([set]) => new RegExp(`^${name}[46](-\\d+)?$`).test(set))
      .flatMap(([, list]) => list.flatMap((row) => prefixOf(row) ?? []))
      .sort(compareCidr)
  const guardedVips = prefixes('vips')
  const ownNetworks = prefixes('own')
  const hostEndpoints = sortedEndpoints(
    (['endpoints4', 'endpoints6'] as const).flatMap((set) =>
      (rows.get(set) ?? []).flatMap((row) => endpointOf(row) ?? [])
    )
  )
  return {
    remoteSources: prefixes('remote'),
    localDestinations: prefixes('local'),
    probePort: Number(said[1]),
    mtu: Number(said[2]),
    ...(guardedVips.length === 0 ? {} : { guardedVips }),
    ...(ownNetworks.length === 0 ? {} : { ownNetworks }),
    ...(hostEndpoints.length === 0 ? {} : { hostEndpoints })
  }
}

function endpointOf(row: unknown): HostEndpoint | undefined {
  const parts = asRecord(keyOfRow(row))['concat']
  const [address, number, port]: readonly unknown[] = Array.isArray(parts) ? parts : []
  const [ip, protocol] = [typeof address === 'string' ? parseIp(address) : undefined, PROTOCOLS.get(number)]
  return ip === undefined || protocol === undefined || typeof port !== 'number'
    ? undefined
    : `${ip} ${protocol} ${port}`
}

function aboutOf(names: FilterOptions['names'], filter: Filter, shape: string): string {
  return `${filter.probePort} ${filter.mtu} ${digest(chains(names.device, filter))} ${shape}`
}

function prefixOf(row: unknown): Cidr | undefined {
  const key = keyOfRow(row)
  if (typeof key === 'string') {
    const ip = parseIp(key)
    return ip && hostCidr(ip)
  }
  const { addr, len } = asRecord(asRecord(key)['prefix'])
  const parsed = parseCidr(`${String(addr)}/${String(len)}`)
  return parsed.kind === 'cidr' ? parsed.cidr : undefined
}
