// The objects under one path of the feed: those of one cluster, or of all clusters merged. feed.ts applies changes of
// services to it and gets the events for watches.
import type { Ip } from '../model/values.ts'
import type { EventType } from './event-log.ts'
import {
  bodyText,
  placedObjects,
  type Holder,
  type Placed,
  type ResourceName,
  type Scope,
  type Source
} from './objects.ts'

/**
 * An object of a collection. It is immutable: a change makes another entry, so a list that is being sent does not
 * change.
 */
export interface Entry {
  /** "<namespace>/<name>", or the name of a namespace. */
  readonly key: string
  readonly namespace: string
  readonly name: string
  /** The version of the last change; rises with each event of the feed. */
  readonly resourceVersion: number
  readonly source: Source
}

/** One event for watches. */
export interface ChangedObject {
  readonly type: EventType
  readonly resource: ResourceName
  /** For DELETED: the object as it was last, with the version of its deletion. */
  readonly entry: Entry
  /** For MODIFIED: what the object was made of before; undefined for the other types. */
  readonly before: Source | undefined
}

/** The new holders of a service, that is, the clusters that have it; empty: the service is gone. */
export interface ServiceChange {
  readonly key: string
  readonly holders: readonly Holder[]
  /** The one address that stands for all holders, when a policy balances the service. */
  readonly address?: Ip
}

/** Namespaces, services and slices of one path, with the holders of each service. */
export class Collection {
  readonly name: string
  readonly #scope: Scope
  readonly #holders = new Map<string, readonly Holder[]>()
  readonly #entries: Record<ResourceName, Map<string, Entry>> = {
    namespaces: new Map(),
    services: new Map(),
    endpointslices: new Map()
  }
  /** The number of services in each namespace. A namespace exists as long as it has a service. */
  readonly #population = new Map<string, number>()
  /** The sorted keys of each resource, as long as no key is added or removed. */
  readonly #sorted: Partial<Record<ResourceName, readonly string[]>> = {}

  constructor(name: string, scope: Scope) {
    this.name = name
    this.#scope = scope
  }

  /** The number of services. */
  get services(): number {
    return this.#entries.services.size
  }

  get(resource: ResourceName, key: string): Entry | undefined {
    return this.#entries[resource].get(key)
  }

  /** The entries in the order of their keys. */
  *entries(resource: ResourceName): Iterable<Entry> {
    const entries = this.#entries[resource]
    const keys = (this.#sorted[resource] ??= [...entries.keys()].sort())
    for (const key of keys) {
      const entry = entries.get(key)
      if (entry !== undefined) yield entry
    }
  }

  /** The services that have holders, "<namespace>/<name>". */
  keys(): Iterable<string> {
    return this.#holders.keys()
  }

  /**
   * Applies new holders and returns the events, in an order in which no reader sees a service without its namespace
   * or endpoints. `version` is called once for each event, in that order, and returns its resource version.
   */
  apply(changes: readonly ServiceChange[], version: () => number): readonly ChangedObject[] {
    const before = new Map<string, { readonly resource: ResourceName; readonly entry: Entry }>()
    const after: Placed[] = []
    for (const { key, holders, address } of changes) {
      for (const placed of placedObjects(this.#holders.get(key) ?? [], this.#scope)) {
        const entry = this.#entries[placed.resource].get(keyOf(placed))
        if (entry !== undefined)
          before.set(`${placed.resource} ${entry.key}`, { resource: placed.resource, entry })
      }
      if (holders.length === 0) this.#holders.delete(key)
      else this.#holders.set(key, holders)
      after.push(...placedObjects(holders, this.#scope, address))
    }
    const changed: ChangedObject[] = []
    for (const placed of this.#newNamespaces(before, after))
      changed.push(this.#put(placed, undefined, version()))
    for (const placed of after) {
      const id = `${placed.resource} ${keyOf(placed)}`
      const old = before.get(id)?.entry
      before.delete(id)
      if (old !== undefined && bodyText(old.source) === bodyText(placed.source)) this.#keep(placed, old)
      else changed.push(this.#put(placed, old, version()))
    }
    // A service is deleted before its endpoints, and its namespace last.
    const gone = [...before.values()].sort((left, right) => ORDER[left.resource] - ORDER[right.resource])
    for (const { resource, entry } of gone) changed.push(this.#remove(resource, entry, version()))
    for (const entry of this.#emptyNamespaces(gone))
      changed.push(this.#remove('namespaces', entry, version()))
    return changed
  }

  /** Counts services by namespace, and returns the namespaces that get their first service. */
  #newNamespaces(
    before: ReadonlyMap<string, { readonly resource: ResourceName }>,
    after: readonly Placed[]
  ): readonly Placed[] {
    const first: Placed[] = []
    for (const placed of after) {
      if (placed.resource !== 'services' || before.has(`services ${keyOf(placed)}`)) continue
      const { namespace } = placed
      const count = this.#population.get(namespace) ?? 0
      this.#population.set(namespace, count + 1)
      if (count === 0) {
        const source = { kind: 'namespace', name: namespace } as const
        first.push({ resource: 'namespaces', namespace: '', name: namespace, source })
      }
    }
    return first.filter((placed) => this.get('namespaces', placed.name) === undefined)
  }

  /** Counts removed services by namespace, and returns the namespaces that lost their last one. */
  #emptyNamespaces(
    gone: readonly { readonly resource: ResourceName; readonly entry: Entry }[]
  ): readonly Entry[] {
    const empty: Entry[] = []
    for (const { resource, entry } of gone) {
      if (resource !== 'services') continue
      const count = (this.#population.get(entry.namespace) ?? 0) - 1
      this.#population.set(entry.namespace, count)
      if (count > 0) continue
      this.#population.delete(entry.namespace)
      const namespace = this.get('namespaces', entry.namespace)
      if (namespace !== undefined) empty.push(namespace)
    }
    return empty
  }

  /**
   * Replaces only the source of an entry whose object has not changed, so that later comparisons and texts use the
   * current view.
   */
  #keep({ resource, source }: Placed, old: Entry): void {
    this.#entries[resource].set(old.key, { ...old, source })
  }

  #put(placed: Placed, old: Entry | undefined, resourceVersion: number): ChangedObject {
    const { resource, namespace, name, source } = placed
    const entry: Entry = { key: keyOf(placed), namespace, name, resourceVersion, source }
    this.#entries[resource].set(entry.key, entry)
    if (old === undefined) delete this.#sorted[resource]
    return { type: old === undefined ? 'ADDED' : 'MODIFIED', resource, entry, before: old?.source }
  }

  #remove(resource: ResourceName, entry: Entry, resourceVersion: number): ChangedObject {
    this.#entries[resource].delete(entry.key)
    delete this.#sorted[resource]
    return { type: 'DELETED', resource, entry: { ...entry, resourceVersion }, before: undefined }
  }
}

function keyOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return namespace === '' ? name : `${namespace}/${name}`
}

const ORDER: Readonly<Record<ResourceName, number>> = { services: 0, endpointslices: 1, namespaces: 2 }
