// The catalog of a source that reports one object at a time, as a watch of the Kubernetes API does. kube-source.ts
// sets objects and calls `settle` after each batch of events. The cost of an event depends on the size of the service
// that it is about, not on the number of services.
// Invariants
//   1. After `settle`, the snapshot equals `catalog()` of all objects that are exported.
//   2. A value that did not change is the same object as before.
//   3. Endpoints are published only while the service that they belong to is known and exported.
import { catalog, type CatalogOptions, type Change, type Item, type Problem } from './catalog.ts'
import { sameData } from '../model/equal.ts'
import { EXPORT_ALL, exportVerdict, type ExportFacts, type ExportPolicy } from './export-policy.ts'
import { namedService } from './home-alias.ts'
import { keyOf, type EndpointSliceValue, type ServiceValue, type Snapshot } from '../model/values.ts'
import { SortedMap, type Edit } from '../model/sorted-map.ts'

/** A Service as it was read, with the facts that the export policy needs. */
interface LiveService {
  readonly item: Item
  readonly facts: ExportFacts
}

/** The exported services and slices after one call of `settle`, and how they differ from those of the call before. */
export interface Settled {
  readonly snapshot: Snapshot
  readonly problems: readonly Problem[]
  /** What differs from the snapshot of the last `settle`, in the order of `changes()`. */
  readonly changes: readonly Change[]
}

/** A ServiceExport of this cluster, and why it exports nothing; undefined: it exports its Service. */
export interface LiveExport extends ObjectName {
  readonly idle?: IdleExport
}

/**
 * `noService`: there is no Service of this name. `alias`: it has the type ExternalName. `kept`: annotation or lists keep it
 * in the cluster. `refused`: the Service has a fault, which `message` names.
 */
export interface IdleExport {
  readonly reason: 'noService' | 'alias' | 'kept' | 'refused'
  readonly message?: string
}

/** The name of an object in its cluster. */
export interface ObjectName {
  readonly namespace: string
  readonly name: string
}

// A wrong prefix causes one problem for each of 10,000 services. A reader is not helped by more than 100 of them.
const PROBLEMS_MAX = 100

/** The set methods only record what changed; `settle` computes. No method throws on the content of an object. */
export class LiveCatalog {
  readonly #policy: ExportPolicy
  readonly #groups = new Map<string, Group>()
  /** The group of each slice by "<namespace>/<name>", because a slice may be deleted or move to another service. */
  readonly #groupOfSlice = new Map<string, string>()
  /** The values of the annotation rhizome.io/export, for the namespaces that have it. */
  readonly #namespaces = new Map<string, boolean>()
  /** Groups that `settle` must read again. */
  readonly #dirty = new Set<string>()
  /**
   * The groups of ExternalNames, by the service "<namespace>/<name>" that the last two labels of their target may
   * name (home-alias.ts). When that service appears or is deleted, these groups are read again.
   */
  readonly #aliasesOf = new Map<string, Set<string>>()
  /** The groups with a ServiceExport. */
  readonly #exports = new Set<string>()
  #services = SortedMap.empty<ServiceValue>()
  #slices = SortedMap.empty<EndpointSliceValue>()
  /** Problems by service, sorted for display. */
  #problems = SortedMap.empty<readonly Problem[]>()
  #options: CatalogOptions = {}
  #settled: Settled = { snapshot: { services: [], endpointSlices: [] }, problems: [], changes: [] }

  constructor(policy: ExportPolicy = EXPORT_ALL) {
    this.#policy = policy
  }

  /**
   * Sets the prefixes and the name of this cluster, which are known only after joining and may change. All groups are
   * read again.
   */
  setOptions(options: CatalogOptions): void {
    if (sameData(options, this.#options)) return
    this.#options = options
    for (const id of this.#groups.keys()) this.#dirty.add(id)
  }

  /**
   * Sets what the annotation rhizome.io/export of a namespace says: `asked` true to export its services, false to
   * keep them in the cluster, undefined when the namespace has no annotation or was deleted.
   */
  setNamespace(name: string, asked: boolean | undefined): void {
    if (this.#namespaces.get(name) === asked) return
    if (asked === undefined) this.#namespaces.delete(name)
    else this.#namespaces.set(name, asked)
    for (const [id, group] of this.#groups) if (group.namespace === name) this.#dirty.add(id)
  }

  /** Sets a Service; undefined: the Service was deleted. */
  setService(of: ObjectName, service: LiveService | undefined): void {
    const group = this.#group(of.namespace, of.name)
    this.#setAlias(group, service && aliasTarget(service.item))
    if ((group.service === undefined) !== (service === undefined))
      for (const id of this.#aliasesOf.get(group.id) ?? []) this.#dirty.add(id)
    group.service = service
    this.#touched(group)
  }

  /** Sets a ServiceExport; undefined: it was deleted. It may come before its Service. */
  setExport(of: ObjectName, item: Item | undefined): void {
    const group = this.#group(of.namespace, of.name)
    group.exported = item
    if (item === undefined) this.#exports.delete(group.id)
    else this.#exports.add(group.id)
    this.#touched(group)
  }

  /** Returns all ServiceExports with what the last `settle` made of them, in no order. */
  exports(): readonly LiveExport[] {
    return [...this.#exports].flatMap((id) => {
      const group = this.#groups.get(id)
      if (group === undefined) return []
      const { namespace, name } = group
      const idle = this.#idle(group)
      return [{ namespace, name, ...(idle && { idle }) }]
    })
  }

  #idle({ id, service, shown }: Group): IdleExport | undefined {
    if (shown.services.some(({ clusterset }) => clusterset !== undefined)) return undefined
    if (service === undefined) return { reason: 'noService' }
    if (isAlias(service.item)) return { reason: 'alias' }
    const message =
      service.item.reading.kind === 'problem'
        ? service.item.reading.message
        : this.#problems.get(id)?.find(({ level }) => level === 'error')?.message
    return message === undefined ? { reason: 'kept' } : { reason: 'refused', message }
  }

  /**
   * Sets an EndpointSlice; undefined: the slice was deleted. `service` is the value of its label
   * kubernetes.io/service-name.
   */
  setSlice(of: ObjectName, slice: { readonly item: Item; readonly service: string } | undefined): void {
    const id = idOf(of.namespace, of.name)
    const before = this.#groups.get(this.#groupOfSlice.get(id) ?? '')
    if (before !== undefined && (slice === undefined || before.name !== slice.service)) {
      before.slices.delete(of.name)
      this.#groupOfSlice.delete(id)
      this.#touched(before)
    }
    if (slice === undefined) return
    const group = this.#group(of.namespace, slice.service)
    group.slices.set(of.name, slice.item)
    this.#groupOfSlice.set(id, group.id)
    this.#touched(group)
  }

  /**
   * Computes the state with everything that was set since the last call. Returns the same object as before when
   * nothing visible changed.
   */
  settle(): Settled {
    const found = new Difference()
    const problems: Edit<readonly Problem[]>[] = []
    for (const id of this.#dirty) {
      const group = this.#groups.get(id)
      if (group === undefined) continue
      const read = this.#assemble(group)
      const known = group.shown
      group.shown = keepIdentity(known, read.snapshot)
      found.add(known, group.shown)
      if (!sameData(this.#problems.get(id) ?? [], read.problems))
        problems.push([id, read.problems.length > 0 ? read.problems : undefined])
      if (group.service === undefined && group.exported === undefined && group.slices.size === 0)
        this.#groups.delete(id)
    }
    this.#dirty.clear()
    const changes = found.changes()
    if (changes.length === 0 && problems.length === 0) return this.#settled
    const before = this.#settled
    this.#services = this.#services.with(found.services)
    this.#slices = this.#slices.with(found.slices)
    this.#problems = this.#problems.with(problems)
    this.#settled = {
      snapshot: changes.length === 0 ? before.snapshot : snapshotOf(this.#services, this.#slices),
      problems: problems.length === 0 ? before.problems : this.#listProblems(),
      changes
    }
    return this.#settled
  }

  /** The values and problems of one group, under the export policy. */
  #assemble(group: Group): { readonly snapshot: Snapshot; readonly problems: readonly Problem[] } {
    const { service, namespace, name } = group
    if (service === undefined) return NOTHING
    const { facts, item } = service
    const exported = isAlias(item) || group.exported === undefined ? [] : [group.exported]
    const verdict = exportVerdict(
      { namespace, name, facts, hasExport: exported.length > 0 },
      this.#namespaces.get(namespace),
      this.#policy
    )
    if (verdict === 'none') return NOTHING
    if (verdict === 'whole') return this.#read([item, ...exported, ...group.slices.values()])
    const { snapshot, problems } = this.#read([item])
    return { snapshot, problems: [...problems, nodeLocal(group)] }
  }

  /**
   * Keeps #aliasesOf current for a group. `target` is the service that its ExternalName may point to; undefined:
   * none.
   */
  #setAlias(group: Group, target: string | undefined): void {
    if (group.target === target) return
    const before = this.#aliasesOf.get(group.target ?? '')
    if (before?.delete(group.id) === true && before.size === 0) this.#aliasesOf.delete(group.target ?? '')
    group.target = target
    if (target === undefined) return
    const aliases = this.#aliasesOf.get(target)
    if (aliases === undefined) this.#aliasesOf.set(target, new Set([group.id]))
    else aliases.add(group.id)
  }

  #read(items: readonly Item[]): { readonly snapshot: Snapshot; readonly problems: readonly Problem[] } {
    // For a service that cannot be published, its slices are not read: one problem for the service is enough.
    const [service] = items
    const readable = service?.reading.kind === 'service' ? items : items.slice(0, 1)
    const { snapshot, problems } = catalog(readable, {
      ...this.#options,
      hasService: (namespace, name) => this.#groups.get(idOf(namespace, name))?.service !== undefined,
      warnUnreachable: false
    })
    const end = problems.findIndex(({ level }) => level === 'error') + 1
    return { snapshot, problems: snapshot.services.length > 0 ? problems : problems.slice(0, end) }
  }

  /** The first PROBLEMS_MAX problems, and a last one with the number of the others. */
  #listProblems(): readonly Problem[] {
    const listed: Problem[] = []
    let count = 0
    for (const each of this.#problems.values()) {
      count += each.length
      if (listed.length < PROBLEMS_MAX) listed.push(...each.slice(0, PROBLEMS_MAX - listed.length))
    }
    if (count <= PROBLEMS_MAX) return listed
    const message = `and ${count - PROBLEMS_MAX} more problems`
    return [...listed, { file: 'kubernetes', message, level: 'warning' }]
  }

  #group(namespace: string, name: string): Group {
    const id = idOf(namespace, name)
    const known = this.#groups.get(id)
    if (known !== undefined) return known
    const group: Group = {
      id,
      namespace,
      name,
      service: undefined,
      exported: undefined,
      target: undefined,
      slices: new Map(),
      shown: NOTHING.snapshot
    }
    this.#groups.set(id, group)
    return group
  }

  #touched(group: Group): void {
    this.#dirty.add(group.id)
  }
}

/** A service with its slices. The slices may arrive before the service. */
interface Group extends ObjectName {
  readonly id: string
  service: LiveService | undefined
  /** The ServiceExport of this name, as it was read. */
  exported: Item | undefined
  /** The service that the ExternalName of this group may point to, as "<namespace>/<name>". */
  target: string | undefined
  readonly slices: Map<string, Item>
  /** The values of this group in the last snapshot, to compare the next ones with. */
  shown: Snapshot
}

const NOTHING: { readonly snapshot: Snapshot; readonly problems: readonly Problem[] } = {
  snapshot: { services: [], endpointSlices: [] },
  problems: []
}

/**
 * The service of this cluster that an ExternalName such as "web.shop" may point to, as "<namespace>/<name>". If that
 * service does not exist, the name belongs to a host elsewhere (namedService).
 */
function aliasTarget({ reading }: Item): string | undefined {
  const named = reading.kind === 'service' ? namedService(reading.value.externalName) : undefined
  return named && idOf(named.namespace, named.name)
}

function isAlias({ reading }: Item): boolean {
  return reading.kind === 'service' && reading.value.externalName !== ''
}

function nodeLocal({ namespace, name }: ObjectName): Problem {
  return {
    file: 'kubernetes',
    where: `Service ${namespace}/${name}: spec.internalTrafficPolicy`,
    message: `Service ${namespace}/${name} has internalTrafficPolicy: Local, so other clusters get its name but no endpoints`,
    fix: `export its endpoints, too: kubectl -n ${namespace} annotate service ${name} rhizome.io/export=true; or export nothing of it: kubectl -n ${namespace} annotate service ${name} rhizome.io/export=false`,
    level: 'warning'
  }
}

/** The values of `after`, each replaced by the old object when its content is the same (invariant 2). */
function keepIdentity(before: Snapshot, after: Snapshot): Snapshot {
  return {
    services: after.services.map((value) => sameOf(before.services, value)),
    endpointSlices: after.endpointSlices.map((value) => sameOf(before.endpointSlices, value))
  }
}

function sameOf<T extends ServiceValue | EndpointSliceValue>(before: readonly T[], value: T): T {
  return before.find((each) => each.name === value.name && sameData(each, value)) ?? value
}

/** New values by record key; undefined: the value was withdrawn. */
type Edits<T> = Map<string, T | undefined>

/** Collects the edits of all groups that were read in one `settle`. */
class Difference {
  readonly services: Edits<ServiceValue> = new Map()
  readonly slices: Edits<EndpointSliceValue> = new Map()

  add(before: Snapshot, after: Snapshot): void {
    edit(this.services, before.services, after.services)
    edit(this.slices, before.endpointSlices, after.endpointSlices)
  }

  /**
   * Endpoints come before their service and are withdrawn after it, so that no reader sees a service without its
   * endpoints.
   */
  changes(): readonly Change[] {
    const slices = [...this.slices].map(([key, value]) => ({ key, value }))
    const services = [...this.services].map(([key, value]) => ({ key, value }))
    const gone = ({ value }: Change): boolean => value === undefined
    const set = (change: Change): boolean => !gone(change)
    return [...slices.filter(set), ...services.filter(set), ...services.filter(gone), ...slices.filter(gone)]
  }
}

function edit<T extends ServiceValue | EndpointSliceValue>(
  edits: Edits<T>,
  before: readonly T[],
  after: readonly T[]
): void {
  for (const value of before) {
    const key = keyOf(value)
    // A slice that moved to another service is withdrawn in one group and set in the other. The set value wins in
    // either order.
    if (!after.some((each) => each.name === value.name) && !edits.has(key)) edits.set(key, undefined)
  }
  for (const value of after) if (!before.includes(value)) edits.set(keyOf(value), value)
}

/**
 * A snapshot in the order of keys. Its lists are built only when they are read, because most readers use `changes`.
 */
function snapshotOf(services: SortedMap<ServiceValue>, slices: SortedMap<EndpointSliceValue>): Snapshot {
  let [serviceList, sliceList]: [(readonly ServiceValue[])?, (readonly EndpointSliceValue[])?] = []
  return {
    get services() {
      return (serviceList ??= [...services.values()])
    },
    get endpointSlices() {
      return (sliceList ??= [...slices.values()])
    }
  }
}

function idOf(namespace: string, name: string): string {
  return `${namespace}/${name}`
}
