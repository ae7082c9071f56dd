// The state behind the list/watch API: a collection for each cluster and one for all, and the log of their changes.
//
// Invariants
//   1. A resource version is never used twice nor goes back, over restarts too: it starts at the clock's milliseconds times
//      1,000, which no agent overtakes with fewer than a million changes a second. A client that comes from an earlier
//      run is below the log's floor and lists anew.
//   2. Empty is never taken for true: a cluster's collection is `pending` until its catalogue has been whole once, and `all`
//      until all that are alive have been, or one has and GRACE_MS are over (one broken cluster must not take
//      the names of the others). What has been served stays while a catalogue is not whole: fail static.
//   3. A cluster that left the mesh in this run is an empty collection, so that readers that missed its deletes forget it, too.
//      A withdrawn one keeps its collection, as it keeps its zone, and is left out of `all`.
import type { ClusterName } from '../model/values.ts'
import { changesBetween } from '../model/sorted-map.ts'
import type { ClusterView, MeshView, ServiceView } from '../view/view.ts'
import { Collection, type ChangedObject, type Entry, type ServiceChange } from './collection.ts'
import { EVENT_LOG_LIMITS, EventLog, type EventLogLimits, type FeedEvent } from './event-log.ts'
import { facetsOf, objectText, type Holder, type ResourceName } from './objects.ts'

export interface FeedInput {
  readonly view: MeshView
  /** Absent: none is withdrawn. */
  readonly withdrawn?: (cluster: ClusterName) => boolean
  /** Unix milliseconds. */
  readonly nowMs: number
}

/** `pending`: not known as a whole yet, to be asked again. `unknown`: no such path. */
type CollectionState = 'serving' | 'pending' | 'unknown'

export interface CollectionRow {
  readonly name: string
  readonly state: CollectionState
  readonly services: number
}

/** The path of the merged collection; no cluster may have this name (model/zones.ts). */
export const ALL = 'all'
/** Milliseconds that `all` waits for the last clusters after the first view: a start from disk takes less. */
export const GRACE_MS = 10_000
/** Clusters that left and are remembered as empty. */
const GONE_MAX = 1024

export class Feed {
  readonly #collections = new Map<string, Collection>()
  readonly #serving = new Set<string>()
  /** What each collection was made from. */
  readonly #sources = new Map<ClusterName, ReadonlyMap<string, ServiceView>>()
  #merged: ReadonlyMap<ClusterName, ReadonlyMap<string, ServiceView>> = new Map()
  readonly #log: EventLog
  readonly #floors = new Map<string, number>()
  #version: number
  #known: ReadonlySet<string> = new Set()
  readonly #gone = new Set<string>()
  #graceEndMs: number | undefined

  constructor(options: { readonly nowMs: number; readonly log?: EventLogLimits }) {
    this.#version = options.nowMs * 1000
    this.#log = new EventLog(this.#version, options.log ?? EVENT_LOG_LIMITS)
  }

  get resourceVersion(): number {
    return this.#version
  }

  /** The collections that have new events. What did not change is found by the identity of its view. */
  update({ view, withdrawn = () => false, nowMs }: FeedInput): ReadonlySet<string> {
    this.#graceEndMs ??= nowMs + GRACE_MS
    this.#forgetOthers(view)
    const changed = new Set<string>()
    for (const cluster of view.clusters.values()) {
      if (cluster.complete && this.#follow(cluster)) changed.add(cluster.name)
    }
    for (const name of this.#gone) {
      if (this.#empty(name as ClusterName)) changed.add(name)
    }
    if (this.#followAll(view, withdrawn)) changed.add(ALL)
    const live = [...view.clusters.values()].filter(({ name }) => !withdrawn(name))
    const whole = live.filter(({ name }) => this.#sources.has(name))
    if (whole.length > 0 && whole.length === live.length) this.#serve(ALL)
    return changed
  }

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

  rows(nowMs: number): readonly CollectionRow[] {
    return [...new Set([...this.#known, ALL])].sort().map((name) => ({
      name,
      state: this.state(name, nowMs),
      services: this.#collections.get(name)?.services ?? 0
    }))
  }

  /** In key order; a snapshot may be taken by copying, as entries are immutable. */
  entries(name: string, resource: ResourceName): Iterable<Entry> {
    return this.#collections.get(name)?.entries(resource) ?? []
  }

  entry(name: string, resource: ResourceName, key: string): Entry | undefined {
    return this.#collections.get(name)?.get(resource, key)
  }

  /** Whether a watch of this collection can go on from there. */
  resumable(name: string, version: number): boolean {
    return (
      version >= this.#log.floor &&
      version >= (this.#floors.get(name) ?? Infinity) &&
      version <= this.#version
    )
  }

  /** The first event after `version`, of any collection: walk with the versions of what is returned. */
  eventAfter(version: number): FeedEvent | undefined {
    return this.#log.after(version)
  }

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

  #followAll(view: MeshView, withdrawn: (cluster: ClusterName) => boolean): boolean {
    const before = this.#merged
    const after = new Map<ClusterName, ReadonlyMap<string, ServiceView>>()
    // The view's order is that of names: which cluster's alias wins does not depend on who came first.
    for (const name of view.clusters.keys()) {
      const services = this.#sources.get(name)
      if (services !== undefined && !withdrawn(name)) after.set(name, services)
    }
    this.#merged = after
    const keys = new Set<string>()
    for (const name of new Set([...before.keys(), ...after.keys()])) {
      for (const key of changedKeys(before.get(name), after.get(name))) keys.add(key)
    }
    const changes = Array.from(keys, (key): ServiceChange => {
      const holders: Holder[] = []
      for (const [cluster, services] of after) {
        const view = services.get(key)
        if (view !== undefined) holders.push({ cluster, view })
      }
      return { key, holders }
    })
    return this.#apply(ALL, changes)
  }

  /** Nobody reads a collection that does not serve yet, so what fills it is not logged. */
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

  #serve(name: string): void {
    if (this.#serving.has(name)) return
    this.#serving.add(name)
    this.#floors.set(name, this.#version)
  }

  #forgetOthers(view: MeshView): void {
    const known = new Set<string>(view.clusters.keys())
    for (const name of this.#known) if (!known.has(name) && this.#serving.has(name)) this.#gone.add(name)
    // Back again, and perhaps not whole yet: its readers list anew when it is.
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

const NONE: ReadonlyMap<string, ServiceView> = new Map()

function changedKeys(
  before: ReadonlyMap<string, ServiceView> = NONE,
  after: ReadonlyMap<string, ServiceView> = NONE
): readonly string[] {
  return changesBetween(before, after).map(({ key }) => key)
}
