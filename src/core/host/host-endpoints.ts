// Endpoints that are the gateway itself: pods with hostNetwork have the address of their node, so what is for them ends at the host and passes
// its input chain, where nothing else is open. Kept from one view to the next: a changed service costs what it is itself.
import { HOST_ENDPOINTS_MAX } from './host-limits.ts'
import type { HostEndpoint } from './host-state.ts'
import { sortedEndpoints } from './normalize.ts'
import type { Ip } from '../model/values.ts'
import { changesBetween } from '../model/sorted-map.ts'
import type { ServiceView } from '../view/view.ts'

type Services = ReadonlyMap<string, ServiceView>

const NO_SERVICES: Services = new Map()

export class HostEndpoints {
  #services = NO_SERVICES
  #addresses = ''
  /** Of the services that have any. */
  readonly #byService = new Map<string, readonly HostEndpoint[]>()
  #all: readonly HostEndpoint[] = []

  /** Of the services that a cluster exports, those at one of `addresses`: the first HOST_ENDPOINTS_MAX in their order. */
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
    if (!isSame)
      this.#all = sortedEndpoints([...this.#byService.values()].flat()).slice(0, HOST_ENDPOINTS_MAX)
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
