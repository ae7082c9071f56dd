// What a source (a folder of manifests, a Kubernetes API) says of this cluster, as one Snapshot, and what does not count.
// Invariant: a bad object never hides a good one; it becomes a Problem that names the file, the field and the fix.
import { cidrContains } from './cidr.ts'
import { sameData } from './equal.ts'
import { expand, toValue, type Reading } from './kube-objects.ts'
import {
  keyOf,
  type Cidr,
  type EndpointSliceValue,
  type Ip,
  type ServiceValue,
  type Snapshot,
  type Value
} from './model.ts'

export { toValue, type Reading } from './kube-objects.ts'

/** `error`: the object does not count. `warning`: it counts, but hardly as meant. */
export interface Problem {
  readonly file: string
  readonly where?: string
  readonly message: string
  readonly fix?: string
  readonly level: 'error' | 'warning'
}

/** One object of a source and where it was read. */
export interface Item {
  readonly file: string
  /** "line 12" */
  readonly where?: string
  readonly reading: Reading
}

export interface Catalog {
  readonly snapshot: Snapshot
  readonly problems: readonly Problem[]
  /** Objects of other kinds (Deployment …), which are none of our business. */
  readonly ignored: number
}

export interface CatalogOptions {
  /** What this cluster may announce; addresses outside are left out with a problem, for every peer would refuse them. */
  readonly podPrefixes?: readonly Cidr[]
  readonly servicePrefixes?: readonly Cidr[]
  /** False: silent about services that nobody answers for. In a live cluster that is an ordinary state. Default true. */
  readonly warnUnreachable?: boolean
}

/** Every object in one document: several for a List or a v1 Endpoints. */
export function readObject(
  object: unknown,
  place: { readonly file: string; readonly where?: string }
): Item[] {
  return expand(object).map((each) => ({ ...place, reading: toValue(each) }))
}

/** The whole of a source. Of two objects with one name the first counts, so pass items in a stable order. */
export function catalog(items: readonly Item[], options: CatalogOptions = {}): Catalog {
  const problems: Problem[] = []
  const services = new Map<string, Placed<ServiceValue>>()
  const slices = new Map<string, Placed<EndpointSliceValue>>()
  let ignored = 0
  for (const item of items) {
    const { reading } = item
    if (reading.kind === 'ignored') ignored += 1
    else if (reading.kind === 'problem') problems.push(problemOf(item, reading))
    else if (reading.kind === 'service') keepFirst(services, { item, value: reading.value }, problems)
    else keepFirst(slices, { item, value: reading.value }, problems)
  }
  const kept = [...services.values()].filter((placed) => insideServicePrefixes(placed, options, problems))
  const known = new Set(kept.map(({ value }) => nameOf(value.namespace, value.name)))
  const whole = [...slices.values()]
    .filter((placed) => hasService(placed, known, problems))
    .map((placed) => ({ ...placed, value: insidePodPrefixes(placed, options, problems) }))
  if (options.warnUnreachable !== false) problems.push(...unreachable(kept, whole))
  return {
    snapshot: {
      services: kept.map(({ value }) => value).sort(byKey),
      endpointSlices: whole.map(({ value }) => value).sort(byKey)
    },
    problems,
    ignored
  }
}

export interface Change {
  readonly key: string
  /** undefined: withdrawn. */
  readonly value: Value | undefined
}

/** What to publish. Endpoints come before their service and go after it, so that no reader sees a service without. */
export function changes(before: Snapshot, after: Snapshot): readonly Change[] {
  return [
    ...upserts(before.endpointSlices, after.endpointSlices),
    ...upserts(before.services, after.services),
    ...removals(before.services, after.services),
    ...removals(before.endpointSlices, after.endpointSlices)
  ]
}

interface Placed<T> {
  readonly item: Item
  readonly value: T
}

function keepFirst<T extends ServiceValue | EndpointSliceValue>(
  kept: Map<string, Placed<T>>,
  placed: Placed<T>,
  problems: Problem[]
): void {
  const key = keyOf(placed.value)
  const first = kept.get(key)
  if (first === undefined) kept.set(key, placed)
  else {
    problems.push({
      ...placeOf(placed),
      message: `${titleOf(placed.value)} is already defined in ${first.item.file}; that one counts`,
      fix: 'remove or rename one of the two',
      level: 'error'
    })
  }
}

function insideServicePrefixes(
  placed: Placed<ServiceValue>,
  { servicePrefixes }: CatalogOptions,
  problems: Problem[]
): boolean {
  const outside = servicePrefixes && placed.value.clusterIps.find((ip) => !isInside(ip, servicePrefixes))
  if (outside === undefined) return true
  problems.push({
    ...placeOf(placed),
    message: `${titleOf(placed.value)}: cluster IP ${outside} is outside the service prefixes of this cluster`,
    fix: `use an address of ${servicePrefixes?.join(', ')}`,
    level: 'error'
  })
  return false
}

function hasService(
  placed: Placed<EndpointSliceValue>,
  known: ReadonlySet<string>,
  problems: Problem[]
): boolean {
  const { namespace, service } = placed.value
  if (known.has(nameOf(namespace, service))) return true
  problems.push({
    ...placeOf(placed),
    message: `${titleOf(placed.value)} is for a service ${namespace}/${service} that does not exist`,
    fix: `add the Service, or correct the label kubernetes.io/service-name`,
    level: 'error'
  })
  return false
}

function insidePodPrefixes(
  placed: Placed<EndpointSliceValue>,
  { podPrefixes }: CatalogOptions,
  problems: Problem[]
): EndpointSliceValue {
  if (podPrefixes === undefined) return placed.value
  const inside = placed.value.endpoints.filter((endpoint) =>
    endpoint.addresses.every((ip) => isInside(ip, podPrefixes))
  )
  if (inside.length === placed.value.endpoints.length) return placed.value
  const outside = placed.value.endpoints.find((endpoint) => !inside.includes(endpoint))
  problems.push({
    ...placeOf(placed),
    message: `${titleOf(placed.value)}: ${placed.value.endpoints.length - inside.length} of its endpoints lie outside the pod prefixes of this cluster, such as ${outside?.addresses[0]}`,
    fix: `use addresses of ${podPrefixes.join(', ')}`,
    level: 'warning'
  })
  return { ...placed.value, endpoints: inside }
}

/** Services whose name will resolve but that nobody answers for, and single ports like that. */
function unreachable(
  services: readonly Placed<ServiceValue>[],
  slices: readonly Placed<EndpointSliceValue>[]
): readonly Problem[] {
  const slicesOf = Map.groupBy(slices, ({ value }) => nameOf(value.namespace, value.service))
  return services.flatMap((placed) => {
    const service = placed.value
    if (service.externalName !== '') return []
    const own = (slicesOf.get(nameOf(service.namespace, service.name)) ?? []).map(({ value }) => value)
    if (own.every((slice) => slice.endpoints.length === 0)) return [withoutEndpoints(placed)]
    const missing = service.ports.find((port) => !own.some((slice) => servesPort(slice, port)))
    return missing === undefined || service.headless ? [] : [withoutPort(placed, missing.name)]
  })
}

function servesPort(slice: EndpointSliceValue, port: ServiceValue['ports'][number]): boolean {
  return slice.ports.some((each) => each.name === port.name && each.protocol === port.protocol)
}

function withoutEndpoints(placed: Placed<ServiceValue>): Problem {
  const { namespace, name, headless } = placed.value
  const effect = headless ? 'its name has no addresses' : 'its name resolves, connections are refused'
  return {
    ...placeOf(placed),
    message: `${titleOf(placed.value)} has no endpoints: ${effect}`,
    fix: `add an EndpointSlice in namespace ${namespace} with the label kubernetes.io/service-name: ${name}`,
    level: 'warning'
  }
}

function withoutPort(placed: Placed<ServiceValue>, port: string): Problem {
  const name = port === '' ? 'its unnamed port' : `port "${port}"`
  return {
    ...placeOf(placed),
    message: `${titleOf(placed.value)}: ${name} has no port of the same name and protocol in its EndpointSlices; connections are refused`,
    fix: 'give the port the same name and protocol in the Service and the EndpointSlice',
    level: 'warning'
  }
}

function upserts<T extends Value>(before: readonly T[], after: readonly T[]): readonly Change[] {
  const old = new Map(before.map((value) => [keyOf(value), value]))
  return after
    .map((value) => ({ key: keyOf(value), value }))
    .filter(({ key, value }) => !sameData(old.get(key), value))
}

function removals<T extends Value>(before: readonly T[], after: readonly T[]): readonly Change[] {
  const still = new Set(after.map(keyOf))
  return before
    .map(keyOf)
    .filter((key) => !still.has(key))
    .map((key) => ({ key, value: undefined }))
}

function isInside(ip: Ip, prefixes: readonly Cidr[]): boolean {
  return prefixes.some((prefix) => cidrContains(prefix, ip))
}

function problemOf(item: Item, reading: Reading & { readonly kind: 'problem' }): Problem {
  const where = item.where === undefined ? reading.where : `${item.where}, ${reading.where}`
  return { file: item.file, where, message: reading.message, fix: reading.fix, level: 'error' }
}

function placeOf({ item }: Placed<unknown>): { readonly file: string; readonly where?: string } {
  return item.where === undefined ? { file: item.file } : { file: item.file, where: item.where }
}

function titleOf(value: ServiceValue | EndpointSliceValue): string {
  return `${value.kind === 'service' ? 'Service' : 'EndpointSlice'} ${value.namespace}/${value.name}`
}

function nameOf(namespace: string, name: string): string {
  return `${namespace}/${name}`
}

function byKey(left: Value, right: Value): number {
  return keyOf(left) < keyOf(right) ? -1 : 1
}
