// This file builds the view from the replicated records: every claim is cut to its announcer's certificate (default
// deny).
// Invariants
//   1. The view depends on records and certificates alone, not on the order of arrival.
//   2. No prefix, tunnel address, service address or endpoint outside the certificate of its cluster is in a view,
//      and the prefixes of two clusters never overlap. Overlaps, names and keys are settled by certificate order
//      (trust/order.ts).
//   3. A cluster's catalogue comes from one origin at a time, its speaker: the origin with the highest term among
//      those whose catalogue is complete. So a change of speaker never shows an incomplete catalogue in place of a
//      complete one.
import { isWithin, type Prefixes, type ViewRecord } from './authorise.ts'
import type { Catalogue } from './catalogue.ts'
import { cidrIntersection, compareCidr } from '../model/cidr.ts'
import type { AgentValue, Cidr, ClusterName, ClusterValue, Origin } from '../model/values.ts'
import { compareKeys } from '../model/sorted-map.ts'
import type { Book } from '../trust/book.ts'
import { equalBytes } from '../model/bytes.ts'
import type { AgentChain } from '../trust/chain.ts'
import { type SettledCluster, compareCertificateOrder, unionOf } from '../trust/order.ts'
import { createCache, winnerOver, type Cache, type Member, type Sources } from './view-cache.ts'
import type { AgentView, ClusterView, MeshView, Refusal, ServiceView } from './view.ts'
import type { Conflict } from '../trust/order.ts'

/** Everything that a view is built from. */
export interface ViewInput {
  readonly self: ClusterName
  readonly selfOrigin: Origin
  /** Holds our own chain, too. */
  readonly book: Book
  /** The origins that have records. Origins that are not admitted are ignored. */
  readonly origins: Iterable<Origin>
  /** Live records of an origin. Asked twice for speakers. The same `value` object means the same value, for the cache. */
  readonly records: (origin: Origin) => Iterable<ViewRecord>
  /** The same object as long as the records of an origin are the same: they are not even looked at then. */
  readonly version?: (origin: Origin) => object | undefined
  /** The live record of an origin under this key. Without it, all are looked through. */
  readonly record?: (origin: Origin, key: string) => ViewRecord | undefined
  /** Keys whose records are not what they were at that version; undefined: any may be. */
  readonly keysSince?: (origin: Origin, version: object) => Iterable<string> | undefined
}

export interface ViewBuilder {
  /** Decodes and authorises only what is new since the last call; what did not change is the same object. */
  build(input: ViewInput): MeshView
}

/** Builds a view without a cache. */
export function buildView(input: ViewInput): MeshView {
  return createViewBuilder().build(input)
}

/** Returns a builder that keeps what did not change from one view to the next. */
export function createViewBuilder(): ViewBuilder {
  const cache = createCache()
  return {
    build(input) {
      const settlement = input.book.settlement()
      const members = membersByCluster(input, settlement, cache)
      const keyWinners = settleWireguardKeys(members.values(), settlement)
      const clusters = new Map<ClusterName, ClusterView>()
      const own = input.book.verifiedChainOf(input.selfOrigin)
      for (const name of cache.sorted('clusters', [...settlement.keys(), input.self])) {
        const settled = settlement.get(name)
        // Our own name is another's by certificate order, or we hold no certificate: nothing of that name is ours to act on, and
        // nothing of the winner may be taken for our own cluster.
        const lost =
          name === input.self && (settled === undefined || own === undefined || !owns(settled, own))
        if (lost) clusters.set(name, withoutName(name, settled !== undefined))
        else if (settled !== undefined) {
          const of = { settled, members: members.get(name) ?? [], keyWinners }
          clusters.set(
            name,
            cache.clusterView(of, () => clusterView(of, { input, cache }))
          )
        }
      }
      cache.keep([...input.origins], clusters)
      return { self: input.self, clusters }
    }
  }
}

function membersByCluster(
  input: ViewInput,
  settlement: ReadonlyMap<ClusterName, SettledCluster>,
  cache: Cache
): ReadonlyMap<ClusterName, readonly Member[]> {
  const members = new Map<ClusterName, Member[]>()
  for (const origin of cache.sorted('origins', [...input.origins])) {
    const chain = input.book.verifiedChainOf(origin)
    const settled = chain && settlement.get(chain.cluster)
    if (chain === undefined || settled === undefined) continue
    const version = input.version?.(origin)
    const member = cache.member({ chain, settled, version }, () =>
      owns(settled, chain) ? memberOf(chain, input, cache) : undefined
    )
    if (member === undefined) continue
    const list = members.get(chain.cluster)
    if (list === undefined) members.set(chain.cluster, [member])
    else list.push(member)
  }
  return members
}

function memberOf(chain: AgentChain, input: ViewInput, cache: Cache): Member {
  const origin = chain.agentOrigin
  const refusals: Refusal[] = []
  let [agent, claim]: [AgentValue?, ClusterValue?] = []
  for (const record of aboutItself(input, origin)) {
    const decoded = cache.records.decode(record)
    if (decoded.kind === 'invalid') refusals.push({ origin, key: record.key, reason: decoded.reason })
    else if (decoded.value.kind === 'cluster') claim = decoded.value
    else if (decoded.value.kind === 'agent') agent = decoded.value
  }
  if (agent !== undefined && !chain.roles.includes(agent.role)) {
    refusals.push({ origin, key: 'agent', reason: `its certificate does not give it the role ${agent.role}` })
    agent = undefined
  }
  return { chain, origin, agent, claim, refusals }
}

/** What an origin says of itself and of its cluster, which is little beside a catalogue. */
function aboutItself({ record, records }: ViewInput, origin: Origin): Iterable<ViewRecord> {
  if (record === undefined)
    return [...records(origin)].filter(({ key }) => key === 'agent' || key === 'cluster')
  return ['agent', 'cluster'].flatMap((key) => record(origin, key) ?? [])
}

/** The winner of each WireGuard key that two origins claim: by their clusters' certificates; in one cluster, by PeerId. */
function settleWireguardKeys(
  members: Iterable<readonly Member[]>,
  settlement: ReadonlyMap<ClusterName, SettledCluster>
): ReadonlyMap<string, Member> {
  const winners = new Map<string, Member>()
  for (const member of [...members].flat()) {
    if (member.agent === undefined) continue
    const holder = winners.get(member.agent.wireguardKey)
    if (holder === undefined || compareMembers(member, holder) < 0)
      winners.set(member.agent.wireguardKey, member)
  }
  return winners

  function compareMembers(left: Member, right: Member): number {
    const [a, b] = [settlement.get(left.chain.cluster), settlement.get(right.chain.cluster)]
    if (a === undefined || b === undefined) throw new Error('a member of a cluster that is not settled')
    return compareCertificateOrder(a.grant.order, b.grant.order) || compareKeys(left.origin, right.origin)
  }
}

function clusterView(
  { settled, members, keyWinners }: Sources,
  context: { readonly input: ViewInput; readonly cache: Cache }
): ClusterView {
  const name = settled.grant.cluster
  const conflicts: Conflict[] = [...settled.conflicts]
  const refusals: Refusal[] = members.flatMap((member) => member.refusals)
  const speaker = speakerOf(members)
  const podPrefixes = context.cache.intern(`${name} pod`, authorised('podPrefixes'))
  const servicePrefixes = context.cache.intern(`${name} service`, authorised('servicePrefixes'))

  const agents: AgentView[] = []
  for (const member of members) {
    if (member.agent === undefined) continue
    const winner = winnerOver(member, keyWinners)
    if (winner === member)
      agents.push({
        origin: member.origin,
        agent: checkNodePrefixes(member, checkTunnelAddress(member, member.agent)),
        ...(member.claim && { term: member.claim.term })
      })
    else if (winner !== undefined) {
      conflicts.push({ what: 'wireguardKey', value: member.agent.wireguardKey, winner: winner.chain.cluster })
    }
  }
  const catalogue = speaker && catalogueOf(name, speaker.origin, { podPrefixes, servicePrefixes }, context)
  return {
    name,
    podPrefixes,
    servicePrefixes,
    agents,
    services: catalogue?.services ?? new Map<string, ServiceView>(),
    complete: speaker?.claim?.complete ?? false,
    conflicts: conflicts.sort((a, b) =>
      compareKeys(`${a.what} ${a.value} ${a.winner}`, `${b.what} ${b.value} ${b.winner}`)
    ),
    refusals: withRefusals(refusals, catalogue?.refusals ?? [])
  }

  /** Claim ∩ certificate, less what older certificates hold. A claim beyond the certificate is cut, and told. */
  function authorised(what: 'podPrefixes' | 'servicePrefixes'): readonly Cidr[] {
    if (speaker?.claim === undefined) return []
    const certified = speaker.chain[what]
    for (const claim of speaker.claim[what]) {
      if (isWithin(claim, certified)) continue
      const reason = `claims the ${what === 'podPrefixes' ? 'pod' : 'service'} prefix ${claim} beyond its certificate`
      refusals.push({ origin: speaker.origin, key: 'cluster', reason })
    }
    return intersect(intersect(speaker.claim[what], certified), settled[what])
  }

  /** The tunnel stays without its address: only probes and the host's own traffic need it. */
  function checkTunnelAddress(member: Member, agent: AgentValue): AgentValue {
    if (agent.tunnelAddress === undefined || isWithin(agent.tunnelAddress, podPrefixes)) return agent
    if (speaker !== undefined) {
      const reason = `the tunnel address ${agent.tunnelAddress} is not in the pod prefixes of ${name}`
      refusals.push({ origin: member.origin, key: 'agent', reason })
    }
    return context.cache.withoutTunnelAddress(agent)
  }

  /** Its pods are reached as all of the cluster's are. */
  function checkNodePrefixes(member: Member, agent: AgentValue): AgentValue {
    const refused = agent.nodePrefixes?.filter((prefix) => !isWithin(prefix, podPrefixes)) ?? []
    if (refused.length === 0) return agent
    if (speaker !== undefined) {
      const reason = `the prefix ${refused[0]} of its node is not in the pod prefixes of ${name}`
      refusals.push({ origin: member.origin, key: 'agent', reason })
    }
    const { nodePrefixes = [], ...rest } = agent
    const kept = nodePrefixes.filter((prefix) => !refused.includes(prefix))
    return kept.length === 0 ? rest : { ...rest, nodePrefixes: kept }
  }
}

/** By origin, key and reason. Those of a catalogue are in that order, and may be as many as it has records. */
function withRefusals(own: readonly Refusal[], ofCatalogue: readonly Refusal[]): readonly Refusal[] {
  if (own.length === 0) return ofCatalogue
  return [...own, ...ofCatalogue].sort(
    (a, b) => compareKeys(a.origin, b.origin) || compareKeys(a.key, b.key) || compareKeys(a.reason, b.reason)
  )
}

/** Complete before incomplete, then the highest term; a tie (two lone agents) goes to the lower PeerId, the first here. */
function speakerOf(members: readonly Member[]): Member | undefined {
  return members
    .filter((member) => member.claim !== undefined)
    .reduce<Member | undefined>((best, member) => {
      if (best?.claim === undefined || member.claim === undefined) return best ?? member
      if (member.claim.complete !== best.claim.complete) return member.claim.complete ? member : best
      return member.claim.term > best.claim.term ? member : best
    }, undefined)
}

function catalogueOf(
  name: ClusterName,
  speaker: Origin,
  prefixes: Prefixes,
  { input, cache }: { readonly input: ViewInput; readonly cache: Cache }
): Catalogue {
  const catalogue = cache.catalogue(name)
  const { record, keysSince } = input
  catalogue.follow({
    speaker,
    prefixes,
    version: input.version?.(speaker),
    records: () => input.records(speaker),
    record: record && ((key) => record(speaker, key)),
    keysSince: (version) => keysSince?.(speaker, version)
  })
  return catalogue
}

function withoutName(name: ClusterName, taken: boolean): ClusterView {
  const conflicts: readonly Conflict[] = taken ? [{ what: 'name', value: name, winner: name }] : []
  return {
    name,
    podPrefixes: [],
    servicePrefixes: [],
    agents: [],
    services: new Map(),
    complete: false,
    conflicts,
    refusals: []
  }
}

function owns(settled: SettledCluster, chain: AgentChain): boolean {
  return chain.cluster === settled.grant.cluster && equalBytes(settled.grant.clusterKey, chain.clusterKey)
}

function intersect(left: readonly Cidr[], right: readonly Cidr[]): readonly Cidr[] {
  const pairs = left
    .flatMap((a) => right.map((b) => cidrIntersection(a, b)))
    .filter((cidr) => cidr !== undefined)
  return unionOf([pairs.sort(compareCidr)])
}
