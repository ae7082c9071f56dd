// The sets of the packet filter as text of nft, and back from the listing of nft. Each list of a Filter is a set, or one
// set for each family of addresses; the rules of chains.ts and underlay.ts name them.
import {
  compareCidr,
  cidrContains,
  familyOf,
  hostCidr,
  parseCidr,
  parseIp
} from '../../../core/model/cidr.ts'
import type { Filter, HostEndpoint, SourceEndpoint } from '../../../core/host/host-state.ts'
import type { Cidr, Ip, Protocol } from '../../../core/model/values.ts'
import { MAP, translatedFrom, translationMaps } from './translation.ts'
import { asRecord, keyOfRow, PROTOCOL_NUMBER, PROTOCOLS, type NftListing } from '../tools/nft-listing.ts'

/** Names of the sets of prefixes, without the family, and the part of a filter that each holds. */
const PREFIX_SETS = {
  remote: 'remoteSources',
  local: 'localDestinations',
  vips: 'guardedVips',
  own: 'ownNetworks',
  kept: 'ownSources',
  barred: 'barredSources',
  nodes: 'nodeSources'
} as const
/** Names of the sets of devices, and the part of a filter that each holds. */
const DEVICE_SETS = {
  checked: 'checkedDevices',
  overlays: 'overlayDevices',
  bridges: 'containerBridges'
} as const

/** Names of the sets of endpoints, without the family, and the part of a filter that each holds. */
const ENDPOINT_SETS = { endpoints: 'hostEndpoints', reach: 'reachable' } as const

/** Returns all sets that hold a part of the filter, and those that the rules fill themselves. */
export function setsOf(filter: Filter): readonly string[] {
  return [
    ...fromSets(filter),
    ...namesOf(PREFIX_SETS).flatMap((name) =>
      ([4, 6] as const).flatMap((family) => prefixSets(name, family, filter[PREFIX_SETS[name]] ?? []))
    ),
    ...namesOf(DEVICE_SETS).map((name) => deviceSet(name, filter[DEVICE_SETS[name]] ?? [])),
    ...namesOf(ENDPOINT_SETS).flatMap((name) =>
      ([4, 6] as const).map((family) => endpointSet(name, family, filter[ENDPOINT_SETS[name]] ?? []))
    ),
    ...translationMaps(filter),
    hairpinSet(4),
    hairpinSet(6),
    straySet(4),
    straySet(6)
  ]
}

/** Returns the lists that a listing of nft shows, in no particular order. */
export function listsOf(rows: NftListing['rows']): Omit<Filter, 'probePort' | 'mtu'> {
  const prefixes = (name: string) =>
    [...rows]
      .filter(([set]) => new RegExp(`^${name}[46](-\\d+)?$`).test(set))
      .flatMap(([, list]) => list.flatMap((row) => prefixOf(row) ?? []))
  const devices = (name: string) =>
    (rows.get(name) ?? []).flatMap((row) => {
      const device = keyOfRow(row)
      return typeof device === 'string' ? [device] : []
    })
  const byPrefix = namesOf(PREFIX_SETS).map((name) => [PREFIX_SETS[name], prefixes(name)])
  const byDevice = namesOf(DEVICE_SETS).map((name) => [DEVICE_SETS[name], devices(name)])
  const byEndpoint = namesOf(ENDPOINT_SETS).map((name) => [
    ENDPOINT_SETS[name],
    [4, 6].flatMap((family) => (rows.get(`${name}${family}`) ?? []).flatMap((row) => endpointOf(row) ?? []))
  ])
  const reachableFrom = [4, 6].flatMap((family) =>
    (rows.get(`${FROM}${family}`) ?? []).flatMap((row) => sourceEndpointOf(row) ?? [])
  )
  const translated = [4, 6].flatMap((family) =>
    (rows.get(`${MAP}${family}`) ?? []).flatMap((row) => {
      const pair = pairOf(row)
      return pair === undefined ? [] : [pair]
    })
  )
  return {
    translatedPods: translatedFrom(translated),
    reachableFrom,
    remoteSources: [],
    localDestinations: [],
    ...(Object.fromEntries([...byPrefix, ...byDevice, ...byEndpoint]) as Partial<Filter>)
  }
}

function namesOf<Name extends string>(sets: Readonly<Record<Name, string>>): readonly Name[] {
  return Object.keys(sets) as Name[]
}

function deviceSet(name: string, devices: readonly string[]): string {
  const named = devices.map((device) => `"${device}"`)
  const elements = named.length === 0 ? '' : `    elements = { ${named.join(', ')} }\n`
  return `  set ${name} {\n    type ifname\n${elements}  }`
}

/** Returns a set of endpoints of exported services: (address, protocol, port). */
function endpointSet(name: string, family: 4 | 6, endpoints: readonly HostEndpoint[]): string {
  const keys = endpoints
    .map((endpoint) => endpoint.split(' '))
    .filter(([ip = '']) => familyOf(ip as Ip) === family)
    .map(([ip, protocol, port]) => `${ip} . ${PROTOCOL_NUMBER[protocol as Protocol]} . ${port}`)
  const elements = keys.length === 0 ? '' : `    elements = { ${keys.join(', ')} }\n`
  return `  set ${name}${family} {
    type ipv${family}_addr . inet_proto . inet_service
${elements}  }`
}

/** The name of the sets of endpoints that some clusters may reach, without the family. */
const FROM = 'from'

/**
 * Returns the sets (source prefix, address, protocol, port), and none where there are no such endpoints: a concatenation with
 * prefixes needs Linux 5.6, and no other part of the filter does.
 */
function fromSets({ reachableFrom = [] }: Filter): readonly string[] {
  if (reachableFrom.length === 0) return []
  return ([4, 6] as const).map((family) => {
    const keys = reachableFrom
      .map((pair) => pair.split(' ') as [Cidr, Ip, Protocol, string])
      .filter(([source]) => familyOf(source) === family)
      .map(([source, ip, protocol, port]) => `${source} . ${ip} . ${PROTOCOL_NUMBER[protocol]} . ${port}`)
    const elements = keys.length === 0 ? '' : `    elements = { ${keys.join(', ')} }\n`
    return `  set ${FROM}${family} {
    type ipv${family}_addr . ipv${family}_addr . inet_proto . inet_service
    flags interval
${elements}  }`
  })
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
function prefixSets(name: string, family: 4 | 6, prefixes: readonly Cidr[]): readonly string[] {
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

/** Returns the parts of an element that joins several fields; none if it does not. */
function partsOf(row: unknown): readonly unknown[] {
  const parts: unknown = asRecord(keyOfRow(row))['concat']
  return Array.isArray(parts) ? parts : []
}

/** Returns the source and the endpoint of an element; undefined if another program wrote it in another form. */
function sourceEndpointOf(row: unknown): SourceEndpoint | undefined {
  const [source, ...endpoint] = partsOf(row)
  const [prefix, reached] = [prefixOf(source), endpointIn(endpoint)]
  return prefix === undefined || reached === undefined ? undefined : `${prefix} ${reached}`
}

/** Returns the endpoint of an element of nft; undefined if another program wrote it in another form. */
function endpointOf(row: unknown): HostEndpoint | undefined {
  return endpointIn(partsOf(row))
}

function endpointIn([address, number, port]: readonly unknown[]): HostEndpoint | undefined {
  const [ip, protocol] = [typeof address === 'string' ? parseIp(address) : undefined, PROTOCOLS.get(number)]
  return ip === undefined || protocol === undefined || typeof port !== 'number'
    ? undefined
    : `${ip} ${protocol} ${port}`
}

/** Returns the two prefixes of an element of a map; undefined if another program wrote it in another form. */
function pairOf(row: unknown): readonly [Cidr, Cidr] | undefined {
  const [virtual, real] = Array.isArray(row) ? row.map(prefixOf) : []
  return virtual === undefined || real === undefined ? undefined : [virtual, real]
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
