// Reverse names: from an address to the names of its service or endpoint (in-addr.arpa, RFC 1035 3.5; ip6.arpa, RFC
// 3596 2.5). names.ts asks for addresses inside the prefixes of the mesh.
import type { Ip } from '../model/values.ts'
import { changesBetween } from '../model/sorted-map.ts'
import { serviceDomain } from '../model/zones.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import type { DomainName } from './record.ts'
import { AddressIndex } from './address-index.ts'
import { endpointLabel, isPublished } from './service-names.ts'

/** A source of reverse names for one cluster. */
export interface ReverseLookup {
  /**
   * The names of an address. A service IP has the name of its service; a published endpoint has its name in each of
   * its services. Empty: no name.
   */
  lookup(cluster: ClusterView, address: Ip): readonly DomainName[]
}

/**
 * The reverse names of one cluster inside the agent. It follows the cluster's view by comparing service objects, so
 * one changed service of 10,000 costs one re-indexing. Views may be passed in any order; an old one only costs more
 * time.
 */
export class ReverseIndex implements ReverseLookup {
  private services: ReadonlyMap<string, ServiceView> = new Map()
  private readonly table = new ReverseTable()

  lookup(cluster: ClusterView, address: Ip): readonly DomainName[] {
    this.follow(cluster.services)
    return this.table.lookup(cluster, address)
  }

  /** Updates the table to these services. Reads only services that are another object than in the last call. */
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

/**
 * An index that is told about each service when it changes (`learn`, `forget`). A forgotten service may still be a
 * candidate, so `lookup` checks each candidate against the view.
 */
export class ReverseTable implements ReverseLookup {
  private index = new AddressIndex()
  /** The id of each service in the index; `keys` has the service of each id. */
  private ids = new Map<string, number>()
  private keys: string[] = []
  /** The number of addresses of the current services. The index also has addresses that services had before. */
  private live = 0
  /** A new table that is being filled. It replaces this one when it knows all services. */
  private next: { readonly table: ReverseTable; readonly rest: Iterator<[string, ServiceView]> } | undefined

  /**
   * Whether the index has over 1024 entries more than twice the current addresses, or a new table is being filled.
   */
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
    // Sorted, so that the answer does not depend on the order in which services arrived. Of two services with one
    // address, the first name wins.
    const [first] = services.sort()
    return first === undefined ? [...names].sort() : [first]
  }

  /** Adds the addresses of a new or changed service. */
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

  /** Counts the addresses of a service that was removed, or is about to be learnt again. */
  forget(view: ServiceView): void {
    this.live -= count(addresses(view))
    this.next?.table.forget(view)
  }

  /**
   * Continues to build a table without stale entries, and reads at most `steps` services. Call it while the table is
   * stale.
   */
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

// Fewer stale entries are not worth a pass over all services.
const STALE_SLACK = 1024

function count(items: Iterable<unknown>): number {
  let total = 0
  for (const _ of items) total++
  return total
}

/** Every address of a service: its service IPs and its published endpoints. */
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
