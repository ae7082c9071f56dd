// What a source (a folder of manifests, a Kubernetes API) has for this cluster, as one Snapshot, and the problems of
// objects that do not count. The folder's source calls `catalog()` with all objects at each change; live-catalog.ts
// calls it for one service at a time.
// Invariant: an invalid object never hides a valid one. It becomes a Problem that names the file, the field and the
// fix.
import { cidrContains, familyOf, parseIp } from '../model/cidr.ts'
import { sameData } from '../model/equal.ts'
import type { Fault } from '../model/field-check.ts'
import { serviceDomain } from '../model/zones.ts'
import { homeAlias } from './home-alias.ts'
import type { ExportMarks } from './export-policy.ts'
import { joinExports } from './join-exports.ts'
import type { Reading } from './read-object.ts'
import {
  keyOf,
  type Cidr,
  type EndpointSliceValue,
  type Ip,
  type ServiceValue,
  type Snapshot,
  type Value
} from '../model/values.ts'
import { portsThatFit, splitSlice } from './split-slice.ts'

export { toValue, type Reading } from './read-object.ts'

/**
 * A fault that an operator should correct. `error`: the object is not published. `warning`: the object is published,
 * wholly or in part.
 */
export interface Problem {
  /** The file, relative to the folder; "kubernetes" for an object of the API. */
  readonly file: string
  /** The place in the file and the field: "line 12, Service shop/web: spec.clusterIP". */
  readonly where?: string
  readonly message: string
  readonly fix?: string
  readonly level: 'error' | 'warning'
  /** Set for a problem of the source itself, for example a missing folder; absent for a problem of one object. */
  readonly ofSource?: true
}

/** One object of a source, already read, and where it was found. */
export interface Item {
  readonly file: string
  /** The place in the file: "line 12". */
  readonly where?: string
  readonly reading: Reading
  /** Of a Service in a folder. */
  readonly marks?: ExportMarks
}
/** The result of `catalog()`. The snapshot is sorted by record key. */
interface Catalog {
  readonly snapshot: Snapshot
  readonly problems: readonly Problem[]
}

/** What this cluster may announce. Without `cluster` and prefixes, as before joining a mesh, every address counts. */
export interface CatalogOptions {
  /**
   * The prefixes of this cluster's certificate. Addresses outside are left out with a problem, because every peer
   * would refuse them. undefined: no check.
   */
  readonly podPrefixes?: readonly Cidr[]
  readonly servicePrefixes?: readonly Cidr[]
  /**
   * The name of this cluster. An ExternalName that points into the cluster is published with it, so that others can
   * resolve it.
   */
  readonly cluster?: string
  /** The domain of the cluster's own services, when it is not `cluster.local`. */
  readonly clusterDomain?: string
  /** Whether the source has a service of this name. Default: whether one is among the items. */
  readonly hasService?: (namespace: string, name: string) => boolean
  /**
   * False: no warnings about services without endpoints, because in a live cluster that is an ordinary state.
   * Default: true.
   */
  readonly warnUnreachable?: boolean
}

/** The snapshot of a whole source. Of two objects with one name the first counts, so pass items in a stable order. */
export function catalog(items: readonly Item[], options: CatalogOptions = {}): Catalog {
  const problems: Problem[] = []
  const services = new Map<string, Placed<ServiceValue>>()
  const slices = new Map<string, Placed<EndpointSliceValue>>()
  const exports = new Map<string, Item>()
  for (const item of items) {
    const { reading } = item
    if (reading.kind === 'problem') problems.push(problemOf(item, reading))
    else if (reading.kind !== 'ignored') {
      if (reading.kind === 'endpointSlice') keepFirst(slices, { item, value: reading.value }, problems)
      else if (reading.kind === 'service') keepFirst(services, { item, value: reading.value }, problems)
      else exports.set(nameOf(reading.value.namespace, reading.value.name), item)
      if (reading.warning) problems.push({ ...problemOf(item, reading.warning), level: 'warning' })
    }
  }
  const kept = joinExports(services, exports, (item, fault) =>
    problems.push({ ...placeOf({ item }), ...fault })
  )
    .flatMap((placed) => insideServicePrefixes(placed, options, problems))
    .map((placed) => withinRecord(placed, problems))
    .map((placed) =>
      pointingHome(placed, { hasService: (...of) => services.has(`svc/${nameOf(...of)}`), ...options })
    )
  // A slice of a service that was left out has no problem of its own; one of a service that never existed has one.
  const defined = new Set([...services.values()].map(({ value }) => nameOf(value.namespace, value.name)))
  const published = new Set(kept.map(({ value }) => nameOf(value.namespace, value.name)))
  const whole = [...slices.values()]
    .filter((placed) => hasService(placed, defined, problems))
    .filter(({ value }) => published.has(nameOf(value.namespace, value.service)))
    .flatMap((placed) => insidePodPrefixes(placed, options, problems))
    .flatMap((placed) => splitSlice(placed.value).map((value) => ({ ...placed, value })))
  if (options.warnUnreachable !== false) problems.push(...unreachable(kept, whole, options))
  return {
    snapshot: {
      services: kept.map(({ value }) => value).sort(byKey),
      endpointSlices: whole.map(({ value }) => value).sort(byKey)
    },
    problems
  }
}

/** One record that must be written or removed. `key` is the record key of keyOf(). */
export interface Change {
  readonly key: string
  /** undefined: the value is withdrawn. */
  readonly value: Value | undefined
}

/**
 * What to publish to get from one snapshot to the next. Endpoints come before their service and are withdrawn after
 * it, so that no reader sees a service without its endpoints.
 */
export function changes(before: Snapshot, after: Snapshot): readonly Change[] {
  const slices = changed(before.endpointSlices, after.endpointSlices)
  const services = changed(before.services, after.services)
  return [...slices.set, ...services.set, ...services.gone, ...slices.gone]
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
      message: `${titleOf(placed.value)} is already defined in ${first.item.file}; this copy is not used`,
      fix: 'remove or rename one of the two',
      level: 'error'
    })
  }
}

/**
 * The service with its addresses inside the cluster's service prefixes. Of the two addresses of a dual-stack service,
 * one may remain. When none is inside, the service is left out.
 */
function insideServicePrefixes(
  placed: Placed<ServiceValue>,
  { servicePrefixes }: CatalogOptions,
  problems: Problem[]
): readonly Placed<ServiceValue>[] {
  if (servicePrefixes === undefined) return [placed]
  const { clusterIps } = placed.value
  const inside = clusterIps.filter((ip) => isInside(ip, servicePrefixes))
  if (inside.length === clusterIps.length) return [placed]
  const outside = clusterIps.filter((ip) => !inside.includes(ip))
  const [what, where] = [outside.join(', '), 'outside the service prefixes of this cluster']
  const fix =
    servicePrefixes.length === 0
      ? 'this cluster has no service prefixes: give it one with `meshctl invite --service-cidr`'
      : `use an address of ${servicePrefixes.join(', ')}`
  if (inside.length === 0) {
    const message = `${titleOf(placed.value)}: cluster IP ${what} is ${where}`
    problems.push({ ...placeOf(placed), message, fix, level: 'error' })
    return []
  }
  const message = `${titleOf(placed.value)}: cluster IP ${what} is ${where}; other clusters use ${inside.join(', ')}`
  problems.push({ ...placeOf(placed), message, fix, level: 'warning' })
  return [{ ...placed, value: { ...placed.value, clusterIps: inside } }]
}

/** The service with an ExternalName that other clusters can resolve (home-alias.ts). */
function pointingHome(
  placed: Placed<ServiceValue>,
  { cluster, clusterDomain = '', hasService }: CatalogOptions & Required<Pick<CatalogOptions, 'hasService'>>
): Placed<ServiceValue> {
  const { namespace, externalName } = placed.value
  if (externalName === '' || cluster === undefined) return placed
  const target = homeAlias(externalName, namespace, { cluster, clusterDomain, hasService })
  return target === externalName ? placed : { ...placed, value: { ...placed.value, externalName: target } }
}

/** The service with as many ports as one record can hold. */
function withinRecord(placed: Placed<ServiceValue>, problems: Problem[]): Placed<ServiceValue> {
  const { value } = placed
  const ports = portsThatFit(value)
  if (ports.length === value.ports.length) return placed
  problems.push({
    ...placeOf(placed),
    message: `${titleOf(value)} has ${value.ports.length} ports; the first ${ports.length} fit into one record, the other ${value.ports.length - ports.length} are not published`,
    fix: 'divide the ports among several Services, or give them shorter names',
    level: 'warning'
  })
  return { ...placed, value: { ...value, ports } }
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
    message: `${titleOf(placed.value)} belongs to the Service ${namespace}/${service}, which does not exist`,
    fix: `add the Service, or correct the label kubernetes.io/service-name`,
    level: 'error'
  })
  return false
}

/**
 * The slice with its endpoints inside the cluster's pod prefixes. When the cluster has no pod prefix of the slice's
 * address family, the slice is left out.
 */
function insidePodPrefixes(
  placed: Placed<EndpointSliceValue>,
  { podPrefixes }: CatalogOptions,
  problems: Problem[]
): readonly Placed<EndpointSliceValue>[] {
  if (podPrefixes === undefined) return [placed]
  const { endpoints } = placed.value
  const inside = endpoints.flatMap((endpoint) => {
    const addresses = endpoint.addresses.filter((ip) => isInside(ip, podPrefixes))
    if (addresses.length === endpoint.addresses.length) return [endpoint]
    return addresses.length === 0 ? [] : [{ ...endpoint, addresses }]
  })
  const addresses = endpoints.flatMap((endpoint) => endpoint.addresses)
  const outside = addresses.filter((ip) => !isInside(ip, podPrefixes))
  const [first] = outside
  if (first === undefined) return [placed]
  // In a mesh with one address family, this slice holds the other half of a dual-stack service. An operator need not
  // act on that, so there is no problem.
  const families = new Set(podPrefixes.map(familyOf))
  if (inside.length === 0 && families.size > 0 && addresses.every((ip) => !families.has(familyOf(ip))))
    return []
  problems.push({
    ...placeOf(placed),
    message: `${titleOf(placed.value)}: ${outside.length === 1 ? 'an address of its endpoints is' : `${outside.length} addresses of its endpoints are`} outside the pod prefixes of this cluster, for example ${first}`,
    fix:
      podPrefixes.length === 0
        ? 'this cluster has no pod prefixes: give it one with `meshctl invite --pod-cidr`'
        : `use addresses of ${podPrefixes.join(', ')}`,
    level: 'warning'
  })
  return [{ ...placed, value: { ...placed.value, endpoints: inside } }]
}

/**
 * Warnings for services whose name will resolve but whose connections will be refused: the service has no endpoints,
 * or one of its ports is not served by any slice.
 */
function unreachable(
  services: readonly Placed<ServiceValue>[],
  slices: readonly Placed<EndpointSliceValue>[],
  options: Pick<CatalogOptions, 'cluster'>
): readonly Problem[] {
  const slicesOf = Map.groupBy(slices, ({ value }) => nameOf(value.namespace, value.service))
  return services.flatMap((placed) => {
    const service = placed.value
    if (service.externalName !== '') return namelessAlias(placed, options)
    const own = (slicesOf.get(nameOf(service.namespace, service.name)) ?? []).map(({ value }) => value)
    if (own.every((slice) => slice.endpoints.length === 0)) return [withoutEndpoints(placed)]
    const served = new Set(own.flatMap((slice) => slice.ports.map(portKey)))
    const missing = service.ports.find((port) => !served.has(portKey(port)))
    return missing === undefined || service.headless ? [] : [withoutPort(placed, missing.name)]
  })
}

/**
 * Warnings for an ExternalName that DNS cannot express: a CNAME cannot point to an address or to itself. The
 * Kubernetes API accepts both.
 */
function namelessAlias(
  placed: Placed<ServiceValue>,
  { cluster }: Pick<CatalogOptions, 'cluster'>
): readonly Problem[] {
  const { externalName } = placed.value
  const title = titleOf(placed.value)
  if (parseIp(externalName) !== undefined) {
    return [
      {
        ...placeOf(placed),
        message: `${title}: spec.externalName ${externalName} is an IP address; the name does not resolve`,
        fix: 'use a Service with clusterIP: None and an EndpointSlice with this address, or set spec.externalName to a DNS name',
        level: 'warning'
      }
    ]
  }
  if (cluster === undefined || externalName !== serviceDomain(cluster, placed.value)) return []
  return [
    {
      ...placeOf(placed),
      message: `${title}: spec.externalName is the name of this Service itself; the name has no addresses`,
      fix: 'set spec.externalName to another name',
      level: 'warning'
    }
  ]
}

function portKey({ name, protocol }: Pick<ServiceValue['ports'][number], 'name' | 'protocol'>): string {
  return `${protocol} ${name}`
}

function withoutEndpoints(placed: Placed<ServiceValue>): Problem {
  const { namespace, name, headless } = placed.value
  const effect = headless ? 'its name has no addresses' : 'its name resolves, but connections are refused'
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
    message: `${titleOf(placed.value)}: the EndpointSlices have no port with the name and protocol of ${name}, so connections are refused`,
    fix: 'give the port the same name and protocol in the Service and the EndpointSlice',
    level: 'warning'
  }
}

/**
 * The values of one kind that were set or removed. Values that are the same object in both lists are skipped at once:
 * usually one of 10,000 has changed.
 */
function changed<T extends Value>(
  before: readonly T[],
  after: readonly T[]
): { readonly set: readonly Change[]; readonly gone: readonly Change[] } {
  const [was, is] = [new Set(before), new Set(after)]
  const old = new Map(before.filter((value) => !is.has(value)).map((value) => [keyOf(value), value]))
  const set: Change[] = []
  for (const value of after) {
    if (was.has(value)) continue
    const key = keyOf(value)
    if (!sameData(old.get(key), value)) set.push({ key, value })
    old.delete(key)
  }
  return { set, gone: Array.from(old.keys(), (key) => ({ key, value: undefined })) }
}

function isInside(ip: Ip, prefixes: readonly Cidr[]): boolean {
  return prefixes.some((prefix) => cidrContains(prefix, ip))
}

function problemOf(item: Item, { message, fix, level = 'error', ...reading }: Fault): Problem {
  const where = item.where === undefined ? reading.where : `${item.where}, ${reading.where}`
  return { file: item.file, where, message, fix, level }
}

function placeOf({ item }: Pick<Placed<unknown>, 'item'>): {
  readonly file: string
  readonly where?: string
} {
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
