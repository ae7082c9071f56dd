// The endpoints that other clusters may reach with the setting `reach: services`: the ready endpoints of this cluster's
// exported services, each with its address, protocol and port. An endpoint whose services are all for named clusters
// (rhizome.io/export-to) is open to those only. The result is kept from one view to the next, so that the cost is that of
// the changed services.
import type { Filter, HostEndpoint, SourceEndpoint } from './host-state.ts'
import { REACHABLE_MAX } from './host-limits.ts'
import { sortedTexts } from './normalize.ts'
import { familyOf } from '../model/cidr.ts'
import { outermost } from '../model/prefix-holder.ts'
import { changesBetween } from '../model/sorted-map.ts'
import type { ClusterName, Ip } from '../model/values.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import { servingAddresses } from './virtual-servers.ts'

type Services = ReadonlyMap<string, ServiceView>

const NO_SERVICES: Services = new Map()

/** Result of `Reachable.follow`. */
interface ReachableEndpoints {
  /** Open to all clusters. Sorted, at most REACHABLE_MAX. */
  readonly endpoints: readonly HostEndpoint[]
  /** Open to these clusters only, in the order of endpoints. */
  readonly limited: ReadonlyMap<HostEndpoint, ReadonlySet<ClusterName>>
  /** How many endpoints are left out because of the limit. */
  readonly leftOut: number
}

/** Collects the endpoints, and keeps its result between calls. */
export class Reachable {
  #services = NO_SERVICES
  readonly #byService = new Map<string, readonly HostEndpoint[]>()
  /** The clusters of each service that is for some only. */
  readonly #clusters = new Map<string, readonly ClusterName[]>()
  #all: ReachableEndpoints = { endpoints: [], limited: new Map(), leftOut: 0 }

  /** Returns the endpoints of these services; the same object while none has changed. */
  follow(services: Services): ReachableEndpoints {
    const changes = changesBetween(this.#services, services)
    this.#services = services
    for (const { key, after } of changes) {
      this.#clusters.delete(key)
      if (after === undefined) this.#byService.delete(key)
      else this.#byService.set(key, endpointsOf(after))
      if (after?.service.exportTo !== undefined) this.#clusters.set(key, after.service.exportTo)
    }
    if (changes.length === 0) return this.#all
    const open = [...this.#byService].filter(([key]) => !this.#clusters.has(key))
    const all = sortedTexts(open.flatMap(([, endpoints]) => endpoints))
    this.#all = {
      endpoints: all.slice(0, REACHABLE_MAX),
      limited: this.#limited(new Set(all)),
      leftOut: Math.max(0, all.length - REACHABLE_MAX)
    }
    return this.#all
  }

  /** An endpoint of two limited services is open to the clusters of both. */
  #limited(open: ReadonlySet<HostEndpoint>): ReachableEndpoints['limited'] {
    const found = new Map<HostEndpoint, Set<ClusterName>>()
    for (const [key, clusters] of this.#clusters)
      for (const endpoint of this.#byService.get(key) ?? []) {
        if (open.has(endpoint)) continue
        const known = found.get(endpoint) ?? new Set()
        for (const cluster of clusters) known.add(cluster)
        found.set(endpoint, known)
      }
    return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)))
  }
}

/** Returns what the filter opens to other clusters. The limit counts what is open to all first. */
export function openTo(
  remote: readonly Pick<ClusterView, 'name' | 'podPrefixes'>[],
  { endpoints, limited, leftOut }: ReachableEndpoints
): { readonly filter: Pick<Filter, 'reachable' | 'reachableFrom'>; readonly leftOut: number } {
  const room = REACHABLE_MAX - endpoints.length
  const pairs: SourceEndpoint[] = []
  let beyond = 0
  for (const [endpoint, clusters] of limited) {
    // The kernel refuses a set in which one source is inside another, and a member may announce such prefixes.
    const sources = outermost(
      remote
        .filter(({ name }) => clusters.has(name))
        .flatMap(({ podPrefixes }) => podPrefixes)
        .filter((prefix) => familyOf(prefix) === familyOf(addressOf(endpoint)))
    )
    // All sources of an endpoint, or none: else which clusters reach it would depend on their order.
    if (pairs.length + sources.length > room) beyond++
    else pairs.push(...sources.map((source): SourceEndpoint => `${source} ${endpoint}`))
  }
  return { filter: { reachable: endpoints, reachableFrom: pairs }, leftOut: leftOut + beyond }
}

function addressOf(endpoint: HostEndpoint): Ip {
  return endpoint.slice(0, endpoint.indexOf(' ')) as Ip
}

/** Returns the endpoints that get the traffic of one service. */
function endpointsOf(view: ServiceView): readonly HostEndpoint[] {
  return servingAddresses(view).flatMap(({ ports, addresses }) =>
    addresses.flatMap((ip) => ports.map(({ protocol, port }): HostEndpoint => `${ip} ${protocol} ${port}`))
  )
}
