// The catalog of a source that tells of one object at a time: Kubernetes' watch. What an event costs depends on the service
// it is about, not on how many there are.
// Invariants
//   1. After `settle`, the snapshot equals `catalog()` of all that is exported.
//   2. A value that did not change is the very object it was before.
//   3. Nothing of a service is known to others before the service itself is.
import { catalog, type CatalogOptions, type Change, type Item, type Problem } from './catalog.ts'
import { sameData } from '../model/equal.ts'
import { EXPORT_ALL, exportVerdict, type ExportFacts, type ExportPolicy } from './export-policy.ts'
import { namedService } from './home-alias.ts'
import { keyOf, type EndpointSliceValue, type ServiceValue, type Snapshot } from '../model/values.ts'
import { SortedMap, type Edit } from '../model/sorted-map.ts'

interface LiveService {
  readonly item: Item
  readonly facts: ExportFacts
}

export interface Settled {
  readonly snapshot: Snapshot
  readonly problems: readonly Problem[]
  /** What differs from the last snapshot, in the order of `changes()`. */
  readonly changes: readonly Change[]
}

/** The name of an object in its cluster. */
export interface ObjectName {
  readonly namespace: string
  readonly name: string
}

// More are no help to a reader, and a wrong prefix brings one for each of 10,000 services.
const PROBLEMS_MAX = 100

export class LiveCatalog {
  readonly #policy: ExportPolicy
  readonly #groups = new Map<string, Group>()
  /** The service of each slice, for a slice may be deleted or given another. */
  readonly #groupOfSlice = new Map<string, string>()
  readonly #namespaces = new Map<string, boolean>()
  readonly #dirty = new Set<string>()
  /** Of each service that an ExternalName may mean: the groups of those ExternalNames (home-alias.ts). */
  readonly #aliasesOf = new Map<string, Set<string>>()
  #services = SortedMap.empty<ServiceValue>()
  #slices = SortedMap.empty<EndpointSliceValue>()
  /** By service, in the order in which they are listed. */
  #problems = SortedMap.empty<readonly Problem[]>()
  #options: CatalogOptions = {}
  #settled: Settled = { snapshot: { services: [], endpointSlices: [] }, problems: [], changes: [] }

  constructor(policy: ExportPolicy = EXPORT_ALL) {
    this.#policy = policy
  }

  /** Prefixes are known only after joining, and may change. */
  setOptions(options: CatalogOptions): void {
    if (sameData(options, this.#options)) return
    this.#options = options
    for (const id of this.#groups.keys()) this.#dirty.add(id)
  }

  /** `asked`: the namespace's annotation; undefined: it has none, or is gone. */
  setNamespace(name: string, asked: boolean | undefined): void {
    if (this.#namespaces.get(name) === asked) return
    if (asked === undefined) this.#namespaces.delete(name)
    else this.#namespaces.set(name, asked)
    for (const [id, group] of this.#groups) if (group.namespace === name) this.#dirty.add(id)
  }

  /** undefined: it is gone. */
  setService(of: ObjectName, service: LiveService | undefined): void {
    const group = this.#group(of.namespace, of.name)
    this.#setAlias(group, service && aliasTarget(service.item))
    if ((group.service === undefined) !== (service === undefined))
      for (const id of this.#aliasesOf.get(group.id) ?? []) this.#dirty.add(id)
    group.service = service
    this.#touched(group)
  }

  /** undefined: it is gone. `service`: the value of the label kubernetes.io/service-name. */
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

  /** Takes in what was set since the last time. The same object as before when nothing of it shows. */
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
      if (group.service === undefined && group.slices.size === 0) this.#groups.delete(id)
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

  #assemble(group: Group): { readonly snapshot: Snapshot; readonly problems: readonly Problem[] } {
    const { service, namespace, name } = group
    const verdict =
      service === undefined
        ? 'none'
        : exportVerdict(
            { namespace, name, facts: service.facts },
            this.#namespaces.get(namespace),
            this.#policy
          )
    if (service === undefined || verdict === 'none') return NOTHING
    if (verdict === 'whole') return this.#read([service.item, ...group.slices.values()])
    const { snapshot, problems } = this.#read([service.item])
    return { snapshot, problems: [...problems, nodeLocal(group)] }
  }

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
    // A service that cannot be told of brings its slices down: say so once, not once for each of them.
    const [service] = items
    const readable = service?.reading.kind === 'service' ? items : items.slice(0, 1)
    const { snapshot, problems } = catalog(readable, {
      ...this.#options,
      hasService: (namespace, name) => this.#groups.get(idOf(namespace, name))?.service !== undefined,
      warnUnreachable: false
    })
    return { snapshot, problems: snapshot.services.length > 0 ? problems : problems.slice(0, 1) }
  }

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

/** A service with its slices, whichever of them came first. */
interface Group extends ObjectName {
  readonly id: string
  service: LiveService | undefined
  /** The service that it may be an ExternalName of. */
  target: string | undefined
  readonly slices: Map<string, Item>
  /** What others were told. */
  shown: Snapshot
}

const NOTHING: { readonly snapshot: Snapshot; readonly problems: readonly Problem[] } = {
  snapshot: { services: [], endpointSlices: [] },
  problems: []
}

function aliasTarget({ reading }: Item): string | undefined {
  const named = reading.kind === 'service' ? namedService(reading.value.externalName) : undefined
  return named && idOf(named.namespace, named.name)
}

function nodeLocal({ namespace, name }: ObjectName): Problem {
  return {
    file: 'kubernetes',
    where: `Service ${namespace}/${name}: spec.internalTrafficPolicy`,
    message: `Service ${namespace}/${name} is Local to each node: other clusters get its name, but no endpoints`,
    fix: 'annotate it with rhizome.io/export: "true" to share its endpoints, or "false" to keep its name, too',
    level: 'warning'
  }
}

function keepIdentity(before: Snapshot, after: Snapshot): Snapshot {
  return {
    services: after.services.map((value) => sameOf(before.services, value)),
    endpointSlices: after.endpointSlices.map((value) => sameOf(before.endpointSlices, value))
  }
}

function sameOf<T extends ServiceValue | EndpointSliceValue>(before: readonly T[], value: T): T {
  return before.find((each) => each.name === value.name && sameData(each, value)) ?? value
}

/** What became of the values of one kind, by key. */
type Edits<T> = Map<string, T | undefined>

class Difference {
  readonly services: Edits<ServiceValue> = new Map()
  readonly slices: Edits<EndpointSliceValue> = new Map()

  add(before: Snapshot, after: Snapshot): void {
    edit(this.services, before.services, after.services)
    edit(this.slices, before.endpointSlices, after.endpointSlices)
  }

  /** Endpoints before their service and after it, so that no reader sees a service without. */
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
    // A slice that moved to another service is set there, whichever of the two is looked at first.
    if (!after.some((each) => each.name === value.name) && !edits.has(key)) edits.set(key, undefined)
  }
  for (const value of after) if (!before.includes(value)) edits.set(keyOf(value), value)
}

/** In the order of their keys. The lists are made when they are read: a change is told by what changed. */
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
