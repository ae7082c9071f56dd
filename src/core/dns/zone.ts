// One zone: `cluster.<name>` (one source) or `cluster.all` (every cluster that is alive). Both answer by the same rules.
//
// Which names exist, and for which types, is what CoreDNS 1.15's kubernetes plugin says, so that a cluster gets the same answers
// whoever gives them. Four of its ways look odd and are meant: an empty non-terminal is NODATA, but TXT of it is NXDOMAIN;
// "_tcp.web.shop.svc…" is NXDOMAIN; "_http._tcp.web.shop.svc…" has addresses beside its SRV; SOA below the apex is NODATA.
import type { ClusterName, Ip } from '../model/values.ts'
import { SortedMap } from '../model/sorted-map.ts'
import { serviceDomain } from '../model/zones.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import { addressRecord, familyOf, TTL, VERSION_TTL, type DnsRecord, type DomainName } from './record.ts'
import { endpointNames, portTargets, serviceNames, type Target } from './service-names.ts'

export interface Zone {
  readonly origin: DomainName
  /** Answer.zone */
  readonly label: string
  /** Clusters whose catalogue is complete: an incomplete one says nothing, as half an answer looks like a whole one. */
  readonly sources: readonly ClusterView[]
  /** False: an absent name may yet appear with the rest of a catalogue, so SERVFAIL instead of NXDOMAIN. */
  readonly certain: boolean
  readonly serverAddresses: readonly Ip[]
  readonly serial: number
}

/** `records` without answers is NODATA. */
type Found =
  | {
      readonly kind: 'records'
      readonly answers: readonly DnsRecord[]
      readonly additionals: readonly DnsRecord[]
    }
  | { readonly kind: 'alias'; readonly target: DomainName }
  | { readonly kind: 'absent' }

/** `labels` are those of `question.name` left of the zone's origin, lower case. */
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
  const node = find(zone.sources, labels)
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

/** The record of authority that goes with a negative answer (RFC 2308). */
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

const ABSENT: Found = { kind: 'absent' }
const NODATA: Found = { kind: 'records', answers: [], additionals: [] }

function records(answers: readonly DnsRecord[], additionals: readonly DnsRecord[] = []): Found {
  return { kind: 'records', answers, additionals }
}

/** What stands at a name, whatever the type asked. */
type Node =
  | { readonly kind: 'absent' }
  /** No records, but names below it. */
  | { readonly kind: 'empty' }
  | { readonly kind: 'alias'; readonly target: DomainName }
  | { readonly kind: 'targets'; readonly held: readonly HolderTargets[] }

interface HolderTargets {
  readonly cluster: ClusterName
  readonly service: ServiceView
  readonly targets: readonly Target[]
}

function find(sources: readonly ClusterView[], labels: readonly string[]): Node {
  const [below, namespace, service, ...left] = labels.toReversed()
  // Names of pods by their address are no part of the mesh.
  if (below === 'pod') return namespace === undefined ? { kind: 'empty' } : { kind: 'absent' }
  if (below !== 'svc') return { kind: 'absent' }
  if (namespace === undefined) return { kind: 'empty' }
  if (service === undefined) {
    const exists = sources.some((source) => hasNamespace(source, namespace))
    return exists ? { kind: 'empty' } : { kind: 'absent' }
  }
  const key = `${namespace}/${service}`
  const [first, second] = left
  if (first === undefined) return serviceNode(sources, key)
  if (second === undefined) return targetsNode(sources, key, (view) => endpointNames(view).get(first))
  if (left.length > 2) return { kind: 'absent' }
  // Underscores are optional in the plugin, and one alone stands for any port or protocol.
  const [port, protocol] = [second.replace(/^_/, ''), first.replace(/^_/, '')]
  if (port === '' && protocol === '') return serviceNode(sources, key)
  return targetsNode(sources, key, (view) => portTargets(view, port, protocol))
}

/** A CNAME bears no other record beside it: addresses win over aliases, and of several aliases the first cluster's. */
function serviceNode(sources: readonly ClusterView[], key: string): Node {
  let alias: DomainName | undefined
  const node = targetsNode(sources, key, (view) => {
    const names = serviceNames(view)
    if (names.kind === 'alias') alias ??= names.target
    return names.kind === 'targets' ? names.targets : undefined
  })
  return node.kind === 'absent' && alias !== undefined ? { kind: 'alias', target: alias } : node
}

/** `targetsOf`: undefined where a cluster's service has no such name. */
function targetsNode(
  sources: readonly ClusterView[],
  key: string,
  targetsOf: (view: ServiceView) => readonly Target[] | undefined
): Node {
  const held: HolderTargets[] = []
  for (const { name, services } of sources) {
    const service = services.get(key)
    const targets = service && targetsOf(service)
    if (service !== undefined && targets !== undefined) held.push({ cluster: name, service, targets })
  }
  return held.length === 0 ? { kind: 'absent' } : { kind: 'targets', held }
}

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

/** Targets are names in the zone of their own cluster, so that those of `cluster.all` resolve to one cluster each. */
function srvRecords(held: readonly HolderTargets[], name: DomainName): Found {
  const answers = new Map<string, DnsRecord>()
  const additionals = new Map<string, DnsRecord>()
  const total = held.reduce((sum, { targets }) => sum + targets.length, 0)
  const weight = Math.max(1, Math.floor(100 / Math.max(1, total)))
  for (const { cluster, service, targets } of held) {
    const domain = serviceDomain(cluster, service.service)
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

function apex(zone: Zone, { name, type }: { name: DomainName; type: string }): Found {
  switch (type) {
    case 'SOA':
      return records([{ ...soaOf(zone), name }])
    case 'NS': {
      // A name server without an address would be of no use to anybody.
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

function version(name: DomainName): Found {
  return records([{ name, type: 'TXT', ttl: VERSION_TTL, data: ['1.1.0'] }])
}

function isNameServer(labels: readonly string[]): boolean {
  return labels.length === 2 && labels[0] === 'ns' && labels[1] === 'dns'
}

function nameServer(zone: Zone, { name, type }: { name: DomainName; type: string }): Found {
  const wanted = zone.serverAddresses.filter((address) => familyOf(address) === type)
  return records(wanted.map((address) => addressRecord(name, address)))
}

function nameServerOf(zone: Zone): DomainName {
  return `ns.dns.${zone.origin}`
}

const namespaces = new WeakMap<ReadonlyMap<string, ServiceView>, ReadonlySet<string>>()

/** A namespace exists in DNS when it has a service. */
function hasNamespace({ services }: ClusterView, namespace: string): boolean {
  const start = `${namespace}/`
  if (services instanceof SortedMap) return services.keyFrom(start)?.startsWith(start) ?? false
  let set = namespaces.get(services)
  if (set === undefined) {
    set = new Set(Array.from(services.values(), ({ service }) => service.namespace))
    namespaces.set(services, set)
  }
  return set.has(namespace)
}
