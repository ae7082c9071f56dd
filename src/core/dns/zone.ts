// One zone: `cluster.<name>` with one source, or `cluster.all` with every cluster that is not withdrawn. Both answer
// by the same rules; `clusterset.local` has other names (clusterset-names.ts) and the same records.
// Which names exist, and with which types, is the same as in CoreDNS 1.15's kubernetes plugin, so that pods get the
// same answer from both (docs/decisions/0009). Four rules look odd and are intended: an empty non-terminal is NODATA,
// but TXT there is NXDOMAIN; "_tcp.web.shop.svc…" is NXDOMAIN; "_http._tcp.web.shop.svc…" has addresses beside its
// SRV; SOA below the apex is NODATA.
import type { ClusterName, Ip } from '../model/values.ts'
import { SortedMap } from '../model/sorted-map.ts'
import { mergedService } from '../view/balanced.ts'
import type { ClusterView } from '../view/view.ts'
import { findExported, type ExportedSource } from './clusterset-names.ts'
import { serviceNode, targetsNode, type HolderTargets, type Node, type Services } from './node.ts'
import { addressRecord, familyOf, TTL, VERSION_TTL, type DnsRecord, type DomainName } from './record.ts'
import { endpointNames, portTargets } from './service-names.ts'

/** A zone and the clusters that it is answered from. */
export interface Zone {
  readonly origin: DomainName
  /** The label for metrics in every answer of this zone (Answer.zone). */
  readonly label: string
  /**
   * Clusters with a complete catalogue. An incomplete one is left out, because half an answer looks like a whole one.
   */
  readonly sources: readonly ClusterView[]
  /** In a merged zone: the one address of each balanced service, by its key (view/balanced.ts). */
  readonly balanced?: ReadonlyMap<string, Ip> | undefined
  /** In `clusterset.local`: the sources with what they export. Only these names exist then. */
  readonly exported?: readonly ExportedSource[]
  /**
   * False: an absent name may still appear with the rest of a catalogue, so the answer is SERVFAIL instead of
   * NXDOMAIN.
   */
  readonly certain: boolean
  readonly serverAddresses: readonly Ip[]
  readonly serial: number
}

/** What a zone has for a question. `records` without answers means NODATA. */
type Found =
  | {
      readonly kind: 'records'
      readonly answers: readonly DnsRecord[]
      readonly additionals: readonly DnsRecord[]
    }
  | { readonly kind: 'alias'; readonly target: DomainName }
  | { readonly kind: 'absent' }

/** Looks a name up. `labels` are the labels of `question.name` left of the zone's origin, in lower case. */
export function lookup(
  zone: Zone,
  labels: readonly string[],
  question: { readonly name: DomainName; readonly type: string }
): Found {
  const { name, type } = question
  if (labels.length === 0) return apex(zone, question)
  if (type === 'TXT' && labels.length === 1 && labels[0] === 'dns-version') return version(name)
  if (isNameServer(labels) && type !== 'TXT' && type !== 'PTR') return nameServer(zone, question)
  if (zone.sources.length === 0 && !zone.certain) return ABSENT
  if (type === 'SOA') return NODATA
  const node = find(zone, labels)
  switch (node.kind) {
    case 'absent':
      return ABSENT
    case 'empty':
      return type === 'TXT' ? ABSENT : NODATA
    case 'alias':
      return type === 'A' || type === 'AAAA' || type === 'CNAME' ? node : NODATA
    case 'targets':
      return ofTargets(node.held, question)
    default:
      return node satisfies never
  }
}

/** The SOA record, which goes into the authority section of a negative answer (RFC 2308). */
export function soaOf(zone: Zone): DnsRecord {
  return {
    name: zone.origin,
    type: 'SOA',
    ttl: TTL,
    data: {
      mname: nameServerOf(zone),
      rname: `hostmaster.${zone.origin}`,
      serial: zone.serial,
      refresh: 7200,
      retry: 1800,
      expire: 86400,
      minimum: TTL
    }
  }
}

const NO_ADDRESSES: ReadonlyMap<string, Ip> = new Map()
const ABSENT: Found = { kind: 'absent' }
const NODATA: Found = { kind: 'records', answers: [], additionals: [] }

function records(answers: readonly DnsRecord[], additionals: readonly DnsRecord[] = []): Found {
  return { kind: 'records', answers, additionals }
}

/** Returns what exists at a name, by the schema of DNS-Based Service Discovery. */
function find(zone: Zone, labels: readonly string[]): Node {
  const { sources, exported, balanced = NO_ADDRESSES } = zone
  if (exported !== undefined) return findExported({ sources: exported, addresses: balanced }, labels)
  const [below, namespace, service, ...left] = labels.toReversed()
  // Names of pods by their address ("10-1-2-3.shop.pod") do not exist in the mesh.
  if (below === 'pod') return namespace === undefined ? { kind: 'empty' } : { kind: 'absent' }
  if (below !== 'svc') return { kind: 'absent' }
  if (namespace === undefined) return { kind: 'empty' }
  if (service === undefined) {
    const exists = sources.some((source) => hasNamespace(source, namespace))
    return exists ? { kind: 'empty' } : { kind: 'absent' }
  }
  const key = `${namespace}/${service}`
  const [first, second] = left
  const own = balancedSource(zone, key) ?? sources
  if (first === undefined) return serviceNode(own, key)
  if (second === undefined) return targetsNode(sources, key, (view) => endpointNames(view).get(first))
  if (left.length > 2) return { kind: 'absent' }
  // CoreDNS's kubernetes plugin accepts port labels without underscores, and a single underscore stands for any port
  // or protocol.
  const [port, protocol] = [second.replace(/^_/, ''), first.replace(/^_/, '')]
  if (port === '' && protocol === '') return serviceNode(own, key)
  return targetsNode(own, key, (view) => portTargets(view, port, protocol))
}

/**
 * A service that a policy balances has one address in a merged zone, that of the load balancer, and its SRV records
 * point to its name there. The names of its endpoints stay those of their clusters. Returns undefined for other services.
 */
function balancedSource({ origin, sources, balanced }: Zone, key: string): readonly Services[] | undefined {
  const address = balanced?.get(key)
  if (address === undefined) return undefined
  const [first, ...others] = sources.flatMap(({ name, services }) => {
    const view = services.get(key)
    return view === undefined || view.service.clusterIps.length === 0 ? [] : [{ cluster: name, view }]
  })
  if (first === undefined) return undefined
  const service = mergedService([first, ...others], address)
  const name = origin.slice(origin.indexOf('.') + 1) as ClusterName
  return [{ name, services: new Map([[key, { service, slices: [] }]]) }]
}

/** The records of one type from the targets at a name. */
function ofTargets(
  held: readonly HolderTargets[],
  { name, type }: { name: DomainName; type: string }
): Found {
  switch (type) {
    case 'A':
    case 'AAAA': {
      const addresses = new Set<Ip>()
      for (const { targets } of held) {
        for (const { address } of targets) if (familyOf(address) === type) addresses.add(address)
      }
      return records(Array.from(addresses, (address) => addressRecord(name, address)))
    }
    case 'SRV':
      return srvRecords(held, name)
    case 'TXT':
      return held.some(({ targets }) => targets.length > 0) ? NODATA : ABSENT
    default:
      return NODATA
  }
}

/**
 * SRV records with their addresses as additionals. The targets in `cluster.all` are names in the zones of the clusters,
 * so they resolve to one cluster each.
 */
function srvRecords(held: readonly HolderTargets[], name: DomainName): Found {
  const answers = new Map<string, DnsRecord>()
  const additionals = new Map<string, DnsRecord>()
  const total = held.reduce((sum, { targets }) => sum + targets.length, 0)
  const weight = Math.max(1, Math.floor(100 / Math.max(1, total)))
  for (const { domain, targets } of held) {
    for (const { label, address, port } of targets) {
      if (port === undefined) continue
      const target = label === '' ? domain : `${label}.${domain}`
      answers.set(`${target} ${port}`, {
        name,
        type: 'SRV',
        ttl: TTL,
        data: { priority: 0, weight, port, target }
      })
      additionals.set(`${target} ${address}`, addressRecord(target, address))
    }
  }
  return records([...answers.values()], [...additionals.values()])
}

/** The records of the zone's own name. */
function apex(zone: Zone, { name, type }: { name: DomainName; type: string }): Found {
  switch (type) {
    case 'SOA':
      return records([{ ...soaOf(zone), name }])
    case 'NS': {
      // Without an address for the name server, resolvers could not use the NS record.
      if (zone.serverAddresses.length === 0) return NODATA
      const server = nameServerOf(zone)
      const glue = zone.serverAddresses.map((address) => addressRecord(server, address))
      return records([{ name, type: 'NS', ttl: TTL, data: server }], glue)
    }
    case 'TXT':
      return ABSENT
    default:
      return NODATA
  }
}

/** The record `dns-version` of the specification. */
function version(name: DomainName): Found {
  return records([{ name, type: 'TXT', ttl: VERSION_TTL, data: ['1.1.0'] }])
}

function isNameServer(labels: readonly string[]): boolean {
  return labels.length === 2 && labels[0] === 'ns' && labels[1] === 'dns'
}

/** The addresses of `ns.dns.<zone>`. */
function nameServer(zone: Zone, { name, type }: { name: DomainName; type: string }): Found {
  const wanted = zone.serverAddresses.filter((address) => familyOf(address) === type)
  return records(wanted.map((address) => addressRecord(name, address)))
}

function nameServerOf(zone: Zone): DomainName {
  return `ns.dns.${zone.origin}`
}

// The namespaces of maps that cannot be searched by prefix, by the identity of the view: such a map may be edited in place, and
// FedNames then replaces the view when a namespace appears or goes.
const namespaces = new WeakMap<object, ReadonlySet<string>>()

/** Whether a namespace exists in DNS: it does when it has a service. */
function hasNamespace(view: ClusterView, namespace: string): boolean {
  const { services } = view
  const start = `${namespace}/`
  if (services instanceof SortedMap) return services.keyFrom(start)?.startsWith(start) ?? false
  let set = namespaces.get(view)
  if (set === undefined) {
    set = new Set(Array.from(services.values(), ({ service }) => service.namespace))
    namespaces.set(view, set)
  }
  return set.has(namespace)
}
