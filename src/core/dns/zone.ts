// One zone: `cluster.<name>` (one source) or `cluster.all` (every cluster that is alive). Both answer by the same rules.
//
// NODATA against NXDOMAIN follows the tables of CoreDNS's kubernetes plugin, but for two names that it denies and that have
// names below them: "_tcp.web.shop.svc…" is NODATA here, because a resolver that honours RFC 8020 takes NXDOMAIN for
// everything below; and TXT of an absent name is NXDOMAIN. Addresses exist at the service and at its endpoints,
// not at "_http._tcp.…", which the specification gives SRV records only.
import type { ClusterName, Ip } from '../model.ts'
import type { ClusterView, ServiceView } from '../view.ts'
import { addressRecord, familyOf, TTL, type DnsRecord, type DomainName } from './record.ts'
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
export type Found =
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
  const below = labels.at(-1)
  if (below === undefined) return apex(zone, question)
  if (labels.length === 1 && below === 'dns-version') return version(name, type)
  if (below === 'dns') return nameServer(zone, labels, question)
  if (zone.sources.length === 0) return ABSENT
  if (below === 'pod') return labels.length === 1 ? NODATA : ABSENT
  if (below !== 'svc') return ABSENT
  const namespace = labels.at(-2)
  if (namespace === undefined) return NODATA
  const service = labels.at(-3)
  if (service === undefined) return zone.sources.some((s) => namespacesOf(s).has(namespace)) ? NODATA : ABSENT

  const held = holders(zone.sources, `${namespace}/${service}`)
  switch (labels.length) {
    case 3:
      return ofService(held, question)
    case 4:
      return ofTargets(
        held.map((holder) => withTargets(holder, childTargets(holder.service, labels[0] ?? ''))),
        question
      )
    case 5: {
      const port = `${labels[0]}.${labels[1]}`
      const found = held.map((holder) => withTargets(holder, portTargets(holder.service).get(port)))
      if (found.every(({ targets }) => targets === undefined)) return ABSENT
      return type === 'SRV' || type === 'ANY' ? ofTargets(found, { name, type: 'SRV' }) : NODATA
    }
    default:
      return ABSENT
  }
}

/** The record of authority that goes with a negative answer (RFC 2308). */
export function soaOf(zone: Zone): DnsRecord {
  return {
    name: zone.origin,
    type: 'SOA',
    ttl: TTL,
    data: {
      mname: `ns.dns.${zone.origin}`,
      rname: `hostmaster.${zone.origin}`,
      serial: zone.serial,
      refresh: 7200,
      retry: 1800,
      expire: 86400,
      minimum: TTL
    }
  }
}

export function clusterZone(cluster: ClusterName): DomainName {
  return `cluster.${cluster}`
}

/** "web.shop.svc.cluster.east" */
export function serviceDomain(cluster: ClusterName, service: ServiceView['service']): DomainName {
  return `${service.name}.${service.namespace}.svc.${clusterZone(cluster)}`
}

const ABSENT: Found = { kind: 'absent' }
const NODATA: Found = { kind: 'records', answers: [], additionals: [] }

function records(answers: readonly DnsRecord[], additionals: readonly DnsRecord[] = []): Found {
  return { kind: 'records', answers, additionals }
}

interface Holder {
  readonly cluster: ClusterName
  readonly service: ServiceView
}

interface HolderTargets extends Holder {
  /** undefined: this cluster has no such name. */
  readonly targets: readonly Target[] | undefined
}

function withTargets({ cluster, service }: Holder, targets: readonly Target[] | undefined): HolderTargets {
  return { cluster, service, targets }
}

function holders(sources: readonly ClusterView[], key: string): readonly Holder[] {
  const held: Holder[] = []
  for (const { name, services } of sources) {
    const service = services.get(key)
    if (service !== undefined) held.push({ cluster: name, service })
  }
  return held
}

/** A CNAME bears no other record beside it: addresses win over aliases, and of several aliases the first cluster's. */
function ofService(held: readonly Holder[], question: { name: DomainName; type: string }): Found {
  const found: HolderTargets[] = []
  let alias: DomainName | undefined
  for (const holder of held) {
    const names = serviceNames(holder.service)
    if (names.kind === 'targets') found.push(withTargets(holder, names.targets))
    else if (names.kind === 'alias') alias ??= names.target
  }
  if (found.length === 0 && alias !== undefined) return { kind: 'alias', target: alias }
  return ofTargets(found, question)
}

/** Of the label right below a service: "_tcp" (an empty non-terminal: no targets), or an endpoint. */
function childTargets(service: ServiceView, label: string): readonly Target[] | undefined {
  return label.startsWith('_') ? portTargets(service).get(label) : endpointNames(service).get(label)
}

function ofTargets(
  held: readonly HolderTargets[],
  { name, type }: { name: DomainName; type: string }
): Found {
  const present = held.filter(({ targets }) => targets !== undefined)
  if (present.length === 0) return ABSENT
  switch (type) {
    case 'A':
    case 'AAAA':
    case 'ANY': {
      const addresses = new Set<Ip>()
      for (const { targets } of present) {
        for (const { address } of targets ?? []) {
          if (type === 'ANY' || familyOf(address) === type) addresses.add(address)
        }
      }
      return records(Array.from(addresses, (address) => addressRecord(name, address)))
    }
    case 'SRV':
      return srvRecords(present, name)
    default:
      return NODATA
  }
}

/** Targets are names in the zone of their own cluster, so that those of `cluster.all` resolve to one cluster each. */
function srvRecords(held: readonly HolderTargets[], name: DomainName): Found {
  const answers = new Map<string, DnsRecord>()
  const additionals = new Map<string, DnsRecord>()
  const total = held.reduce((sum, { targets }) => sum + (targets ?? []).length, 0)
  const weight = Math.max(1, Math.floor(100 / Math.max(1, total)))
  for (const { cluster, service, targets } of held) {
    const domain = serviceDomain(cluster, service.service)
    for (const { label, address, port } of targets ?? []) {
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
  const soa = { ...soaOf(zone), name }
  const server = `ns.dns.${zone.origin}`
  const ns: DnsRecord = { name, type: 'NS', ttl: TTL, data: server }
  const glue = zone.serverAddresses.map((address) => addressRecord(server, address))
  if (type === 'SOA') return records([soa])
  if (type === 'NS') return records([ns], glue)
  return type === 'ANY' ? records([soa, ns], glue) : NODATA
}

function version(name: DomainName, type: string): Found {
  if (type !== 'TXT' && type !== 'ANY') return NODATA
  return records([{ name, type: 'TXT', ttl: TTL, data: ['1.1.0'] }])
}

function nameServer(
  zone: Zone,
  labels: readonly string[],
  question: { name: DomainName; type: string }
): Found {
  if (labels.length === 1) return NODATA
  if (labels.length > 2 || labels[0] !== 'ns') return ABSENT
  const { name, type } = question
  const wanted = zone.serverAddresses.filter((address) => type === 'ANY' || familyOf(address) === type)
  return records(wanted.map((address) => addressRecord(name, address)))
}

const namespaces = new WeakMap<ClusterView, ReadonlySet<string>>()

/** A namespace exists in DNS when it has a service. */
function namespacesOf(cluster: ClusterView): ReadonlySet<string> {
  let set = namespaces.get(cluster)
  if (set === undefined) {
    set = new Set(Array.from(cluster.services.values(), ({ service }) => service.namespace))
    namespaces.set(cluster, set)
  }
  return set
}
