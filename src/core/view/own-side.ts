// The view as the hosts of a cluster with translated addresses use it (model/translation.ts). Records and certificates have
// the virtual prefixes of all clusters, and those of the own cluster stand for real ones: in this view the own cluster has its
// real prefixes, services, endpoints and agents, so routes, load balancer, filter and DNS of its hosts need no translation.
// Invariants
//   1. Without a translation, the view and the settlement are the same objects as before.
//   2. No prefix of another cluster overlaps a real prefix of this one: the own pods and services always come first. What
//      is left out is in `hidden`.
//   3. What did not change is the same object in the next view.
import { movedEndpoints } from '../catalog/outward.ts'
import { cidrOverlaps } from '../model/cidr.ts'
import { changesBetween, SortedMap } from '../model/sorted-map.ts'
import { NO_TRANSLATION, realPrefixes, type Direction, type Translation } from '../model/translation.ts'
import type { Cidr, ClusterName, EndpointSliceValue } from '../model/values.ts'
import type { SettledCluster, Settlement } from '../trust/members/settlement.ts'
import type { AgentView, ClusterView, MeshView, ServiceView } from './view.ts'

/** A prefix of another cluster that this cluster uses itself. */
export interface HiddenPrefix {
  readonly cluster: ClusterName
  readonly prefix: Cidr
  /** The real prefix of this cluster that it overlaps. */
  readonly own: Cidr
}

/** Makes the views of one session. It keeps its results for the next call. */
export class OwnSide {
  #translation: Translation = NO_TRANSLATION
  #settled: { readonly of: Settlement; readonly result: Settlement } | undefined
  #kept = new WeakMap<SettledCluster, SettledCluster>()
  #hidden: readonly HiddenPrefix[] = []
  #view: { readonly of: MeshView; readonly result: MeshView } | undefined
  #own: { readonly of: ClusterView; readonly result: ClusterView } | undefined
  #services: { of: ReadonlyMap<string, ServiceView>; result: SortedMap<ServiceView> } = NO_SERVICES
  #agents = new WeakMap<AgentView, AgentView>()

  /** Takes the translation for the next calls. */
  use(translation: Translation): void {
    if (translation === this.#translation) return
    this.#translation = translation
    this.#settled = undefined
    this.#kept = new WeakMap()
    this.#hidden = []
    this.#view = undefined
    this.#own = undefined
    this.#services = NO_SERVICES
    this.#agents = new WeakMap()
  }

  /** The prefixes that the last settlement left out (2). */
  get hidden(): readonly HiddenPrefix[] {
    return this.#hidden
  }

  /** Returns the settlement without the prefixes of other clusters that this one uses itself (2). */
  settlement(settlement: Settlement, self: ClusterName): Settlement {
    if (!this.#translation.isActive) return settlement
    if (this.#settled?.of === settlement) return this.#settled.result
    const { pods, services } = this.#translation
    const real = [...pods, ...services].map((pair) => pair.real)
    const hidden: HiddenPrefix[] = []
    const result = new Map(
      [...settlement].map(([name, settled]) => {
        if (name === self) return [name, settled] as const
        const found = [...settled.podPrefixes, ...settled.servicePrefixes].flatMap((prefix) => {
          const own = real.find((cidr) => cidrOverlaps(cidr, prefix))
          return own === undefined ? [] : [{ cluster: name, prefix, own }]
        })
        hidden.push(...found)
        return [name, found.length === 0 ? settled : this.#without(settled, found)] as const
      })
    )
    this.#settled = { of: settlement, result }
    this.#hidden = hidden
    return result
  }

  #without(settled: SettledCluster, hidden: readonly HiddenPrefix[]): SettledCluster {
    const known = this.#kept.get(settled)
    if (known !== undefined) return known
    const isFree = (prefix: Cidr): boolean => hidden.every((each) => each.prefix !== prefix)
    const kept = {
      ...settled,
      podPrefixes: settled.podPrefixes.filter(isFree),
      servicePrefixes: settled.servicePrefixes.filter(isFree)
    }
    this.#kept.set(settled, kept)
    return kept
  }

  /** Returns the view with the real addresses of the own cluster. */
  view(view: MeshView): MeshView {
    const own = view.clusters.get(view.self)
    if (!this.#translation.isActive || own === undefined) return view
    if (this.#view?.of === view) return this.#view.result
    const clusters = new Map(view.clusters)
    clusters.set(view.self, this.#ownCluster(own))
    const result = { ...view, clusters }
    this.#view = { of: view, result }
    return result
  }

  #ownCluster(own: ClusterView): ClusterView {
    if (this.#own?.of === own) return this.#own.result
    const { toReal } = this.#translation
    const before = this.#own?.result
    const { podPrefixes, servicePrefixes } = realPrefixes(own, this.#translation)
    const result = {
      ...own,
      podPrefixes: sameOr(before?.podPrefixes, podPrefixes),
      servicePrefixes: sameOr(before?.servicePrefixes, servicePrefixes),
      agents: own.agents.map((agent) => this.#agent(agent, toReal)),
      services: this.#servicesOf(own.services, toReal)
    }
    this.#own = { of: own, result }
    return result
  }

  #agent(view: AgentView, toReal: Direction): AgentView {
    const known = this.#agents.get(view)
    if (known !== undefined) return known
    const { tunnelAddress, nodePrefixes } = view.agent
    const agent = {
      ...view.agent,
      tunnelAddress: tunnelAddress && toReal.ip(tunnelAddress),
      ...(nodePrefixes && { nodePrefixes: nodePrefixes.map((cidr) => toReal.cidr(cidr)) })
    }
    const result = { ...view, agent }
    this.#agents.set(view, result)
    return result
  }

  #servicesOf(services: ClusterView['services'], toReal: Direction): ClusterView['services'] {
    const { of, result } = this.#services
    const edits = changesBetween(of, services).map(
      ({ key, after }) => [key, after && realService(after, toReal)] as const
    )
    this.#services = { of: services, result: result.with(edits) }
    return this.#services.result
  }
}

const NO_SERVICES = { of: new Map<string, ServiceView>(), result: SortedMap.empty<ServiceView>() }

function realService({ service, slices }: ServiceView, toReal: Direction): ServiceView {
  return {
    service: { ...service, clusterIps: service.clusterIps.map((ip) => toReal.ip(ip)) },
    slices: slices.map((slice) => realSlice(slice, toReal))
  }
}

/** A slice whose endpoints are translated when they are first read: most never are (wire/lazy-slice.ts). */
function realSlice(slice: EndpointSliceValue, toReal: Direction): EndpointSliceValue {
  const { kind, namespace, name, service, ports } = slice
  let endpoints: EndpointSliceValue['endpoints'] | undefined
  return {
    kind,
    namespace,
    name,
    service,
    ports,
    get endpoints() {
      return (endpoints ??= movedEndpoints(slice.endpoints, toReal))
    }
  }
}

function sameOr(before: readonly Cidr[] | undefined, now: readonly Cidr[]): readonly Cidr[] {
  const isSame = before?.length === now.length && now.every((cidr, at) => cidr === before[at])
  return isSame ? before : now
}
