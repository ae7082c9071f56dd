// The services of one cluster, as its speaker announces them. The catalogue is kept between two views and follows the
// log of the speaker's replica, so a changed record costs what its own service costs, however many services there are
// (docs/decisions/0061).
// Invariants
//   1. `services` and `refusals` are those that reading all records anew would give.
//   2. What did not change is the same object: a service, and the map of all services.
//   3. A service whose field exportTo does not name this agent's cluster is not in the catalogue of another cluster
//      (docs/decisions/0078).
import { isSliceKey, type Authorised, type Authoriser, type Prefixes, type ViewRecord } from './authorise.ts'
import type { ClusterName, EndpointSliceValue, Origin, ServiceValue } from '../model/values.ts'
import { mayExport, namespaceOf } from '../model/namespaces.ts'
import { compareKeys, SortedMap, type Edit } from '../model/sorted-map.ts'
import type { Refusal, ServiceView } from './view.ts'

/** What the content of a catalogue depends on. */
interface Source {
  readonly speaker: Origin
  readonly prefixes: Prefixes
  /** Namespaces that the cluster may export; empty: all. The same list while they are equal. */
  readonly namespaces: readonly string[]
  /** The cluster of this agent, when the catalogue is that of another: services for other clusters are left out. */
  readonly reader: ClusterName | undefined
  /** An object that is the same as long as the speaker's records are the same; undefined: not known. */
  readonly version: object | undefined
}

/** The source with access to the speaker's records. */
interface Told extends Source {
  /** All live records of the speaker. */
  readonly records: () => Iterable<ViewRecord>
  /** The live record under a key; the function itself is undefined when records cannot be read singly. */
  readonly record: ((key: string) => ViewRecord | undefined) | undefined
  /** The keys whose records differ from those at that version; undefined: any may differ. */
  readonly keysSince: (version: object) => Iterable<string> | undefined
}

/** One instance for each cluster, held by view-cache.ts. */
export class Catalogue {
  readonly #authoriser: Authoriser
  #last: Source | undefined
  #services = SortedMap.empty<ServiceView>()
  /** The service of each slice by record key, because a slice may be deleted or move to another service. */
  #serviceOf = new Map<string, string>()
  /** Slices whose service is not there, by "<namespace>/<name>". They appear as soon as the service does. */
  #waiting = new Map<string, readonly EndpointSliceValue[]>()
  /** The refusals by record key, as a map that can be edited; `#refusals` lists its values. */
  #reasons = SortedMap.empty<Refusal>()
  #refusals: readonly Refusal[] = []

  constructor(authoriser: Authoriser) {
    this.#authoriser = authoriser
  }

  get services(): ReadonlyMap<string, ServiceView> {
    return this.#services
  }

  /** The refused records in the order of their keys. */
  get refusals(): readonly Refusal[] {
    return this.#refusals
  }

  /**
   * Brings the catalogue up to date. It reads nothing when the version is the same, the changed keys when they are
   * known, and all records when the speaker or the prefixes changed.
   */
  follow(told: Told): void {
    const last = this.#last
    const { speaker, prefixes, namespaces, reader, version } = told
    this.#last = { speaker, prefixes, namespaces, reader, version }
    const before = last && isSameSource(last, told) ? last.version : undefined
    if (before !== undefined && before === told.version) return
    const changed = before && told.record && told.keysSince(before)
    if (changed === undefined) this.#readAll(told)
    else this.#edit(changed, told)
  }

  #readAll(told: Told): void {
    this.#serviceOf = new Map()
    const services = new Map<string, ServiceValue>()
    const slices = new Map<string, EndpointSliceValue[]>()
    const reasons: Edit<Refusal>[] = []
    for (const record of told.records()) {
      if (!isOfCatalogue(record.key)) continue
      const { value, serviceKey, reason } = this.#authorise(record, told)
      if (reason !== undefined) reasons.push([record.key, refusal(told, record.key, reason)])
      if (value?.kind === 'service') services.set(serviceKey, value)
      else if (value?.kind === 'endpointSlice') {
        this.#serviceOf.set(record.key, serviceKey)
        const list = slices.get(serviceKey)
        if (list === undefined) slices.set(serviceKey, [value])
        else list.push(value)
      }
    }
    for (const list of slices.values()) if (list.length > 1) list.sort(byName)
    this.#setServices(services, slices)
    this.#setReasons(SortedMap.from(reasons as [string, Refusal][]))
  }

  #authorise(record: ViewRecord, { prefixes, namespaces, reader }: Told): Authorised {
    const { key } = record
    if (mayExport(key, namespaces)) return forReader(this.#authoriser.authorise(record, prefixes), reader)
    const reason = `the invite of its cluster does not name the namespace ${namespaceOf(key)}`
    return { value: undefined, serviceKey: '', reason }
  }

  #setServices(
    services: ReadonlyMap<string, ServiceValue>,
    slices: Map<string, readonly EndpointSliceValue[]>
  ): void {
    const before = this.#services
    const edits: Edit<ServiceView>[] = []
    for (const [key, service] of services) {
      edits.push([key, kept(before.get(key), { service, slices: slices.get(key) ?? NO_SLICES })])
      slices.delete(key)
    }
    for (const key of before.keys()) if (!services.has(key)) edits.push([key, undefined])
    this.#services = before.with(edits)
    this.#waiting = slices
  }

  #edit(keys: Iterable<string>, told: Told): void {
    const batch = new Batch(this.#services, this.#waiting)
    const reasons: Edit<Refusal>[] = []
    for (const key of keys) {
      if (!isOfCatalogue(key)) continue
      const record = told.record?.(key)
      const said = record && this.#authorise(record, told)
      reasons.push([key, said?.reason === undefined ? undefined : refusal(told, key, said.reason)])
      if (isSliceKey(key)) this.#moveSlice(key, said, batch)
      else batch.setService(serviceKeyOf(key), said?.value?.kind === 'service' ? said.value : undefined)
    }
    this.#services = this.#services.with(batch.edits())
    this.#setReasons(this.#reasons.with(reasons))
  }

  #moveSlice(key: string, said: Authorised | undefined, batch: Batch): void {
    const before = this.#serviceOf.get(key)
    const slice = said?.value?.kind === 'endpointSlice' ? said.value : undefined
    const after = slice && said?.serviceKey
    if (before !== undefined && before !== after) batch.removeSlice(before, sliceNameOf(key))
    if (slice === undefined || after === undefined) {
      this.#serviceOf.delete(key)
      return
    }
    this.#serviceOf.set(key, after)
    batch.setSlice(after, slice)
  }

  #setReasons(reasons: SortedMap<Refusal>): void {
    if (reasons === this.#reasons) return
    this.#reasons = reasons
    this.#refusals = [...reasons.values()]
  }
}

/** The services that a batch of records changes, before they go into the map. */
class Batch {
  readonly #services: SortedMap<ServiceView>
  readonly #waiting: Map<string, readonly EndpointSliceValue[]>
  readonly #touched = new Map<string, Draft>()

  constructor(services: SortedMap<ServiceView>, waiting: Map<string, readonly EndpointSliceValue[]>) {
    this.#services = services
    this.#waiting = waiting
  }

  setService(serviceKey: string, service: ServiceValue | undefined): void {
    this.#draft(serviceKey).service = service
  }

  setSlice(serviceKey: string, slice: EndpointSliceValue): void {
    const { slices } = this.#draft(serviceKey)
    slices.set(slice.name, slice)
  }

  removeSlice(serviceKey: string, name: string): void {
    this.#draft(serviceKey).slices.delete(name)
  }

  /**
   * Returns the edits of the map of services that this batch makes. It also updates `#waiting`, the slices whose
   * service does not exist yet.
   */
  *edits(): Iterable<Edit<ServiceView>> {
    for (const [key, { service, slices }] of this.#touched) {
      const sorted = slices.size > 1 ? [...slices.values()].sort(byName) : [...slices.values()]
      if (service === undefined && sorted.length > 0) this.#waiting.set(key, sorted)
      else this.#waiting.delete(key)
      yield [key, service && kept(this.#services.get(key), { service, slices: sorted })]
    }
  }

  /**
   * The service as this batch has changed it so far. The first call for a service copies its state from before the
   * batch.
   */
  #draft(serviceKey: string): Draft {
    const known = this.#touched.get(serviceKey)
    if (known !== undefined) return known
    const view = this.#services.get(serviceKey)
    const slices = view?.slices ?? this.#waiting.get(serviceKey) ?? []
    const draft = { service: view?.service, slices: new Map(slices.map((slice) => [slice.name, slice])) }
    this.#touched.set(serviceKey, draft)
    return draft
  }
}

/** A service under change; `service` undefined: there is none, only slices. */
interface Draft {
  service: ServiceValue | undefined
  readonly slices: Map<string, EndpointSliceValue>
}

const NO_SLICES: readonly EndpointSliceValue[] = []

function isSameSource(last: Source, now: Source): boolean {
  return (
    last.speaker === now.speaker &&
    last.prefixes.podPrefixes === now.prefixes.podPrefixes &&
    last.prefixes.servicePrefixes === now.prefixes.servicePrefixes &&
    last.namespaces === now.namespaces &&
    last.reader === now.reader
  )
}

/**
 * Leaves out a service that its cluster exports to others only. It is no refusal, because nothing is wrong with it. Its
 * slices wait for it, and are not seen either.
 */
function forReader(said: Authorised, reader: ClusterName | undefined): Authorised {
  if (reader === undefined || said.value?.kind !== 'service') return said
  const { exportTo } = said.value
  return exportTo === undefined || exportTo.includes(reader) ? said : { ...said, value: undefined }
}

/** Whether a record is a service or a slice. */
function isOfCatalogue(key: string): boolean {
  return key !== 'agent' && key !== 'cluster'
}

function refusal({ speaker }: Told, key: string, reason: string): Refusal {
  return { origin: speaker, key, reason }
}

/** The old object when it has the same content (invariant 2). */
function kept(before: ServiceView | undefined, after: ServiceView): ServiceView {
  const isSame =
    before?.service === after.service &&
    before.slices.length === after.slices.length &&
    before.slices.every((slice, index) => slice === after.slices[index])
  return isSame ? before : after
}

/** "<namespace>/<name>" from the record key "svc/<namespace>/<name>". */
function serviceKeyOf(key: string): string {
  return key.slice('svc/'.length)
}

/** The name of the slice from the record key "eps/<namespace>/<slice>". */
function sliceNameOf(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1)
}

function byName(left: EndpointSliceValue, right: EndpointSliceValue): number {
  return compareKeys(left.name, right.name)
}
