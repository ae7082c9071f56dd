// The names in a DNS responder that runs as a process of its own. The agent sends messages about clusters and
// services (names-feed.ts), and this class applies them. A message takes time in proportion to itself, not to the
// mesh, and endpoints stay bytes until a question needs them.
// Invariants
//   1. After the message `whole`, the names are those of the agent's view.
//   2. What an earlier agent sent stays until this agent sends something else for it, or `whole`. So DNS keeps
//      answering while an agent restarts.
import { decodeValue } from '../wire/value-codec.ts'
import { lazySlice } from '../wire/lazy-slice.ts'
import type { Cidr, ClusterName, EndpointSliceValue, Ip } from '../model/values.ts'
import { withinLimits } from '../view/clusterset.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import { createNames, type Names } from './names.ts'
import type { NamesMessage } from './names-feed.ts'
import { ReverseTable } from './reverse.ts'

/** One cluster as the messages describe it. */
interface Fed {
  view: ClusterView
  readonly services: Map<string, ServiceView>
  /** The number of services in each namespace. */
  readonly namespaces: Map<string, number>
  readonly reverse: ReverseTable
  /** The services with a ServiceExport, and those of them within the limits; undefined: to be found again. */
  readonly exports: Set<string>
  exported: ReadonlySet<string> | undefined
  /** The number of the feed that sent this cluster last; `feeds` has it for each service. */
  feed: number
  readonly feeds: Map<string, number>
}

/** How many services each message reads for a new reverse table without stale entries (ReverseTable.renew). */
const RENEW_STEPS = 4

/**
 * A view without certificates, agents and conflicts, made of messages. Messages are applied in the order in which
 * they were sent.
 */
export class FedNames {
  readonly #clusters = new Map<ClusterName, Fed>()
  #withdrawn: ReadonlySet<ClusterName> = new Set()
  #servers: readonly Ip[] = []
  #balanced: ReadonlyMap<string, Ip> = new Map()
  #feed = 0
  #serial = 0
  #names: Names | undefined

  /** Begins a new feed: an agent has connected. */
  begin(): void {
    this.#feed++
  }

  /** The clusters with a complete catalogue; the responder reports them to an agent that connects. */
  complete(): readonly ClusterName[] {
    return [...this.#clusters.values()].filter(({ view }) => view.complete).map(({ view }) => view.name)
  }

  /** The number of services of all clusters. */
  get services(): number {
    return [...this.#clusters.values()].reduce((sum, { services }) => sum + services.size, 0)
  }

  /** The names after all messages so far; the same object until the next message. */
  names(): Names {
    this.#names ??= createNames({
      view: {
        self: '' as ClusterName,
        // A view has its clusters in the order of names.
        clusters: new Map(
          [...this.#clusters].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, { view }]) => [name, view])
        )
      },
      withdrawn: (cluster) => this.#withdrawn.has(cluster),
      serverAddresses: this.#servers,
      balanced: this.#balanced,
      exported: ({ name }) => this.#exported(name),
      serial: ++this.#serial,
      previous: { reverse: new Map([...this.#clusters].map(([name, { reverse }]) => [name, reverse])) }
    })
    return this.#names
  }

  /**
   * Applies one message. Throws an Error on a message that does not follow from those before, for example a service
   * of an unknown cluster.
   */
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
      case 'balanced':
        this.#balanced = new Map(message.addresses)
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

  /** The exports of a cluster. `services` is edited in place, so the list is kept beside it. */
  #exported(name: ClusterName): ReadonlySet<string> {
    const fed = this.#of(name)
    fed.exported ??= withinLimits([...fed.exports])
    return fed.exported
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
        exports: new Set(),
        exported: undefined,
        feed: this.#feed,
        feeds: new Map()
      })
      return
    }
    known.view = view
    known.feed = this.#feed
    // The agent sends all services of a cluster before it says that the catalogue is complete, so services of earlier
    // feeds are gone.
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
    noteExport(fed, key, value.clusterset !== undefined)
    fed.feeds.set(key, this.#feed)
    fed.reverse.learn(key, view)
    if (before === undefined) this.#count(fed, value.namespace, 1)
    if (fed.reverse.isStale) fed.reverse.renew(fed.services, RENEW_STEPS)
  }

  #drop(fed: Fed, key: string): void {
    const view = fed.services.get(key)
    if (view === undefined) return
    fed.services.delete(key)
    noteExport(fed, key, false)
    fed.feeds.delete(key)
    fed.reverse.forget(view)
    this.#count(fed, view.service.namespace, -1)
    if (fed.reverse.isStale) fed.reverse.renew(fed.services, RENEW_STEPS)
  }

  /**
   * Counts services by namespace, since a namespace exists in DNS while it has a service. zone.ts remembers
   * namespaces by the identity of the view, so the view is replaced when a namespace appears or goes.
   */
  #count(fed: Fed, namespace: string, by: 1 | -1): void {
    const count = (fed.namespaces.get(namespace) ?? 0) + by
    if (count === 0) fed.namespaces.delete(namespace)
    else fed.namespaces.set(namespace, count)
    if (count === 0 || (count === 1 && by === 1)) fed.view = { ...fed.view }
  }

  /** Removes the services that the current feed has not sent. */
  #forgetServices(fed: Fed): void {
    for (const [key, feed] of fed.feeds) if (feed !== this.#feed) this.#drop(fed, key)
  }

  /** Removes the clusters and services that the current feed has not sent. */
  #forgetOlder(): void {
    for (const [name, fed] of this.#clusters) {
      if (fed.feed !== this.#feed) this.#clusters.delete(name)
      else this.#forgetServices(fed)
    }
  }
}

/** Notes whether a service has a ServiceExport. */
function noteExport(fed: Fed, key: string, isExported: boolean): void {
  if (fed.exports.has(key) === isExported) return
  if (isExported) fed.exports.add(key)
  else fed.exports.delete(key)
  fed.exported = undefined
}

// Every address is accepted, because the agent has checked slices against their cluster's certificate.
const ANY: readonly Cidr[] = ['0.0.0.0/0' as Cidr, '::/0' as Cidr]

/** A slice from its encoded value; undefined when it cannot be decoded. */
function sliceOf(key: string, bytes: Uint8Array): EndpointSliceValue | undefined {
  // A copy, because the slice would otherwise keep the whole buffer of the message in memory.
  const own = bytes.slice()
  const lazy = lazySlice({ key, value: own, read: () => own, within: ANY })
  if (lazy !== undefined) return lazy
  const decoded = decodeValue(key, own)
  return decoded.kind === 'invalid' || decoded.value.kind !== 'endpointSlice' ? undefined : decoded.value
}
