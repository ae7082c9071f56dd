// Addresses back to names: in-addr.arpa and ip6.arpa (RFC 1035 3.5, RFC 3596 2.5) inside the mesh's prefixes.
import type { Ip } from '../model/values.ts'
import { changesBetween } from '../model/sorted-map.ts'
import { serviceDomain } from '../model/zones.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import type { DomainName } from './record.ts'
import { AddressIndex } from './address-index.ts'
import { endpointLabel, isPublished } from './service-names.ts'

export interface ReverseLookup {
  /** Service IP → the service's name; else published endpoint → its name in each of its services. */
  lookup(cluster: ClusterView, address: Ip): readonly DomainName[]
}

/**
 * Which services an address of one cluster belongs to. Follows the cluster's view by comparing service objects, so that one
 * changed service of 10,000 re-indexes one; correct, only slower, when asked about views in any order.
 */
export class ReverseIndex implements ReverseLookup {
  private services: ReadonlyMap<string, ServiceView> = new Map()
  private readonly table = new ReverseTable()

  lookup(cluster: ClusterView, address: Ip): readonly DomainName[] {
    this.follow(cluster.services)
    return this.table.lookup(cluster, address)
  }

  private follow(services: ReadonlyMap<string, ServiceView>): void {
    if (services === this.services) return
    for (const { key, before, after } of changesBetween(this.services, services)) {
      if (before !== undefined) this.table.forget(before)
      if (after !== undefined) this.table.learn(key, after)
    }
    this.services = services
    while (this.table.isStale) this.table.renew(services, Infinity)
  }
}

/** What is told of each service when it changes; a service that was forgotten may still be a candidate, and is then looked at. */
export class ReverseTable implements ReverseLookup {
  private index = new AddressIndex()
  private ids = new Map<string, number>()
  private keys: string[] = []
  /** Addresses of the services as they are; the index holds those that they had, too. */
  private live = 0
  /** Takes the place of this one when it knows all services. */
  private next: { readonly table: ReverseTable; readonly rest: Iterator<[string, ServiceView]> } | undefined

  get isStale(): boolean {
    return this.next !== undefined || this.index.size > 2 * this.live + STALE_SLACK
  }

  lookup(cluster: ClusterView, address: Ip): readonly DomainName[] {
    const services: DomainName[] = []
    const names = new Set<DomainName>()
    for (const id of this.index.find(address)) {
      const view = cluster.services.get(this.keys[id] ?? '')
      if (view === undefined) continue
      const domain = serviceDomain(cluster.name, view.service)
      if (view.service.clusterIps.includes(address)) services.push(domain)
      for (const endpoint of publishedEndpoints(view)) {
        if (endpoint.addresses.includes(address)) names.add(`${endpointLabel(endpoint, address)}.${domain}`)
      }
    }
    // The same answer, in whatever order services came: of two services with one address the first in order of name.
    const [first] = services.sort()
    return first === undefined ? [...names].sort() : [first]
  }

  learn(key: string, view: ServiceView): void {
    let id = this.ids.get(key)
    if (id === undefined) {
      id = this.keys.push(key) - 1
      this.ids.set(key, id)
    }
    for (const address of addresses(view)) {
      this.index.add(address, id)
      this.live++
    }
    this.next?.table.learn(key, view)
  }

  forget(view: ServiceView): void {
    this.live -= count(addresses(view))
    this.next?.table.forget(view)
  }

  /** A step towards a table without what was forgotten: at most this many services are read. Call while it is stale. */
  renew(services: ReadonlyMap<string, ServiceView>, steps: number): void {
    this.next ??= { table: new ReverseTable(), rest: services.entries() }
    const { table, rest } = this.next
    for (let step = 0; step < steps; step++) {
      const { done, value } = rest.next()
      if (done === true) {
        this.index = table.index
        this.ids = table.ids
        this.keys = table.keys
        this.next = undefined
        return
      }
      const [key, view] = value
      table.learn(key, view)
    }
  }
}

// Stale entries below it are not worth a pass over all services.
const STALE_SLACK = 1024

function count(items: Iterable<unknown>): number {
  let total = 0
  for (const _ of items) total++
  return total
}

function* addresses(view: ServiceView): Iterable<Ip> {
  yield* view.service.clusterIps
  for (const endpoint of publishedEndpoints(view)) yield* endpoint.addresses
}

function* publishedEndpoints(view: ServiceView) {
  for (const slice of view.slices) {
    for (const endpoint of slice.endpoints) {
      if (isPublished(view, endpoint)) yield endpoint
    }
  }
}
