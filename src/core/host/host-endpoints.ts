// Host endpoints are endpoints that are the gateway itself: a pod with hostNetwork has the address of its node, so
// its traffic ends at the host and passes the input chain, which refuses every other port. The result is kept from
// one view to the next, so that the cost is that of the changed services.
import { HOST_ENDPOINTS_MAX } from './host-limits.ts'
import type { HostEndpoint } from './host-state.ts'
import { sortedTexts } from './normalize.ts'
import type { Ip } from '../model/values.ts'
import { changesBetween } from '../model/sorted-map.ts'
import type { ServiceView } from '../view/view.ts'

type Services = ReadonlyMap<string, ServiceView>

const NO_SERVICES: Services = new Map()

/** Finds the endpoints of exported services that are addresses of this host, and keeps its result between calls. */
export class HostEndpoints {
  #services = NO_SERVICES
  #addresses = ''
  /** Holds only the services that have host endpoints. */
  readonly #byService = new Map<string, readonly HostEndpoint[]>()
  #all: readonly HostEndpoint[] = []

  /**
   * Returns the endpoints of `services` that are at one of `addresses`: sorted by code units, at most
   * HOST_ENDPOINTS_MAX.
   */
  follow(services: Services, addresses: readonly Ip[]): readonly HostEndpoint[] {
    const key = addresses.join(' ')
    if (key !== this.#addresses) {
      this.#addresses = key
      this.#services = NO_SERVICES
      this.#byService.clear()
      this.#all = []
    }
    const own = new Set(addresses)
    let isSame = true
    for (const { key: name, after } of own.size === 0 ? [] : changesBetween(this.#services, services)) {
      const found = after === undefined ? [] : endpointsAt(after, own)
      if (found.length === 0 && !this.#byService.has(name)) continue
      if (found.length === 0) this.#byService.delete(name)
      else this.#byService.set(name, found)
      isSame = false
    }
    this.#services = services
    if (!isSame) this.#all = sortedTexts([...this.#byService.values()].flat()).slice(0, HOST_ENDPOINTS_MAX)
    return this.#all
  }
}

function endpointsAt({ slices }: ServiceView, own: ReadonlySet<Ip>): readonly HostEndpoint[] {
  return slices.flatMap((slice) =>
    slice.endpoints.flatMap(({ addresses }) =>
      addresses
        .filter((ip) => own.has(ip))
        .flatMap((ip) => slice.ports.map(({ protocol, port }): HostEndpoint => `${ip} ${protocol} ${port}`))
    )
  )
}
