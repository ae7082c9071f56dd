// What a pass over the view keeps for the next one: what did not change is the same object as last time, and what nothing
// changed in is not built again.
import { Authoriser } from './authorise.ts'
import { Catalogue } from './catalogue.ts'
import type { AgentValue, Cidr, ClusterName, ClusterValue, Origin } from '../model/values.ts'
import { compareKeys } from '../model/sorted-map.ts'
import type { AgentChain } from '../trust/chain.ts'
import type { SettledCluster } from '../trust/order.ts'
import type { ClusterView, Refusal } from './view.ts'

/** What one origin says of itself and of its cluster. */
export interface Member {
  readonly chain: AgentChain
  readonly origin: Origin
  readonly agent: AgentValue | undefined
  readonly claim: ClusterValue | undefined
  readonly refusals: readonly Refusal[]
}

/** All that a cluster's view comes from, but for its speaker's records. */
export interface Sources {
  readonly settled: SettledCluster
  readonly members: readonly Member[]
  readonly keyWinners: ReadonlyMap<string, Member>
}

interface MadeFrom {
  readonly chain: AgentChain
  readonly settled: SettledCluster
  readonly version: object | undefined
}

export interface Cache {
  readonly records: Authoriser
  /** Each once, by code units: sorted again only when the list is another one. */
  sorted<T extends string>(what: 'origins' | 'clusters', list: readonly T[]): readonly T[]
  /** Undefined for one that does not count. Without a version it is made anew. */
  member(from: MadeFrom, make: () => Member | undefined): Member | undefined
  /** The last one of this cluster, if it was made from the very same things. */
  clusterView(of: Sources, make: () => ClusterView): ClusterView
  /** The last list under this name, if it is equal. */
  intern(name: string, list: readonly Cidr[]): readonly Cidr[]
  withoutTunnelAddress(agent: AgentValue): AgentValue
  /** What is known of the services of a cluster. */
  catalogue(name: ClusterName): Catalogue
  /** Forgets all others. */
  keep(origins: readonly Origin[], clusters: ReadonlyMap<ClusterName, ClusterView>): void
}

export function createCache(): Cache {
  const members = new Map<Origin, { from: MadeFrom; member: Member | undefined }>()
  const orders = new Map<string, { list: readonly string[]; sorted: readonly string[] }>()
  const untunnelled = new WeakMap<AgentValue, AgentValue>()
  // One entry a cluster, and clusters are bounded by the trust book.
  const lists = new Map<string, readonly Cidr[]>()
  const views = new Map<ClusterName, { of: Sources; view: ClusterView }>()

  const records = new Authoriser()
  const catalogues = new Map<ClusterName, Catalogue>()

  return {
    records,
    sorted<T extends string>(what: 'origins' | 'clusters', list: readonly T[]) {
      const last = orders.get(what)
      const same = last?.list.length === list.length && list.every((each, at) => each === last.list[at])
      // What was sorted were the same texts, of the same type.
      if (same) return last.sorted as readonly T[]
      const sorted = [...new Set(list)].sort(compareKeys)
      orders.set(what, { list, sorted })
      return sorted
    },
    member(from, make) {
      const { chain, settled, version } = from
      const last = members.get(chain.agentOrigin)
      const isLast =
        last?.from.version === version && last?.from.chain === chain && last.from.settled === settled
      if (last !== undefined && isLast && version !== undefined) return last.member
      const member = make()
      members.set(chain.agentOrigin, { from, member })
      return member
    },
    clusterView(of, make) {
      const name = of.settled.grant.cluster
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
      if (last?.length === list.length && last.every((cidr, index) => cidr === list[index])) return last
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

function areSame(last: Sources, now: Sources): boolean {
  if (last.settled !== now.settled || last.members.length !== now.members.length) return false
  return now.members.every(
    (member, at) =>
      member === last.members[at] &&
      winnerOver(member, now.keyWinners) === winnerOver(member, last.keyWinners)
  )
}

/** Who holds this member's WireGuard key: itself, as a rule. */
export function winnerOver({ agent }: Member, keyWinners: ReadonlyMap<string, Member>): Member | undefined {
  return agent && keyWinners.get(agent.wireguardKey)
}
