// The function from a question to an answer of the mesh's DNS. The responder (through fed-names.ts) and the admin API
// answer with it, and its zones are those that the cluster's own DNS forwards. Names that are answered with
// authority:
// - `cluster.<name>` for every cluster of the view. A withdrawn cluster keeps its zone: its addresses are stable, and
//   the load balancer refuses connections to them at once. A missing name would instead stay in caches for a TTL.
// - `cluster.all`: the merged answers of every cluster that is not withdrawn.
// - `clusterset.local`: the services that ServiceExports export.
// - `svc.cluster.<x>` and below for an x that is no cluster: NXDOMAIN, for five seconds. If the question were
//   forwarded, the denial by the root servers would outlive the moment when x joins. Other names below `cluster.<x>`
//   are forwarded, because `cluster.com` is a registered domain (docs/decisions/0002). So are all names of
//   `cluster.local`, which belong to Kubernetes.
// - reverse names inside the prefixes of the mesh.
//
// All other names get the reply `forward`.
// Before a catalogue is complete the answer is SERVFAIL: in the cluster's own zone for all names; in `cluster.all`
// for names that no complete cluster has, and for all names while no cluster is complete.
import type { ClusterName, Ip } from '../model/values.ts'
import { CLUSTERSET_ZONE, clusterZone, isClusterZone, MERGED_ZONES } from '../model/zones.ts'
import { exportedKeys } from '../view/clusterset.ts'
import type { ClusterView, MeshView } from '../view/view.ts'
import {
  labelsOf,
  TTL,
  type Answer,
  type DnsRecord,
  type DomainName,
  type Question,
  type Reply
} from './record.ts'
import {
  addressOf,
  contains,
  parsePrefix,
  parseReverse,
  reverseZone,
  zoneWithin,
  type Prefix
} from './arpa.ts'
import { ReverseIndex, type ReverseLookup } from './reverse.ts'
import { lookup, soaOf, type Zone } from './zone.ts'

interface NamesOptions {
  readonly view: MeshView
  /**
   * Whether a cluster is withdrawn; read once for each cluster, so make new Names when it changes. Absent: no cluster
   * is withdrawn.
   */
  readonly withdrawn?: (cluster: ClusterName) => boolean
  /** The addresses of this responder, for `ns.dns.<zone>`. Default: none. */
  readonly serverAddresses?: readonly Ip[]
  /** The one address in merged zones of each balanced service, by its key (view/balanced.ts). Default: none. */
  readonly balanced?: ReadonlyMap<string, Ip>
  /**
   * The services that a cluster exports to `clusterset.local`. Default: exportedKeys, for maps of services that never
   * change.
   */
  readonly exported?: (cluster: ClusterView) => ReadonlySet<string>
  /** The serial of the SOA: a number that grows with the view. Default: 1. */
  readonly serial?: number
  /** The Names of the view before, whose reverse index is continued. */
  readonly previous?: Pick<Names, 'reverse'> | undefined
}

/** The names of one view. The same question has the same answer for as long as the object lives. */
export interface Names {
  /** The reply to one question. It never throws, and answers a malformed name with `forward`. */
  answer(question: Question): Reply
  /** The zones with their state, for display and for forwarding rules. */
  zones(): readonly ZoneSummary[]
  /** The reverse index of each cluster, for the Names that follow. */
  readonly reverse: ReadonlyMap<ClusterName, ReverseLookup>
}

/** A zone for display. */
interface ZoneSummary {
  readonly zone: DomainName
  /** "not synced": no complete catalogue yet, so the zone answers SERVFAIL. */
  readonly state: 'serving' | 'not synced'
  /** The number of services. */
  readonly names: number
}

/**
 * Makes the names of a view. An answer takes constant time, except in `cluster.all` and for reverse names, which
 * check each cluster once. Sources: Kubernetes DNS-Based Service Discovery 1.1.0, RFC 1034.
 */
export function createNames(options: NamesOptions): Names {
  const { view, withdrawn = () => false, serverAddresses = [], balanced, serial = 1, previous } = options
  const { exported = ({ services }: ClusterView) => exportedKeys(services) } = options
  const clusters = [...view.clusters.values()]
  const reverse = new Map(
    clusters.map(({ name }): [ClusterName, ReverseLookup] => [
      name,
      previous?.reverse.get(name) ?? new ReverseIndex()
    ])
  )
  const served = { serverAddresses, serial }
  const anyComplete = clusters.some(({ complete }) => complete)
  const zones = new Map<DomainName, Zone>()
  for (const cluster of clusters) {
    const origin = clusterZone(cluster.name)
    zones.set(origin, {
      ...served,
      origin,
      label: origin,
      sources: [cluster].filter(isComplete),
      certain: cluster.complete
    })
  }
  const live = clusters.filter(({ name }) => !withdrawn(name))
  const complete = live.filter(isComplete)
  const certain = complete.length > 0 && complete.length === live.length
  const merged = { ...served, sources: complete, certain, balanced }
  for (const origin of MERGED_ZONES) zones.set(origin, { ...merged, origin, label: origin })
  zones.set(CLUSTERSET_ZONE, clustersetZone(merged, { clusters, withdrawn, exported }))

  return {
    reverse,

    answer: (question) => answerWithin(question, ALIAS_HOPS),

    zones: () =>
      Array.from(zones.values(), ({ origin, sources, exported: exports }) => ({
        zone: origin,
        state: sources.length > 0 ? 'serving' : 'not synced',
        names:
          exports === undefined
            ? sources.reduce((sum, { services }) => sum + services.size, 0)
            : new Set(exports.flatMap((source) => [...source.exported])).size
      }))
  }

  /** Answers a question that may follow `hops` more aliases. */
  function answerWithin(question: Question, hops: number): Reply {
    const labels = labelsOf(question.name)
    if (labels === undefined) return FORWARD
    const zone = zones.get(labels.slice(-2).join('.'))
    if (zone !== undefined) return resolve(zone, labels.slice(0, -2), question, hops)
    const unknown = unknownZone(labels)
    if (unknown !== undefined) return absence(unknown)
    return answerReverse(labels, question)
  }

  /** The zone of a cluster that is not in the mesh, for names at and below `svc`; undefined for all other names. */
  function unknownZone(labels: readonly string[]): Zone | undefined {
    const origin = labels.slice(-2).join('.')
    if (!isClusterZone(origin) || labels.at(-3) !== 'svc') return undefined
    return { ...served, origin, label: 'unknown', sources: [], certain: anyComplete }
  }

  /** The answer in a zone. `labels` are those left of the zone's origin. */
  function resolve(zone: Zone, labels: readonly string[], question: Question, hops: number): Answer {
    const found = lookup(zone, labels, question)
    switch (found.kind) {
      case 'absent':
        return absence(zone)
      case 'records':
        if (found.answers.length === 0) return negative(zone, 'NOERROR')
        return { ...positive(zone, found.answers), additionals: found.additionals }
      case 'alias': {
        const alias = cname(question.name, found.target)
        return question.type === 'CNAME' ? positive(zone, [alias]) : follow(zone, alias, question.type, hops)
      }
      default:
        return found satisfies never
    }
  }

  /**
   * Follows an alias as CoreDNS does. An alias to a name of the same zone without such records gives NODATA. An alias
   * that leaves the zone is shown, with the records at its end, if any.
   */
  function follow(zone: Zone, alias: Alias, type: string, hops: number): Answer {
    if (hops === 0) return negative(zone, 'NOERROR')
    const target: Question = { name: alias.data, type }
    const next = answerWithin(target, hops - 1)
    if (next.kind === 'forward') return { ...positive(zone, [alias]), externalTarget: target.name }
    // The target's catalogue is not complete. An answer with half of the records would stay in caches.
    if (next.rcode === 'SERVFAIL') return failure(zone)
    if (next.answers.length === 0 && isWithin(zone, target.name)) return negative(zone, 'NOERROR')
    return { ...positive(zone, [alias, ...next.answers]), externalTarget: next.externalTarget }
  }

  /** The answer to a reverse name inside a prefix of a cluster; `forward` outside. */
  function answerReverse(labels: readonly string[], question: Question): Reply {
    const asked = parseReverse(labels)
    if (asked === undefined) return FORWARD
    for (const cluster of clusters) {
      const prefix = prefixesOf(cluster).find((candidate) => contains(candidate, asked))
      if (prefix === undefined) continue
      const origin = reverseZone(zoneWithin(prefix, asked))
      const zone: Zone = { ...served, origin, label: 'reverse', sources: [], certain: cluster.complete }
      if (!cluster.complete) return failure(zone)
      const isAddress = asked.rest === 0 && asked.bits === asked.bytes.length * 8
      if (question.type !== 'PTR' || !isAddress) {
        return resolve(zone, labels.slice(0, -origin.split('.').length), question, 0)
      }
      const address = addressOf(asked)
      const domains = address === undefined ? [] : (reverse.get(cluster.name)?.lookup(cluster, address) ?? [])
      if (domains.length === 0) return negative(zone, 'NXDOMAIN')
      return positive(
        zone,
        domains.map((data) => ({ name: question.name, type: 'PTR', ttl: TTL, data }))
      )
    }
    return FORWARD
  }
}

/**
 * The zone of ServiceExports. Exports count while their cluster is withdrawn, too: type and ports of a service must not
 * depend on tunnels.
 */
function clustersetZone(
  merged: Pick<Zone, 'balanced' | 'serverAddresses' | 'serial'>,
  {
    clusters,
    withdrawn,
    exported
  }: {
    readonly clusters: readonly ClusterView[]
    readonly withdrawn: (cluster: ClusterName) => boolean
    readonly exported: (cluster: ClusterView) => ReadonlySet<string>
  }
): Zone {
  const sources = clusters.filter(isComplete)
  return {
    ...merged,
    origin: CLUSTERSET_ZONE,
    label: CLUSTERSET_ZONE,
    sources,
    certain: sources.length > 0 && clusters.every(({ name, complete }) => complete || withdrawn(name)),
    exported: sources.map((cluster) => ({
      name: cluster.name,
      services: cluster.services,
      exported: exported(cluster),
      isWithdrawn: withdrawn(cluster.name)
    }))
  }
}

const FORWARD: Reply = { kind: 'forward' }
/**
 * The number of aliases in a row that are followed, as in one zone of CoreDNS 1.15. A loop ends here, with NODATA.
 */
const ALIAS_HOPS = 11

type Alias = Extract<DnsRecord, { readonly type: 'CNAME' | 'NS' | 'PTR' }>

function cname(name: DomainName, data: DomainName): Alias {
  return { name, type: 'CNAME', ttl: TTL, data }
}

function isWithin({ origin }: Zone, name: DomainName): boolean {
  const lower = name.toLowerCase()
  return lower === origin || lower.endsWith(`.${origin}`)
}

/** The answer SERVFAIL without records. The functions below copy it and set the fields that differ. */
function failure({ label }: Zone): Answer {
  return {
    kind: 'answer',
    zone: label,
    rcode: 'SERVFAIL',
    authoritative: false,
    answers: [],
    authority: [],
    additionals: [],
    externalTarget: undefined
  }
}

/** NOERROR with these records. */
function positive(zone: Zone, answers: readonly DnsRecord[]): Answer {
  return { ...failure(zone), rcode: 'NOERROR', authoritative: true, answers }
}

/** NODATA or NXDOMAIN, with the SOA that bounds how long it is cached (RFC 2308). */
function negative(zone: Zone, rcode: 'NOERROR' | 'NXDOMAIN'): Answer {
  return { ...positive(zone, []), rcode, authority: [soaOf(zone)] }
}

/**
 * The answer for a name that the zone does not have: NXDOMAIN, or SERVFAIL while a catalogue is incomplete and may
 * still bring the name.
 */
function absence(zone: Zone): Answer {
  return zone.certain ? negative(zone, 'NXDOMAIN') : failure(zone)
}

function isComplete(cluster: ClusterView): boolean {
  return cluster.complete
}

// The parsed prefixes of each cluster, by the identity of its view.
const prefixes = new WeakMap<ClusterView, readonly Prefix[]>()

function prefixesOf(cluster: ClusterView): readonly Prefix[] {
  let parsed = prefixes.get(cluster)
  if (parsed === undefined) {
    parsed = [...cluster.servicePrefixes, ...cluster.podPrefixes].map(parsePrefix)
    prefixes.set(cluster, parsed)
  }
  return parsed
}
