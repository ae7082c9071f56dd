// The state behind the list/watch API for CoreDNS: a collection for each cluster, one for all clusters, and the log
// of their changes. src/io/coredns/server.ts updates it with each new view and serves it over HTTP.
//
// Invariants
//   1. A resource version is never used twice and never decreases, not even over restarts. It starts at the clock's
//      milliseconds times 1,000, which no agent overtakes with fewer than a million changes a second. A client that
//      comes from an earlier run is below the log's floor and lists again.
//   2. An empty collection is never shown before it is known to be true. A cluster's collection is `pending` until
//      its catalogue has been complete once. `all` is pending until every cluster that is not withdrawn has been
//      complete, or until one has and GRACE_MS are over: one broken cluster must not remove the names of the others.
//      Objects that were served stay while a catalogue is incomplete (fail static).
//   3. A cluster that left the mesh in this run has an empty collection, so that readers that missed its deletions
//      forget it, too. A withdrawn cluster keeps its collection, as it keeps its zone, and is left out of `all`.
import type { ClusterName, Ip } from '../model/values.ts'
import { changesBetween } from '../model/sorted-map.ts'
import { isClustersetKey } from '../model/zones.ts'
import type { ClusterView, MeshView, ServiceView } from '../view/view.ts'
import { Collection, type ChangedObject, type Entry, type ServiceChange } from './collection.ts'
import { EVENT_LOG_LIMITS, EventLog, type EventLogLimits, type FeedEvent } from './event-log.ts'
import { facetsOf, objectText, type Holder, type ResourceName } from './objects.ts'

/** The arguments of `Feed.update`. */
export interface FeedInput {
  readonly view: MeshView
  /** Whether a cluster is withdrawn. Absent: no cluster is. */
  readonly withdrawn?: (cluster: ClusterName) => boolean
  /** The one address in `all` of each service that a policy balances, by "<namespace>/<name>". Absent: there are none. */
  readonly balanced?: ReadonlyMap<string, Ip>
  /** The time in Unix milliseconds. */
  readonly nowMs: number
}

/** `pending`: not completely known yet, so the reader must ask again. `unknown`: there is no such path. */
type CollectionState = 'serving' | 'pending' | 'unknown'

/** One collection, for display. */
export interface CollectionRow {
  readonly name: string
  readonly state: CollectionState
  readonly services: number
}

/** The name of the merged collection. No cluster may have it (RESERVED_CLUSTER_NAMES of model/zones.ts). */
export const ALL = 'all'
/**
 * How long `all` waits for the last clusters after the first view, in milliseconds. Reading the state from disk takes
 * less.
 */
export const GRACE_MS = 10_000
/** The number of clusters that left and are remembered as empty collections. */
const GONE_MAX = 1024

/** One instance for each server of the list/watch API. */
export class Feed {
  readonly #collections = new Map<string, Collection>()
  /** The collections that readers may see. */
  readonly #serving = new Set<string>()
  /** The services that each cluster's collection was last made from. */
  readonly #sources = new Map<ClusterName, ReadonlyMap<string, ServiceView>>()
  /** The same for `all`: the services of each cluster in it. */
  #merged: ReadonlyMap<ClusterName, ReadonlyMap<string, ServiceView>> = new Map()
  #balanced: ReadonlyMap<string, Ip> = NO_ADDRESSES
  readonly #log: EventLog
  /** For each collection, the version at which it began to serve; earlier changes of it are not in the log. */
  readonly #floors = new Map<string, number>()
  #version: number
  /** The clusters of the current view. */
  #known: ReadonlySet<string> = new Set()
  /** Clusters that served and have left the mesh. */
  readonly #gone = new Set<string>()
  #graceEndMs: number | undefined

  constructor(options: { readonly nowMs: number; readonly log?: EventLogLimits }) {
    this.#version = options.nowMs * 1000
    this.#log = new EventLog(this.#version, options.log ?? EVENT_LOG_LIMITS)
  }

  /** The version of the last change. */
  get resourceVersion(): number {
    return this.#version
  }

  /**
   * Follows a new view and returns the names of the collections that have new events. Unchanged parts are found by
   * the identity of their views.
   */
  update({ view, withdrawn = () => false, balanced = NO_ADDRESSES, nowMs }: FeedInput): ReadonlySet<string> {
    this.#graceEndMs ??= nowMs + GRACE_MS
    this.#forgetOthers(view)
    const changed = new Set<string>()
    for (const cluster of view.clusters.values()) {
      if (cluster.complete && this.#follow(cluster)) changed.add(cluster.name)
    }
    for (const name of this.#gone) {
      if (this.#empty(name as ClusterName)) changed.add(name)
    }
    if (this.#followAll(view, withdrawn, balanced)) changed.add(ALL)
    const live = [...view.clusters.values()].filter(({ name }) => !withdrawn(name))
    const whole = live.filter(({ name }) => this.#sources.has(name))
    if (whole.length > 0 && whole.length === live.length) this.#serve(ALL)
    return changed
  }

  /** Whether a collection can be read now. The answer for `all` depends on the time (invariant 2). */
  state(name: string, nowMs: number): CollectionState {
    if (this.#graceEndMs === undefined) return 'pending'
    if (this.#serving.has(name)) return 'serving'
    if (name === ALL) {
      if (nowMs < this.#graceEndMs || this.#merged.size === 0) return 'pending'
      this.#serve(ALL)
      return 'serving'
    }
    return this.#known.has(name) ? 'pending' : 'unknown'
  }

  /** One row for each cluster of the current view and one for `all`, sorted by name. */
  rows(nowMs: number): readonly CollectionRow[] {
    return [...new Set([...this.#known, ALL])].sort().map((name) => ({
      name,
      state: this.state(name, nowMs),
      services: this.#collections.get(name)?.services ?? 0
    }))
  }

  /** The objects in the order of their keys. Entries are immutable, so a copy of the list is a snapshot. */
  entries(name: string, resource: ResourceName): Iterable<Entry> {
    return this.#collections.get(name)?.entries(resource) ?? []
  }

  entry(name: string, resource: ResourceName, key: string): Entry | undefined {
    return this.#collections.get(name)?.get(resource, key)
  }

  /** Whether a watch of this collection can continue from a version: its events since then are all in the log. */
  resumable(name: string, version: number): boolean {
    return (
      version >= this.#log.floor &&
      version >= (this.#floors.get(name) ?? Infinity) &&
      version <= this.#version
    )
  }

  /**
   * The first event after `version`, of any collection. To read on, pass the version of the event that was returned.
   */
  eventAfter(version: number): FeedEvent | undefined {
    return this.#log.after(version)
  }

  /** Updates the collection of one cluster, whose catalogue is complete. Returns true when it has new events. */
  #follow({ name, services }: ClusterView): boolean {
    const before = this.#sources.get(name)
    if (before === services) return false
    this.#sources.set(name, services)
    const changes = changedKeys(before, services).map((key): ServiceChange => {
      const view = services.get(key)
      return { key, holders: view === undefined ? [] : [{ cluster: name, view }] }
    })
    return this.#apply(name, changes)
  }

  /** Updates the collection `all` from all clusters that are not withdrawn. Returns true when it has new events. */
  #followAll(
    view: MeshView,
    withdrawn: (cluster: ClusterName) => boolean,
    balanced: ReadonlyMap<string, Ip>
  ): boolean {
    const before = this.#merged
    const after = new Map<ClusterName, ReadonlyMap<string, ServiceView>>()
    // The view has the clusters in the order of names, so it does not depend on their arrival which cluster's alias
    // wins.
    for (const name of view.clusters.keys()) {
      const services = this.#sources.get(name)
      if (services !== undefined && !withdrawn(name)) after.set(name, services)
    }
    this.#merged = after
    const keys = new Set<string>()
    for (const name of new Set([...before.keys(), ...after.keys()])) {
      for (const key of changedKeys(before.get(name), after.get(name))) keys.add(key)
    }
    for (const key of new Set([...this.#balanced.keys(), ...balanced.keys()]))
      // The feed has no collection for clusterset.local: CoreDNS forwards that zone to the responder.
      if (this.#balanced.get(key) !== balanced.get(key) && !isClustersetKey(key)) keys.add(key)
    this.#balanced = balanced
    const changes = Array.from(keys, (key): ServiceChange => {
      const holders: Holder[] = []
      for (const [cluster, services] of after) {
        const view = services.get(key)
        if (view !== undefined) holders.push({ cluster, view })
      }
      const address = balanced.get(key)
      return address === undefined ? { key, holders } : { key, holders, address }
    })
    return this.#apply(ALL, changes)
  }

  /**
   * Applies changes to a collection. The changes that fill a collection before it serves are not logged, because no
   * reader has seen it.
   */
  #apply(name: string, changes: readonly ServiceChange[]): boolean {
    const collection = this.#collections.get(name) ?? new Collection(name, name === ALL ? 'all' : 'cluster')
    this.#collections.set(name, collection)
    const changed = collection.apply(changes, () => ++this.#version)
    if (name !== ALL && !this.#serving.has(name)) {
      this.#serve(name)
      return false
    }
    if (!this.#serving.has(name)) return false
    for (const change of changed) this.#log.append(eventOf(name, change))
    return changed.length > 0
  }

  /** Begins to serve a collection from the current version on. */
  #serve(name: string): void {
    if (this.#serving.has(name)) return
    this.#serving.add(name)
    this.#floors.set(name, this.#version)
  }

  /** Finds the clusters that left since the last view, and forgets the oldest of more than GONE_MAX. */
  #forgetOthers(view: MeshView): void {
    const known = new Set<string>(view.clusters.keys())
    for (const name of this.#known) if (!known.has(name) && this.#serving.has(name)) this.#gone.add(name)
    // The cluster is back, and its catalogue may be incomplete: its readers list again when it is complete.
    for (const name of known) if (this.#gone.delete(name)) this.#serving.delete(name)
    this.#known = known
    for (const name of this.#gone) {
      if (this.#gone.size <= GONE_MAX) break
      this.#gone.delete(name)
      this.#serving.delete(name)
      this.#floors.delete(name)
      this.#collections.delete(name)
    }
  }

  /** Deletes all objects of a cluster that left; false when that was done before. */
  #empty(name: ClusterName): boolean {
    const before = this.#sources.get(name)
    if (before === undefined) return false
    this.#sources.delete(name)
    return this.#apply(
      name,
      Array.from(before.keys(), (key) => ({ key, holders: [] }))
    )
  }
}

function eventOf(collection: string, change: ChangedObject): FeedEvent {
  const { type, resource, entry, before } = change
  const { resourceVersion, namespace, name, source } = entry
  return {
    resourceVersion,
    collection,
    resource,
    type,
    namespace,
    name,
    facets: facetsOf(source),
    facetsBefore: before && facetsOf(before),
    text: objectText(source, resourceVersion)
  }
}

const NO_ADDRESSES: ReadonlyMap<string, Ip> = new Map()
const NONE: ReadonlyMap<string, ServiceView> = new Map()

function changedKeys(
  before: ReadonlyMap<string, ServiceView> = NONE,
  after: ReadonlyMap<string, ServiceView> = NONE
): readonly string[] {
  return changesBetween(before, after).map(({ key }) => key)
}
