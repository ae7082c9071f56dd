// Builds the view from the replicated records. Every claim is cut to what the trust set gives its announcer (default
// deny). control.ts builds a view when one is needed after a change of the replica or of the members.
// Invariants
//   1. The view depends on records, on the settlement of the members and on the addresses of this host alone, not on the
//      order of arrival.
//   2. No prefix, tunnel address, service address or endpoint outside the prefixes of its cluster is in a view, and the
//      prefixes of two clusters never overlap. The settlement decides on overlaps and names (trust/members).
//   3. A cluster's catalogue comes from one origin at a time, its speaker: the origin with the highest term among
//      those whose catalogue is complete. So a change of speaker never shows an incomplete catalogue in place of a
//      complete one.
//   4. Every WireGuard key in a view was proved by its agent, and a claim takes no other agent out of the view: two that
//      prove one key hold the same seed, and both stay, marked as clones.
import { isWithin, type Prefixes, type ViewRecord } from './authorise.ts'
import type { Catalogue } from './catalogue.ts'
import { cidrIntersection, compareCidr, unionOf } from '../model/cidr.ts'
import type { Cidr, ClusterName, ClusterValue, Ip, Origin, WireguardKey } from '../model/values.ts'
import type { Crypto } from '../model/crypto.ts'
import { allowedOuters, createOuterRules, type OuterRules } from './outer-rules.ts'
import { compareKeys } from '../model/sorted-map.ts'
import type { MemberAgent } from '../trust/members/held-credentials.ts'
import type { Members } from '../trust/members/members.ts'
import type { Conflict, SettledCluster, Settlement } from '../trust/members/settlement.ts'
import { TunnelKeys } from '../trust/tunnel-key.ts'
import {
  clonesOf,
  createCache,
  type Cache,
  type KeyHolders,
  type Member,
  type Sources
} from './view-cache.ts'
import type { AgentView, ClusterView, MeshView, ProvedAgent, Refusal, ServiceView } from './view.ts'

/** Everything that a view is built from. The optional functions only save time. */
export interface ViewInput {
  /** The name of this agent's cluster. */
  readonly self: ClusterName
  readonly selfOrigin: Origin
  /** The members of the mesh, with this agent itself. */
  readonly members: Pick<Members, 'settlement' | 'agentOf'>
  /** Addresses of this host: members that publish them are not reached there. Default: none. */
  readonly hostAddresses?: ReadonlySet<Ip>
  /** True where this agent listens on loopback, as several agents on one host do. Default: false. */
  readonly allowsLoopback?: boolean
  /** The origins that have records. Origins that are not admitted are ignored. */
  readonly origins: Iterable<Origin>
  /**
   * The live records of an origin. The builder may read them twice for a speaker. The cache takes the same `value`
   * object for the same value.
   */
  readonly records: (origin: Origin) => Iterable<ViewRecord>
  /**
   * An object that stays the same as long as the records of an origin are the same. With it, unchanged origins are
   * not read. undefined: not known.
   */
  readonly version?: (origin: Origin) => object | undefined
  /** The live record of an origin under a key. Without this function, all records are searched. */
  readonly record?: (origin: Origin, key: string) => ViewRecord | undefined
  /** The keys whose records differ from those at that version; undefined: any may differ. */
  readonly keysSince?: (origin: Origin, version: object) => Iterable<string> | undefined
}

/** A builder with a cache, which belongs to one replica. */
interface ViewBuilder {
  /**
   * The view of this input. It decodes and authorises only what is new since the last call; what did not change is
   * the same object.
   */
  build(input: ViewInput): MeshView
}

/** A builder that keeps what did not change from one view to the next. */
export function createViewBuilder(mesh: {
  readonly crypto: Crypto
  readonly meshId: Uint8Array
}): ViewBuilder {
  const cache = createCache(new TunnelKeys(mesh))
  const outerRules = createOuterRules()
  return {
    build(input) {
      const settlement = input.members.settlement()
      const outer = outerRules(input, settlement)
      const members = membersByCluster(input, { settlement, outer }, cache)
      const keyHolders = holdersOfKeys(members.values())
      const clusters = new Map<ClusterName, ClusterView>()
      const own = input.members.agentOf(input.selfOrigin)
      for (const name of cache.sorted('clusters', [...settlement.keys(), input.self])) {
        const settled = settlement.get(name)
        // Another cluster has our name, or this agent does not stand. Then nothing under that name belongs to this agent,
        // and nothing of the owner may be treated as our own cluster.
        const lost =
          name === input.self && (settled === undefined || own === undefined || !owns(settled, own))
        if (lost) clusters.set(name, withoutName(name, settled !== undefined))
        else if (settled !== undefined) {
          const of = { settled, members: members.get(name) ?? [], keyHolders }
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

/** The members of each cluster: admitted origins whose cluster key has the cluster's name. */
function membersByCluster(
  input: ViewInput,
  { settlement, outer }: { readonly settlement: Settlement; readonly outer: OuterRules },
  cache: Cache
): ReadonlyMap<ClusterName, readonly Member[]> {
  const members = new Map<ClusterName, Member[]>()
  for (const origin of cache.sorted('origins', [...input.origins])) {
    const certified = input.members.agentOf(origin)
    const settled = certified && settlement.get(certified.cluster)
    if (certified === undefined || settled === undefined) continue
    const version = input.version?.(origin)
    const member = cache.member({ certified, settled, version, outer }, () =>
      owns(settled, certified) ? memberOf(certified, { input, outer }, cache) : undefined
    )
    if (member === undefined) continue
    const list = members.get(certified.cluster)
    if (list === undefined) members.set(certified.cluster, [member])
    else list.push(member)
  }
  return members
}

/**
 * Decodes what one origin announces about itself and its cluster. A role that its certificate does not give it is
 * refused.
 */
function memberOf(
  certified: MemberAgent,
  { input, outer }: { readonly input: ViewInput; readonly outer: OuterRules },
  cache: Cache
): Member {
  const { origin } = certified
  const refusals: Refusal[] = []
  let [agent, claim]: [ProvedAgent?, ClusterValue?] = []
  for (const record of aboutItself(input, origin)) {
    const decoded = cache.records.decode(record)
    if (decoded.kind === 'invalid') refusals.push({ origin, key: record.key, reason: decoded.reason })
    else if (decoded.value.kind === 'cluster') claim = decoded.value
    else if (decoded.value.kind === 'agent') {
      const { tunnelKeys, ...rest } = decoded.value
      const verdict = cache.tunnelKeys.prove(origin, tunnelKeys)
      if (verdict.kind === 'proved') agent = { ...rest, wireguardKey: verdict.wireguardKeys[0] }
      else refusals.push({ origin, key: record.key, reason: verdict.reason })
    }
  }
  if (agent !== undefined && !certified.roles.includes(agent.role)) {
    refusals.push({ origin, key: 'agent', reason: `its certificate does not allow the role ${agent.role}` })
    agent = undefined
  }
  // This agent never dials itself.
  if (agent !== undefined && origin !== input.selfOrigin) {
    const allowed = allowedOuters(agent, { ...outer, cluster: certified.cluster })
    agent = allowed.agent
    refusals.push(...allowed.reasons.map((reason) => ({ origin, key: 'agent', reason })))
  }
  return { certified, origin, agent, claim, refusals }
}

/** The records "agent" and "cluster" of an origin, without reading its catalogue where `record` exists. */
function aboutItself({ record, records }: ViewInput, origin: Origin): Iterable<ViewRecord> {
  if (record === undefined)
    return [...records(origin)].filter(({ key }) => key === 'agent' || key === 'cluster')
  return ['agent', 'cluster'].flatMap((key) => record(origin, key) ?? [])
}

/** The origins that have proved each WireGuard key, in the order of their PeerIds. */
function holdersOfKeys(members: Iterable<readonly Member[]>): KeyHolders {
  const holders = new Map<WireguardKey, Origin[]>()
  for (const { agent, origin } of [...members].flat()) {
    if (agent === undefined) continue
    const list = holders.get(agent.wireguardKey)
    if (list === undefined) holders.set(agent.wireguardKey, [origin])
    else list.push(origin)
  }
  for (const list of holders.values()) list.sort(compareKeys)
  return holders
}

/** The view of one cluster. It collects refusals and conflicts while it checks prefixes, agents and the catalogue. */
function clusterView(
  { settled, members, keyHolders }: Sources,
  context: { readonly input: ViewInput; readonly cache: Cache }
): ClusterView {
  const name = settled.cluster
  const conflicts: Conflict[] = [...settled.conflicts]
  const refusals: Refusal[] = members.flatMap((member) => member.refusals)
  const speaker = speakerOf(members)
  const podPrefixes = context.cache.intern(`${name} pod`, authorised('podPrefixes'))
  const servicePrefixes = context.cache.intern(`${name} service`, authorised('servicePrefixes'))

  const agents: AgentView[] = []
  for (const member of members) {
    if (member.agent === undefined) continue
    const clones = clonesOf(member, keyHolders)
    agents.push({
      origin: member.origin,
      agent: checkNodePrefixes(member, checkTunnelAddress(member, member.agent)),
      ...(clones.length > 0 && { clones }),
      ...(member.claim && { term: member.claim.term })
    })
  }
  const prefixes = { podPrefixes, servicePrefixes }
  const catalogue = speaker && catalogueOf(settled, speaker.origin, prefixes, context)
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

  /**
   * The claim cut to the prefixes that are in force. One that the cluster may not use at all is reported as a refusal; one
   * that another cluster has in force is a conflict of the settlement.
   */
  function authorised(what: 'podPrefixes' | 'servicePrefixes'): readonly Cidr[] {
    if (speaker?.claim === undefined) return []
    const kind = what === 'podPrefixes' ? 'podPrefix' : 'servicePrefix'
    const lost = settled.conflicts.filter((conflict) => conflict.what === kind)
    const given = [...settled[what], ...lost.map(({ value }) => value as Cidr)]
    for (const claim of speaker.claim[what]) {
      if (isWithin(claim, given)) continue
      const reason = `the ${what === 'podPrefixes' ? 'pod' : 'service'} prefix ${claim} is outside the prefixes of its cluster`
      refusals.push({ origin: speaker.origin, key: 'cluster', reason })
    }
    return intersect(speaker.claim[what], settled[what])
  }

  /**
   * The agent without a tunnel address that is outside the pod prefixes. The tunnel itself stays: only probes and the
   * host's own traffic need the address. Without a speaker there are no pod prefixes yet, and that is no refusal.
   */
  function checkTunnelAddress(member: Member, agent: ProvedAgent): ProvedAgent {
    if (agent.tunnelAddress === undefined || isWithin(agent.tunnelAddress, podPrefixes)) return agent
    if (speaker !== undefined) {
      const reason = `the tunnel address ${agent.tunnelAddress} is outside the pod prefixes of ${name}`
      refusals.push({ origin: member.origin, key: 'agent', reason })
    }
    return context.cache.withoutTunnelAddress(agent)
  }

  /**
   * The agent without node prefixes that are outside. Its pods are then reached through any gateway of the cluster,
   * as all others are.
   */
  function checkNodePrefixes(member: Member, agent: ProvedAgent): ProvedAgent {
    const refused = agent.nodePrefixes?.filter((prefix) => !isWithin(prefix, podPrefixes)) ?? []
    if (refused.length === 0) return agent
    if (speaker !== undefined) {
      const reason = `the prefix ${refused[0]} of its node is outside the pod prefixes of ${name}`
      refusals.push({ origin: member.origin, key: 'agent', reason })
    }
    const { nodePrefixes = [], ...rest } = agent
    const kept = nodePrefixes.filter((prefix) => !refused.includes(prefix))
    return kept.length === 0 ? rest : { ...rest, nodePrefixes: kept }
  }
}

/**
 * All refusals by origin, key and reason. Those of the catalogue are sorted already, and may be as many as its
 * records.
 */
function withRefusals(own: readonly Refusal[], ofCatalogue: readonly Refusal[]): readonly Refusal[] {
  if (own.length === 0) return ofCatalogue
  return [...own, ...ofCatalogue].sort(
    (a, b) => compareKeys(a.origin, b.origin) || compareKeys(a.key, b.key) || compareKeys(a.reason, b.reason)
  )
}

/**
 * The member whose catalogue counts: a complete one before an incomplete one, then the highest term. Of two members
 * with one term (two agents without an election), the lower PeerId wins, which comes first here.
 */
function speakerOf(members: readonly Member[]): Member | undefined {
  return members
    .filter((member) => member.claim !== undefined)
    .reduce<Member | undefined>((best, member) => {
      if (best?.claim === undefined || member.claim === undefined) return best ?? member
      if (member.claim.complete !== best.claim.complete) return member.claim.complete ? member : best
      return member.claim.term > best.claim.term ? member : best
    }, undefined)
}

/** The catalogue of the cluster, which the cache keeps from view to view and brings up to date here. */
function catalogueOf(
  { cluster, namespaces }: SettledCluster,
  speaker: Origin,
  prefixes: Prefixes,
  { input, cache }: { readonly input: ViewInput; readonly cache: Cache }
): Catalogue {
  const catalogue = cache.catalogue(cluster)
  const { record, keysSince } = input
  catalogue.follow({
    speaker,
    prefixes,
    namespaces: cache.intern(`${cluster} namespaces`, namespaces),
    reader: cluster === input.self ? undefined : input.self,
    version: input.version?.(speaker),
    records: () => input.records(speaker),
    record: record && ((key) => record(speaker, key)),
    keysSince: (version) => keysSince?.(speaker, version)
  })
  return catalogue
}

/**
 * An empty view for our own name when we do not own it. `taken`: another cluster owns it, which is shown as a
 * conflict.
 */
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

/** Whether an agent belongs to the cluster that has the name: both have the same cluster key. */
function owns(settled: SettledCluster, certified: MemberAgent): boolean {
  return certified.cluster === settled.cluster && certified.clusterKey === settled.clusterKey
}

/** The parts that both lists of prefixes cover, sorted and merged. */
function intersect(left: readonly Cidr[], right: readonly Cidr[]): readonly Cidr[] {
  const pairs = left
    .flatMap((a) => right.map((b) => cidrIntersection(a, b)))
    .filter((cidr) => cidr !== undefined)
  return unionOf([pairs.sort(compareCidr)])
}
