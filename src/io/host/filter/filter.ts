// The packet filter: one nftables table of our own. It decides which packets may come out of the tunnel, and keeps
// other programs from changing packets on their way into it. src/io/host/host.ts sets it as desired. Its chains are in
// chains.ts, its sets here. The set `about` has the mark of the table in its comment (`aboutOf`), by which a later pass
// sees whether another program changed the table.
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
import { createShapeOf, removalOf, removalWithCopy } from '../tools/nft-shape.ts'
import { chains } from './chains.ts'
import type { FilterPort, HostNames, Run } from '../ports.ts'

/** The arguments of a filter. A PartContext has them. */
interface FilterOptions {
  readonly run: Run
  readonly names: Pick<HostNames, 'nftTable' | 'device'>
  /** Takes a sentence for the operator, once, if this kernel cannot filter. */
  readonly warn?: (message: string) => void
}

/** Returns the filter that this kernel can run: nftables, or none with a warning. The first use finds out which. */
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

/** Returns the filter by nftables. Errors of its methods: HostError of nft. */
export function createNftFilter(options: FilterOptions): FilterPort {
  const { run, names } = options
  const table = tableOf(names)
  const shapeOf = createShapeOf(run, table)
  const nft = (text: string, signal: AbortSignal) =>
    run('nft', ['-f', '-'], { stdin: text, stdinAsFile: true, signal })

  async function list(signal: AbortSignal): Promise<NftListing | undefined> {
    try {
      return parseListing((await run('nft', ['-j', 'list', 'table', 'inet', table], { signal })).stdout)
    } catch (error) {
      if (error instanceof HostError && error.stderr.includes('No such file or directory')) return undefined
      throw error
    }
  }

  return {
    async observe(signal) {
      const listing = await list(signal)
      const filter = listing && filterOf(listing)
      // A table that another program changed, or that was made by another version or for another device, counts as
      // missing and is set again.
      return filter && listing.about === aboutOf(names, filter, listing.shape) ? filter : undefined
    },
    async set(filter, signal) {
      if (filter === undefined) {
        await nft(removalOf(table), signal)
        return
      }
      const text = tableText(names, filter)
      const mark = aboutCommand(table, aboutOf(names, filter, await shapeOf(text, signal)))
      await nft(`${removalOf(table)}${text}${mark}`, signal)
    },
    describe: (filter) => describeFilter(options, filter),
    async cleanup(signal) {
      await nft(removalWithCopy(table), signal)
    }
  }
}

/**
 * Returns a filter for a kernel without nftables (docs/decisions/0025-hosts-without-nftables.md). `observe` returns
 * the filter that was set, so that the plan has nothing to do. The first filter that is set gives a warning.
 */
export function createNoFilter(options: Pick<FilterOptions, 'warn'>): FilterPort {
  let desired: Filter | undefined
  let warned = false
  return {
    observe: async () => desired,
    async set(filter) {
      desired = filter
      if (filter === undefined || warned) return
      warned = true
      options.warn?.(NO_FILTER)
    },
    describe: () => [`# ${NO_FILTER}`],
    async cleanup() {
      desired = undefined
    }
  }
}

export const NO_FILTER =
  'this kernel has no nftables, so there is no packet filter: only WireGuard’s AllowedIPs limit the traffic from the tunnel'

async function choose(options: FilterOptions): Promise<FilterPort> {
  return (await canMakeChain(options.run, 'filter', 'input'))
    ? createNftFilter(options)
    : createNoFilter(options)
}

function describeFilter({ names }: FilterOptions, filter: Filter | undefined): readonly string[] {
  const removing = removalOf(tableOf(names))
  if (filter === undefined) return [`nft -f - <<'END'\n${removing}END`]
  return [
    `nft -f - <<'END'\n${removing}${tableText(names, filter)}END`,
    '# and in the same transaction the digest of what nft lists of such a table, as an element of its set "about"'
  ]
}

function tableOf(names: FilterOptions['names']): string {
  return `${names.nftTable}-filter`
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

/** Returns the set of the endpoints of exported services that are this host itself: (address, protocol, port). */
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

/**
 * Returns the set of hairpin connections: a pod whose connection to a service is balanced back to the pod itself. Chain
 * `note` adds (pod, pod) for the first packet of each connection of a pod to a service, and chain `keep` looks the pair
 * up for the same packet, so an element is needed for less than the 1 min after which it expires.
 */
function hairpinSet(family: 4 | 6): string {
  return `  set hairpin${family} {
    type ipv${family}_addr . ipv${family}_addr
    size 65535
    flags dynamic,timeout
    timeout 1m
  }`
}

/**
 * Returns the set of source addresses outside the pod prefixes that sent packets into the tunnel in the last 2 min, 64
 * addresses at most. The other side drops these packets. `meshctl doctor` and `meshctl status` name the addresses.
 */
function straySet(family: 4 | 6): string {
  return `  set stray${family} {
    type ipv${family}_addr
    size 64
    flags dynamic,timeout
    timeout 2m
  }`
}

/**
 * Returns the sets with these prefixes. nft refuses nested prefixes in one set, so the inner ones go into further sets.
 * No chain uses the further sets, because the outer prefix matches already; a pass reads them back.
 */
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

/** Splits prefixes into lists without nested ones. The first list has all the outer prefixes. */
function layersOf(prefixes: readonly Cidr[]): readonly (readonly Cidr[])[] {
  const layers: Cidr[][] = []
  // Outer prefixes sort before inner ones, so only the last prefix of a layer can contain the next prefix.
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

/**
 * Returns the filter that a listing of nft shows; undefined if the table has no mark (`aboutOf`), because the mark has
 * the port of the probe and the MTU.
 */
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

/** Returns the endpoint of an element of nft; undefined if another program wrote it in another form. */
function endpointOf(row: unknown): HostEndpoint | undefined {
  const parts = asRecord(keyOfRow(row))['concat']
  const [address, number, port]: readonly unknown[] = Array.isArray(parts) ? parts : []
  const [ip, protocol] = [typeof address === 'string' ? parseIp(address) : undefined, PROTOCOLS.get(number)]
  return ip === undefined || protocol === undefined || typeof port !== 'number'
    ? undefined
    : `${ip} ${protocol} ${port}`
}

/**
 * Returns the mark of the table: UDP port of the probe, MTU in bytes, digest of our chains, and digest of all that nft
 * listed of the table but its elements (`shape`).
 */
function aboutOf(names: FilterOptions['names'], filter: Filter, shape: string): string {
  return `${filter.probePort} ${filter.mtu} ${digest(chains(names.device, filter))} ${shape}`
}

/**
 * Returns the prefix of an element of nft, which prints a prefix of one address without a length. undefined: the
 * element is not a prefix, but for example a range of addresses.
 */
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
