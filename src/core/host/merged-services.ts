// The services that a policy balances over clusters (view/balanced.ts), as services of the load balancer: one address,
// and the endpoints of the clusters that the policy chooses, with their weights.
// Invariants
//   1. The result of `follow` depends on its input alone.
//   2. A merged service that did not change is the same object as before, so that the Balancer does no work for it.
import { chooseClusters, type Candidate, type ClusterShare } from './cluster-choice.ts'
import type {
  Cidr,
  ClusterName,
  EndpointPort,
  EndpointSliceValue,
  ServicePort,
  ServiceValue
} from '../model/values.ts'
import { familyOf } from '../model/cidr.ts'
import { SortedMap } from '../model/sorted-map.ts'
import { NOWHERE, type Place } from '../model/topology.ts'
import { cutSlices, useCounts } from './virtual-servers.ts'
import {
  serviceOf,
  type BalancedHolder,
  type BalancedService,
  type BalancedServices
} from '../view/balanced.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import { chooseNear, type NearChoice } from './zone-choice.ts'

/** What the choice of clusters depends on, besides policy and endpoints. */
export interface ChoiceFacts {
  readonly self: ClusterName
  readonly isWithdrawn: (cluster: ClusterName) => boolean
  /** The round trip to a cluster in milliseconds, steady (steady-rtts.ts); undefined: not measured. */
  readonly rttMs: (cluster: ClusterName) => number | undefined
  /** Where this host is; left out: not known. */
  readonly place?: Place
}

/** Returns the shares of the clusters that have a balanced service. */
export function sharesOf(balanced: BalancedService, facts: ChoiceFacts): readonly ClusterShare[] {
  return choiceOf(balanced, facts).shares
}

interface Choice {
  /** With the ports of all holders; where two differ, those of the cluster whose policy is in force count. */
  readonly service: ServiceValue
  readonly shares: readonly ClusterShare[]
  /** Of each holder, in their order: the slices with the endpoints that this host may use. */
  readonly near: readonly NearChoice[]
}

function choiceOf(
  balanced: BalancedService,
  { self, isWithdrawn, rttMs, place = NOWHERE }: ChoiceFacts
): Choice {
  const { policy, holders, from, address } = balanced
  const [first, ...others] = holders.toSorted(
    (a, b) => Number(b.cluster === from) - Number(a.cluster === from)
  )
  const service = serviceOf(first === undefined ? balanced : { ...balanced, holders: [first, ...others] })
  const family = familyOf(address)
  const near: NearChoice[] = []
  const candidates = holders.map(({ cluster, view }): Candidate => {
    const isLocal = cluster === self
    const slices = servedSlices(balanced, view)
    const { trafficDistribution } = view.service
    const wish = { trafficDistribution, isOwn: isLocal, sameZone: policy.sameZone === true }
    const chosen = chooseNear({ service, slices }, { place, families: [family], wish })
    near.push(chosen)
    const counts = useCounts({ service, slices }, family)
    const used = chosen.slices === slices ? counts : useCounts({ service, slices: chosen.slices }, family)
    return {
      cluster,
      ...counts,
      ...(chosen.reason !== undefined && { near: { ready: used.ready, where: chosen.reason } }),
      isLocal,
      isWithdrawn: !isLocal && isWithdrawn(cluster),
      rttMs: rttMs(cluster)
    }
  })
  return { service, shares: chooseClusters(policy, candidates), near }
}

interface Kept {
  readonly holders: readonly BalancedHolder[]
  readonly agreed: ServiceValue | undefined
  readonly choice: string
  readonly view: ServiceView
}

/** Keeps the merged services from one pass to the next. */
export class MergedServices {
  #kept = new Map<string, Kept>()
  #services = SortedMap.empty<ServiceView>()

  /** Returns the merged services by name; the same map while nothing changed. */
  follow(balanced: BalancedServices, facts: ChoiceFacts): ReadonlyMap<string, ServiceView> {
    const kept = new Map<string, Kept>()
    for (const [key, service] of balanced) kept.set(key, this.#follow(service, facts))
    const edits = [
      ...[...this.#kept.keys()].filter((key) => !kept.has(key)).map((key) => [key, undefined] as const),
      ...[...kept]
        .filter(([key, now]) => this.#kept.get(key)?.view !== now.view)
        .map(([key, { view }]) => [key, view] as const)
    ]
    this.#kept = kept
    if (edits.length > 0) this.#services = this.#services.with(edits)
    return this.#services
  }

  #follow(service: BalancedService, facts: ChoiceFacts): Kept {
    const { key, address, holders, from, agreed, policy } = service
    const { zone, node } = facts.place ?? NOWHERE
    const chosen = choiceOf(service, facts)
    const choice = [
      address,
      from,
      zone,
      node,
      policy.sameZone === true,
      ...chosen.shares.map(({ cluster, weight, endpoints }) => `${cluster}:${weight}:${endpoints}`)
    ].join(' ')
    const before = this.#kept.get(key)
    const isSame =
      before?.choice === choice &&
      before.agreed === agreed &&
      before.holders.length === holders.length &&
      before.holders.every(({ view }, index) => view === holders[index]?.view)
    return isSame ? before : { holders, choice, agreed, view: mergedView(service, chosen) }
  }
}

function mergedView({ holders, address }: BalancedService, { service, shares, near }: Choice): ServiceView {
  const shareOf = new Map(shares.map((share) => [share.cluster, share]))
  const slices: EndpointSliceValue[] = []
  const weights: number[] = []
  for (const [index, { cluster }] of holders.entries()) {
    const { weight = 0, endpoints: most = 0, of = 0, use = 'ready' } = shareOf.get(cluster) ?? {}
    if (weight === 0) continue
    const cut = { family: familyOf(address), use, most, of }
    const served = near[index]?.slices ?? []
    slices.push(...(most < of ? cutSlices({ service, slices: served }, cut) : served))
    weights.push(...served.map(() => weight))
  }
  const isEven = weights.every((weight) => weight === weights[0])
  return isEven ? { service, slices } : { service, slices, weights }
}

/**
 * The slices of one holder. Where the exports have settled the service, they keep only the ports that this holder's own Service
 * has with the settled number: a cluster whose port has another number gets no connections to this one (KEP-1645, "Service Port").
 */
function servedSlices(
  { agreed }: BalancedService,
  { service, slices }: ServiceView
): readonly EndpointSliceValue[] {
  if (agreed === undefined) return slices
  const isServed = ({ name, protocol }: EndpointPort): boolean => {
    const isIt = (port: ServicePort): boolean => port.name === name && port.protocol === protocol
    return service.ports.find(isIt)?.port === agreed.ports.find(isIt)?.port
  }
  return slices.map((slice) => {
    const ports = slice.ports.filter(isServed)
    return ports.length === slice.ports.length ? slice : { ...slice, ports }
  })
}

/** The balanced services of a view, as input of the desired state. */
export interface MergedInput extends Pick<ChoiceFacts, 'rttMs'> {
  /** The prefix of the addresses of `services`. */
  readonly prefix: Cidr
  readonly services: BalancedServices
}

/** Returns the balanced services as those of one more cluster, or nothing without them. */
export function mergedCluster(
  merged: MergedServices,
  balanced: MergedInput | undefined,
  facts: Omit<ChoiceFacts, 'rttMs'>
): readonly Pick<ClusterView, 'name' | 'services' | 'servicePrefixes'>[] {
  if (balanced === undefined || balanced.services.size === 0) return []
  const services = merged.follow(balanced.services, { ...facts, rttMs: balanced.rttMs })
  return [{ name: MERGED, services, servicePrefixes: [balanced.prefix] }]
}

/** The name stands for all clusters, as in the zone cluster.all; no cluster may have it (model/zones.ts). */
export const MERGED = 'all' as ClusterName
