// The names of a responder that is told of them (names-feed.ts), service by service. A message takes time in proportion to itself, not to the
// mesh, and endpoints stay bytes until they are asked for.
// Invariants:
//  1. After a feed's `whole`, the names are those of the feeding agent's view.
//  2. What an earlier feed told stays until this one tells otherwise, or `whole`.
import { decodeValue } from '../wire/value-codec.ts'
import { lazySlice } from '../wire/lazy-slice.ts'
import type { Cidr, ClusterName, EndpointSliceValue, Ip } from '../model/values.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import { createNames, type Names } from './names.ts'
import type { NamesMessage } from './names-feed.ts'
import { ReverseTable } from './reverse.ts'

interface Fed {
  view: ClusterView
  readonly services: Map<string, ServiceView>
  readonly namespaces: Map<string, number>
  readonly reverse: ReverseTable
  /** Of the feed that told of the cluster last, and of each service. */
  feed: number
  readonly feeds: Map<string, number>
}

/** Services read for a table of reverse names without leavings, for each message. */
const RENEW_STEPS = 4

export class FedNames {
  readonly #clusters = new Map<ClusterName, Fed>()
  #withdrawn: ReadonlySet<ClusterName> = new Set()
  #servers: readonly Ip[] = []
  #feed = 0
  #serial = 0
  #names: Names | undefined

  /** Another agent tells from here on. */
  begin(): void {
    this.#feed++
  }

  /** Clusters with a whole catalogue. */
  complete(): readonly ClusterName[] {
    return [...this.#clusters.values()].filter(({ view }) => view.complete).map(({ view }) => view.name)
  }

  get services(): number {
    return [...this.#clusters.values()].reduce((sum, { services }) => sum + services.size, 0)
  }

  /** As of the messages so far; the same object until the next one. */
  names(): Names {
    this.#names ??= createNames({
      view: {
        self: '' as ClusterName,
        // In name order, as every view.
        clusters: new Map(
          [...this.#clusters].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, { view }]) => [name, view])
        )
      },
      withdrawn: (cluster) => this.#withdrawn.has(cluster),
      serverAddresses: this.#servers,
      serial: ++this.#serial,
      previous: { reverse: new Map([...this.#clusters].map(([name, { reverse }]) => [name, reverse])) }
    })
    return this.#names
  }

  /** Throws on a message that does not follow from those before. */
  apply(message: NamesMessage): void {
    this.#names = undefined
    switch (message.kind) {
      case 'cluster':
        return this.#setCluster(message)
      case 'clusterGone':
        this.#clusters.delete(message.name)
        return
      case 'service':
        return this.#setService(message)
      case 'serviceGone':
        return this.#drop(this.#of(message.cluster), message.key)
      case 'withdrawn':
        this.#withdrawn = new Set(message.clusters)
        return
      case 'servers':
        this.#servers = message.addresses
        return
      case 'whole':
        return this.#forgetOlder()
      default:
        message satisfies never
    }
  }

  #of(name: ClusterName): Fed {
    const fed = this.#clusters.get(name)
    if (fed === undefined) throw new Error(`the cluster ${name} was not told`)
    return fed
  }

  #setCluster(message: Extract<NamesMessage, { kind: 'cluster' }>): void {
    const { name, podPrefixes, servicePrefixes } = message
    const known = this.#clusters.get(name)
    const services = known?.services ?? new Map<string, ServiceView>()
    const complete = message.complete ?? known?.view.complete ?? false
    const view: ClusterView = {
      name,
      podPrefixes,
      servicePrefixes,
      complete,
      services,
      agents: [],
      conflicts: [],
      refusals: []
    }
    if (known === undefined) {
      this.#clusters.set(name, {
        view,
        services,
        namespaces: new Map(),
        reverse: new ReverseTable(),
        feed: this.#feed,
        feeds: new Map()
      })
      return
    }
    known.view = view
    known.feed = this.#feed
    // A catalogue that is whole has all of its services in this feed.
    if (message.complete === true) this.#forgetServices(known)
  }

  #setService({ cluster, key, service, slices }: Extract<NamesMessage, { kind: 'service' }>): void {
    const fed = this.#of(cluster)
    const before = fed.services.get(key)
    const value = service ?? before?.service
    if (value === undefined) throw new Error(`the service ${key} was not told`)
    const known = new Map(before?.slices.map((slice) => [`eps/${slice.namespace}/${slice.name}`, slice]))
    const view: ServiceView = {
      service: value,
      slices: slices.map(({ key: slice, bytes }) => {
        const found = bytes === undefined ? known.get(slice) : sliceOf(slice, bytes)
        if (found === undefined) throw new Error(`the slice ${slice} was not told`)
        return found
      })
    }
    if (before !== undefined) fed.reverse.forget(before)
    fed.services.set(key, view)
    fed.feeds.set(key, this.#feed)
    fed.reverse.learn(key, view)
    if (before === undefined) this.#count(fed, value.namespace, 1)
    if (fed.reverse.isStale) fed.reverse.renew(fed.services, RENEW_STEPS)
  }

  #drop(fed: Fed, key: string): void {
    const view = fed.services.get(key)
    if (view === undefined) return
    fed.services.delete(key)
    fed.feeds.delete(key)
    fed.reverse.forget(view)
    this.#count(fed, view.service.namespace, -1)
    if (fed.reverse.isStale) fed.reverse.renew(fed.services, RENEW_STEPS)
  }

  /** A namespace exists in DNS while it has a service; what is remembered of them belongs to one view object (zone.ts). */
  #count(fed: Fed, namespace: string, by: 1 | -1): void {
    const count = (fed.namespaces.get(namespace) ?? 0) + by
    if (count === 0) fed.namespaces.delete(namespace)
    else fed.namespaces.set(namespace, count)
    if (count === 0 || (count === 1 && by === 1)) fed.view = { ...fed.view }
  }

  #forgetServices(fed: Fed): void {
    for (const [key, feed] of fed.feeds) if (feed !== this.#feed) this.#drop(fed, key)
  }

  #forgetOlder(): void {
    for (const [name, fed] of this.#clusters) {
      if (fed.feed !== this.#feed) this.#clusters.delete(name)
      else this.#forgetServices(fed)
    }
  }
}

const ANY: readonly Cidr[] = ['0.0.0.0/0' as Cidr, '::/0' as Cidr]

/** The agent has checked it against its cluster's certificate. */
function sliceOf(key: string, bytes: Uint8Array): EndpointSliceValue | undefined {
  // A copy: the message's buffer would live as long as its longest-lived slice.
  const own = bytes.slice()
  const lazy = lazySlice({ key, value: own, read: () => own, within: ANY })
  if (lazy !== undefined) return lazy
  const decoded = decodeValue(key, own)
  return decoded.kind === 'invalid' || decoded.value.kind !== 'endpointSlice' ? undefined : decoded.value
}
