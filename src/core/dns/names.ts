// The name function: what the mesh's DNS says to a question. Every DNS feed answers from here.
//
// Ours, and answered with authority:
// - `cluster.<name>` for every cluster of the view. A withdrawn (dead) cluster keeps its zone: its addresses are stable and
//   its backends are withdrawn by the load balancer, so a connection is refused at once instead of a name lost for a TTL.
// - `cluster.all`: the merged answers of every cluster that is not withdrawn.
// - `svc.cluster.<x>` and below for an x that is no cluster: NXDOMAIN, kept for five seconds. Forwarded, the root servers' denial
//   would outlive the moment when x joins. The rest of `cluster.<x>` is forwarded: `cluster.com` is somebody's. So is all
//   of `cluster.local`, which is Kubernetes' own.
// - reverse names inside the prefixes of the mesh.
// Everything else: `forward`. `clusterset.local` will be one more zone.
//
// Before a catalogue is complete, SERVFAIL: for its whole zone; in `cluster.all`, for names that no complete cluster has (a name
// that one has is answered, with what is there), and for all names while no cluster is complete.
import type { ClusterName, Ip } from '../model/values.ts'
import { clusterZone, isClusterZone, MERGED_ZONES } from '../model/zones.ts'
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
  /** Read once per cluster, here: make new Names when it changes. Absent: none is withdrawn. */
  readonly withdrawn?: (cluster: ClusterName) => boolean
  /** Addresses of `ns.dns.<zone>`, that is of this responder. */
  readonly serverAddresses?: readonly Ip[]
  /** Of the SOA; any number that grows with the view. */
  readonly serial?: number
  /** The Names of the view before, whose reverse index is carried on. */
  readonly previous?: Pick<Names, 'reverse'> | undefined
}

/** A value of one view: the same question has the same answer for as long as it lives. */
export interface Names {
  answer(question: Question): Reply
  zones(): readonly ZoneSummary[]
  /** For the Names that follow. */
  readonly reverse: ReadonlyMap<ClusterName, ReverseLookup>
}

interface ZoneSummary {
  readonly zone: DomainName
  readonly state: 'serving' | 'not synced'
  /** Services. */
  readonly names: number
}

/** Constant time but for `cluster.all` and reverse names, which look at each cluster once. Source: DNS-SD 1.1.0, RFC 1034. */
export function createNames(options: NamesOptions): Names {
  const { view, withdrawn = () => false, serverAddresses = [], serial = 1, previous } = options
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
  for (const origin of MERGED_ZONES)
    zones.set(origin, { ...served, origin, label: origin, sources: complete, certain })

  return {
    reverse,

    answer: (question) => answerWithin(question, ALIAS_HOPS),

    zones: () =>
      Array.from(zones.values(), ({ origin, sources }) => ({
        zone: origin,
        state: sources.length > 0 ? 'serving' : 'not synced',
        names: sources.reduce((sum, { services }) => sum + services.size, 0)
      }))
  }

  /** `hops`: how many aliases may still be followed. */
  function answerWithin(question: Question, hops: number): Reply {
    const labels = labelsOf(question.name)
    if (labels === undefined) return FORWARD
    const zone = zones.get(labels.slice(-2).join('.'))
    if (zone !== undefined) return resolve(zone, labels.slice(0, -2), question, hops)
    const unknown = unknownZone(labels)
    if (unknown !== undefined) return absence(unknown)
    return answerReverse(labels, question)
  }

  function unknownZone(labels: readonly string[]): Zone | undefined {
    const origin = labels.slice(-2).join('.')
    if (!isClusterZone(origin) || labels.at(-3) !== 'svc') return undefined
    return { ...served, origin, label: 'unknown', sources: [], certain: anyComplete }
  }

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
   * As CoreDNS: an alias to a name of the same zone that has no such records is as if it were not there (NODATA); one that
   * leaves the zone is shown, with what there is at its end, be it nothing.
   */
  function follow(zone: Zone, alias: Alias, type: string, hops: number): Answer {
    if (hops === 0) return negative(zone, 'NOERROR')
    const target: Question = { name: alias.data, type }
    const next = answerWithin(target, hops - 1)
    if (next.kind === 'forward') return { ...positive(zone, [alias]), externalTarget: target.name }
    // A catalogue that is not whole: half an answer would be kept.
    if (next.rcode === 'SERVFAIL') return failure(zone)
    if (next.answers.length === 0 && isWithin(zone, target.name)) return negative(zone, 'NOERROR')
    return { ...positive(zone, [alias, ...next.answers]), externalTarget: next.externalTarget }
  }

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

const FORWARD: Reply = { kind: 'forward' }
/** Aliases in a row: as many as CoreDNS 1.15 follows in one zone. A loop ends here. */
const ALIAS_HOPS = 11

type Alias = Extract<DnsRecord, { readonly type: 'CNAME' | 'NS' | 'PTR' }>

function cname(name: DomainName, data: DomainName): Alias {
  return { name, type: 'CNAME', ttl: TTL, data }
}

function isWithin({ origin }: Zone, name: DomainName): boolean {
  const lower = name.toLowerCase()
  return lower === origin || lower.endsWith(`.${origin}`)
}

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

function positive(zone: Zone, answers: readonly DnsRecord[]): Answer {
  return { ...failure(zone), rcode: 'NOERROR', authoritative: true, answers }
}

function negative(zone: Zone, rcode: 'NOERROR' | 'NXDOMAIN'): Answer {
  return { ...positive(zone, []), rcode, authority: [soaOf(zone)] }
}

function absence(zone: Zone): Answer {
  return zone.certain ? negative(zone, 'NXDOMAIN') : failure(zone)
}

function isComplete(cluster: ClusterView): boolean {
  return cluster.complete
}

const prefixes = new WeakMap<ClusterView, readonly Prefix[]>()

function prefixesOf(cluster: ClusterView): readonly Prefix[] {
  let parsed = prefixes.get(cluster)
  if (parsed === undefined) {
    parsed = [...cluster.servicePrefixes, ...cluster.podPrefixes].map(parsePrefix)
    prefixes.set(cluster, parsed)
  }
  return parsed
}
