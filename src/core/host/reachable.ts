// The endpoints that other clusters may reach with the setting `reach: services`: the ready endpoints of this cluster's
// exported services, each with its address, protocol and port. The result is kept from one view to the next, so that
// the cost is that of the changed services.
import type { HostEndpoint } from './host-state.ts'
import { REACHABLE_MAX } from './host-limits.ts'
import { sortedTexts } from './normalize.ts'
import { changesBetween } from '../model/sorted-map.ts'
import type { ServiceView } from '../view/view.ts'
import { servingAddresses } from './virtual-servers.ts'

type Services = ReadonlyMap<string, ServiceView>

const NO_SERVICES: Services = new Map()

/** Result of `Reachable.follow`. */
interface ReachableEndpoints {
  /** Sorted, at most REACHABLE_MAX. */
  readonly endpoints: readonly HostEndpoint[]
  /** How many endpoints are left out because of the limit. */
  readonly leftOut: number
}

/** Collects the endpoints, and keeps its result between calls. */
export class Reachable {
  #services = NO_SERVICES
  readonly #byService = new Map<string, readonly HostEndpoint[]>()
  #all: ReachableEndpoints = { endpoints: [], leftOut: 0 }

  /** Returns the endpoints of these services; the same object while none has changed. */
  follow(services: Services): ReachableEndpoints {
    const changes = changesBetween(this.#services, services)
    this.#services = services
    for (const { key, after } of changes) {
      if (after === undefined) this.#byService.delete(key)
      else this.#byService.set(key, endpointsOf(after))
    }
    if (changes.length === 0) return this.#all
    const all = sortedTexts([...this.#byService.values()].flat())
    this.#all = {
      endpoints: all.slice(0, REACHABLE_MAX),
      leftOut: Math.max(0, all.length - REACHABLE_MAX)
    }
    return this.#all
  }
}

/** Returns the endpoints that get the traffic of one service. */
function endpointsOf(view: ServiceView): readonly HostEndpoint[] {
  return servingAddresses(view).flatMap(({ ports, addresses }) =>
    addresses.flatMap((ip) => ports.map(({ protocol, port }): HostEndpoint => `${ip} ${protocol} ${port}`))
  )
}
