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
// Everything else: `forward`. `clusterset.local` will be one more case of `zoneOf`.
//
// Before a catalogue is complete, SERVFAIL: for its whole zone; in `cluster.all`, for names that no complete cluster has (a name
// that one has is answered, with what is there), and for all names while no cluster is complete.
import type { ClusterName, Ip } from '../model.ts'
import type { ClusterView, MeshView } from '../view.ts'
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
  ReverseIndex,
  reverseZone,
  type Prefix
} from './reverse.ts'
import { clusterZone, lookup, soaOf, type Zone } from './zone.ts'

export interface NamesOptions {
  readonly view: MeshView
  /** Read once per cluster, here: make new Names when it changes. Absent: none is withdrawn. */
  readonly withdrawn?: (cluster: ClusterName) => boolean
  /** Addresses of `ns.dns.<zone>`, that is of this responder. */
  readonly serverAddresses?: readonly Ip[]
  /** Of the SOA; any number that grows with the view. */
  readonly serial?: number
  /** The Names of the view before, whose reverse index is carried on. */
  readonly previous?: Names | undefined
}

/** A value of one view: the same question has the same answer for as long as it lives. */
export interface Names {
  answer(question: Question): Reply
  zones(): readonly ZoneSummary[]
  /** For the Names that follow. */
  readonly reverse: ReadonlyMap<ClusterName, ReverseIndex>
}

export interface ZoneSummary {
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
    clusters.map(({ name }) => [name, previous?.reverse.get(name) ?? new ReverseIndex()])
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
  zones.set(ALL, { ...served, origin: ALL, label: ALL, sources: complete, certain })

  return {
    reverse,

    answer(question) {
      const labels = labelsOf(question.name)
      if (labels === undefined) return FORWARD
      const zone = zoneOf(labels)
      if (zone !== undefined) return resolve(zone, labels, question)
      return answerReverse(labels, question)
    },

    zones: () =>
      Array.from(zones.values(), ({ origin, sources }) => ({
        zone: origin,
        state: sources.length > 0 ? 'serving' : 'not synced',
        names: sources.reduce((sum, { services }) => sum + services.size, 0)
      }))
  }

  function zoneOf(labels: readonly string[]): Zone | undefined {
    const origin = labels.slice(-2).join('.')
    const zone = zones.get(origin)
    if (zone !== undefined) return zone
    if (origin === 'cluster.local' || labels.at(-2) !== 'cluster' || labels.at(-3) !== 'svc') return undefined
    return { ...served, origin, label: 'unknown', sources: [], certain: anyComplete }
  }

  /** Follows aliases for as long as they stay inside our zones. The rcode is that of the last name (RFC 6604). */
  function resolve(first: Zone, firstLabels: readonly string[], question: Question): Answer {
    const answers: DnsRecord[] = []
    let zone: Zone | undefined = first
    let labels: readonly string[] | undefined = firstLabels
    let name = question.name
    for (let hop = 0; hop < ALIAS_HOPS; hop++) {
      const found = lookup(zone, labels.slice(0, -2), { name, type: question.type })
      if (found.kind === 'absent') {
        return zone.certain ? negative(zone, 'NXDOMAIN', answers) : failure(zone)
      }
      if (found.kind === 'records') {
        answers.push(...found.answers)
        if (found.answers.length === 0) return negative(zone, 'NOERROR', answers)
        return { ...positive(first, answers), additionals: found.additionals }
      }
      answers.push({ name, type: 'CNAME', ttl: TTL, data: found.target })
      if (question.type === 'CNAME' || question.type === 'ANY') return positive(first, answers)
      name = found.target
      labels = labelsOf(name)
      zone = labels === undefined ? undefined : zoneOf(labels)
      if (zone === undefined || labels === undefined)
        return { ...positive(first, answers), externalTarget: name }
    }
    return failure(first)
  }

  function answerReverse(labels: readonly string[], question: Question): Reply {
    const asked = parseReverse(labels)
    if (asked === undefined) return FORWARD
    for (const cluster of clusters) {
      const prefix = prefixesOf(cluster).find((candidate) => contains(candidate, asked))
      if (prefix === undefined) continue
      const origin = reverseZone(prefix)
      const zone: Zone = {
        ...served,
        origin,
        label: 'reverse',
        sources: [cluster],
        certain: cluster.complete
      }
      if (!cluster.complete) return failure(zone)
      // A name above the addresses: it has names below it, and no record.
      if (asked.bits < asked.bytes.length * 8) return negative(zone, 'NOERROR', [])
      const address = addressOf(asked)
      const domains = address === undefined ? [] : (reverse.get(cluster.name)?.lookup(cluster, address) ?? [])
      if (domains.length === 0) return negative(zone, 'NXDOMAIN', [])
      if (question.type !== 'PTR' && question.type !== 'ANY') return negative(zone, 'NOERROR', [])
      return positive(
        zone,
        domains.map((data) => ({ name: question.name, type: 'PTR', ttl: TTL, data }))
      )
    }
    return FORWARD
  }
}

const ALL = 'cluster.all'
const FORWARD: Reply = { kind: 'forward' }
/** Aliases in a row: as many as CoreDNS follows; a loop ends here, with SERVFAIL. */
const ALIAS_HOPS = 8

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

function negative(zone: Zone, rcode: 'NOERROR' | 'NXDOMAIN', answers: readonly DnsRecord[]): Answer {
  return { ...positive(zone, answers), rcode, authority: [soaOf(zone)] }
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
