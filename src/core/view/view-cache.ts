// What the builder keeps from one view to the next. What did not change is the same object as last time, and what
// depends only on unchanged things is not built again. With it, a changed record in a mesh of 100,000 services costs
// little more than its own service.
import { Authoriser } from './authorise.ts'
import { Catalogue } from './catalogue.ts'
import type { ClusterName, ClusterValue, Origin, WireguardKey } from '../model/values.ts'
import { compareKeys } from '../model/sorted-map.ts'
import type { MemberAgent } from '../trust/members/held-credentials.ts'
import type { SettledCluster } from '../trust/members/settlement.ts'
import type { TunnelKeys } from '../trust/tunnel-key.ts'
import type { ClusterView, ProvedAgent, Refusal } from './view.ts'

/** What one origin announces about itself and its cluster. */
export interface Member {
  /** The agent by its certificate. */
  readonly certified: MemberAgent
  readonly origin: Origin
  /** undefined when the origin has published no agent, or one without a valid proof of its tunnel keys. */
  readonly agent: ProvedAgent | undefined
  /** The record "cluster" of this origin; undefined when it has published none. */
  readonly claim: ClusterValue | undefined
  readonly refusals: readonly Refusal[]
}

/** Everything that a cluster's view is made from, except the records of its speaker's catalogue. */
export interface Sources {
  readonly settled: SettledCluster
  readonly members: readonly Member[]
  /** The origins that have proved each WireGuard key, over all clusters and in their order; more than one are clones. */
  readonly keyHolders: KeyHolders
}

export type KeyHolders = ReadonlyMap<WireguardKey, readonly Origin[]>

/** The objects that a Member was made from. They are compared by identity. */
interface MadeFrom {
  readonly certified: MemberAgent
  readonly settled: SettledCluster
  readonly version: object | undefined
  /** The rules for outer addresses; another object when they may have changed. */
  readonly outer: object
}

/** The parts of the cache. Each method compares with the last call of the same name or key. */
export interface Cache {
  readonly records: Authoriser
  /** Checks the proofs of tunnel keys, and keeps its verdicts. */
  readonly tunnelKeys: TunnelKeys
  /**
   * The list without duplicates, in the order of code units. It is sorted again only when the list differs from the
   * last one.
   */
  sorted<T extends string>(what: 'origins' | 'clusters', list: readonly T[]): readonly T[]
  /**
   * The member of an origin; undefined for an origin that does not count. It is made again when `from` differs or has
   * no version.
   */
  member(from: MadeFrom, make: () => Member | undefined): Member | undefined
  /**
   * The last view of this cluster, if it was made from the same objects. The catalogue's changes come with the
   * speaker's version, which makes another Member.
   */
  clusterView(of: Sources, make: () => ClusterView): ClusterView
  /** The last list under this name, if it is equal; then consumers see the same object. */
  intern<T extends string>(name: string, list: readonly T[]): readonly T[]
  /** The agent without its tunnel address; the same object for the same agent. */
  withoutTunnelAddress(agent: ProvedAgent): ProvedAgent
  /** The catalogue of a cluster, made empty when there is none. */
  catalogue(name: ClusterName): Catalogue
  /** Forgets all origins and clusters that are not in these lists. */
  keep(origins: readonly Origin[], clusters: ReadonlyMap<ClusterName, ClusterView>): void
}

/** An empty cache. */
export function createCache(tunnelKeys: TunnelKeys): Cache {
  const members = new Map<Origin, { from: MadeFrom; member: Member | undefined }>()
  const orders = new Map<string, { list: readonly string[]; sorted: readonly string[] }>()
  const untunnelled = new WeakMap<ProvedAgent, ProvedAgent>()
  // Three entries for each cluster, and the trust set bounds the number of clusters.
  const lists = new Map<string, readonly string[]>()
  const views = new Map<ClusterName, { of: Sources; view: ClusterView }>()

  const records = new Authoriser()
  const catalogues = new Map<ClusterName, Catalogue>()

  return {
    records,
    tunnelKeys,
    sorted<T extends string>(what: 'origins' | 'clusters', list: readonly T[]) {
      const last = orders.get(what)
      const same = last?.list.length === list.length && list.every((each, at) => each === last.list[at])
      // The last list had the same texts, so it has the same type T.
      if (same) return last.sorted as readonly T[]
      const sorted = [...new Set(list)].sort(compareKeys)
      orders.set(what, { list, sorted })
      return sorted
    },
    member(from, make) {
      const { certified, settled, version } = from
      const last = members.get(certified.origin)
      const isFromSame =
        last?.from.version === version && last?.from.certified === certified && last?.from.settled === settled
      const isLast = isFromSame && last?.from.outer === from.outer
      if (last !== undefined && isLast && version !== undefined) return last.member
      const made = make()
      // The rules for outer addresses change with each new cluster, and rarely affect a member.
      const isSame = isFromSame && version !== undefined && isSameMember(last?.member, made)
      const member = isSame ? last?.member : made
      members.set(certified.origin, { from, member })
      return member
    },
    clusterView(of, make) {
      const name = of.settled.cluster
      const last = views.get(name)
      if (last !== undefined && areSame(last.of, of)) {
        last.of = of
        return last.view
      }
      const view = make()
      views.set(name, { of, view })
      return view
    },
    intern(name, list) {
      const last = lists.get(name)
      if (last?.length === list.length && last.every((text, index) => text === list[index]))
        return last as typeof list
      lists.set(name, list)
      return list
    },
    withoutTunnelAddress(agent) {
      const known = untunnelled.get(agent) ?? { ...agent, tunnelAddress: undefined }
      untunnelled.set(agent, known)
      return known
    },
    catalogue(name) {
      const known = catalogues.get(name) ?? new Catalogue(records)
      catalogues.set(name, known)
      return known
    },
    keep(origins, clusters) {
      const kept = members.size > origins.length ? new Set(origins) : undefined
      for (const origin of kept ? members.keys() : []) if (!kept?.has(origin)) members.delete(origin)
      for (const name of views.keys()) if (!clusters.has(name)) views.delete(name)
      for (const name of catalogues.keys()) if (!clusters.has(name)) catalogues.delete(name)
    }
  }
}

/** Whether two members are made of the same objects. A member with refusals is made anew. */
function isSameMember(last: Member | undefined, now: Member | undefined): boolean {
  return (
    last !== undefined &&
    now !== undefined &&
    last.certified === now.certified &&
    last.agent === now.agent &&
    last.claim === now.claim &&
    last.refusals.length + now.refusals.length === 0
  )
}

/**
 * Whether two cluster views come from the same objects. Of the holders of keys only the clones of the cluster's own
 * members matter.
 */
function areSame(last: Sources, now: Sources): boolean {
  if (last.settled !== now.settled || last.members.length !== now.members.length) return false
  return now.members.every(
    (member, at) =>
      member === last.members[at] &&
      isSameList(clonesOf(member, now.keyHolders), clonesOf(member, last.keyHolders))
  )
}

function isSameList<T>(left: readonly T[], right: readonly T[]): boolean {
  return left.length === right.length && left.every((each, at) => each === right[at])
}

/** The other origins that have proved the WireGuard key of this member; usually none. */
export function clonesOf({ agent, origin }: Member, keyHolders: KeyHolders): readonly Origin[] {
  const holders = (agent && keyHolders.get(agent.wireguardKey)) ?? []
  return holders.length < 2 ? NO_ORIGINS : holders.filter((holder) => holder !== origin)
}

const NO_ORIGINS: readonly Origin[] = []
