// Cuts one record of a catalogue to the prefixes that its cluster's certificate covers, and caches the result while
// the replica holds the record. catalogue.ts calls it for each service and slice, build-view.ts for the records
// "agent" and "cluster".
import { cidrContains } from '../model/cidr.ts'
import { decodeValue } from '../wire/value-codec.ts'
import { lazySlice } from '../wire/lazy-slice.ts'
import {
  keyOf,
  type Cidr,
  type EndpointSliceValue,
  type Ip,
  type ServiceValue,
  type Value
} from '../model/values.ts'

/** A live record of a replica. */
export interface ViewRecord {
  readonly key: string
  /** The encoded value. Tests may pass a value that is decoded already. */
  readonly value: Uint8Array | Value
  /**
   * The object that stands for the value in the cache, when `value` is made anew for each reader. Default: the value
   * itself.
   */
  readonly identity?: object
}

/** One record after it was cut to the prefixes of its cluster's certificate. */
export interface Authorised {
  /** The authorised part of the value; undefined when all of it is refused. */
  readonly value: Value | undefined
  /**
   * "<namespace>/<name>" of the service itself, or of the service that the slice belongs to; '' when the record
   * cannot be decoded.
   */
  readonly serviceKey: string
  /** Why all or a part of the value is refused; undefined when nothing is. */
  readonly reason: string | undefined
}

/**
 * The prefixes that a cluster may use. The cache compares the two lists by identity, so pass the same lists while
 * they are equal.
 */
export interface Prefixes {
  readonly podPrefixes: readonly Cidr[]
  readonly servicePrefixes: readonly Cidr[]
}

type Decoded = ReturnType<typeof decodeValue>

/**
 * Two caches, keyed by the identity of a record's value and held weakly: an entry lives as long as the replica holds
 * the record.
 */
export class Authoriser {
  readonly #decoded = new WeakMap<object, { readonly key: string; readonly result: Decoded }>()
  readonly #authorised = new WeakMap<
    object,
    { readonly key: string; readonly within: readonly Cidr[]; readonly result: Authorised }
  >()

  /** Decodes a record once. It never throws on its content. */
  decode(record: ViewRecord): Decoded {
    const { key } = record
    const identity = identityOf(record)
    const known = this.#decoded.get(identity)
    if (known?.key === key) return known.result
    const { value } = record
    const result = value instanceof Uint8Array ? decodeValue(key, value) : checkKey(key, value)
    this.#decoded.set(identity, { key, result })
    return result
  }

  /**
   * Decodes a record and cuts it to the prefixes. For the same record and the same prefixes, the result is the same
   * object. Throws for the keys "agent" and "cluster", which are no part of a catalogue.
   */
  authorise(record: ViewRecord, prefixes: Prefixes): Authorised {
    const { key } = record
    const identity = identityOf(record)
    const within = isSliceKey(key) ? prefixes.podPrefixes : prefixes.servicePrefixes
    const known = this.#authorised.get(identity)
    if (known?.key === key && known.within === within) return known.result
    const result = lazily(record, prefixes) ?? this.#eagerly(record, prefixes)
    this.#authorised.set(identity, { key, within, result })
    return result
  }

  #eagerly(record: ViewRecord, prefixes: Prefixes): Authorised {
    const decoded = this.decode(record)
    if (decoded.kind === 'invalid') return { value: undefined, serviceKey: '', reason: decoded.reason }
    const { value } = decoded
    switch (value.kind) {
      case 'service':
        return authoriseService(value, prefixes.servicePrefixes)
      case 'endpointSlice':
        return authoriseSlice(value, prefixes.podPrefixes)
      case 'agent':
      case 'cluster':
        throw new Error(`a record under ${keyOf(value)} is no part of a catalogue`)
      default:
        return value satisfies never
    }
  }
}

/** Whether one of the prefixes contains an address or a prefix. */
export function isWithin(inner: Cidr | Ip, prefixes: readonly Cidr[]): boolean {
  return prefixes.some((prefix) => cidrContains(prefix, inner))
}

function identityOf({ identity, value }: ViewRecord): object {
  return identity ?? value
}

/** Whether a record key is that of an EndpointSlice. */
export function isSliceKey(key: string): boolean {
  return key.startsWith('eps/')
}

/**
 * The fast path, which nearly every slice takes: its bytes are plain and all its addresses are inside, so its
 * endpoints are not decoded.
 */
function lazily(record: ViewRecord, { podPrefixes }: Prefixes): Authorised | undefined {
  if (!isSliceKey(record.key)) return undefined
  const { key, value } = record
  if (!(value instanceof Uint8Array)) return undefined
  const slice = lazySlice({ key, value, read: () => bytesOf(record), within: podPrefixes })
  return slice && { value: slice, serviceKey: serviceKeyOf(slice), reason: undefined }
}

function bytesOf({ key, value }: ViewRecord): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new Error(`the record ${key} had bytes before`)
  return value
}

function serviceKeyOf({ namespace, service }: EndpointSliceValue): string {
  return `${namespace}/${service}`
}

/** The service with the cluster IPs inside the prefixes. A service without cluster IPs is not affected. */
function authoriseService(service: ServiceValue, servicePrefixes: readonly Cidr[]): Authorised {
  const serviceKey = `${service.namespace}/${service.name}`
  const refused = service.clusterIps.filter((ip) => !isWithin(ip, servicePrefixes))
  if (refused.length === 0) return { value: service, serviceKey, reason: undefined }
  const reason = `the cluster IP ${refused.join(', ')} is outside the service prefixes`
  if (refused.length === service.clusterIps.length) return { value: undefined, serviceKey, reason }
  const clusterIps = service.clusterIps.filter((ip) => !refused.includes(ip))
  return { value: { ...service, clusterIps }, serviceKey, reason }
}

/**
 * The slice without the endpoints that have an address outside. Pods on the host network are the usual case: they
 * have the address of their node, which no certificate covers. So the endpoint is refused, not the slice.
 */
function authoriseSlice(slice: EndpointSliceValue, podPrefixes: readonly Cidr[]): Authorised {
  const serviceKey = serviceKeyOf(slice)
  const kept = slice.endpoints.filter((endpoint) =>
    endpoint.addresses.every((ip) => isWithin(ip, podPrefixes))
  )
  const count = slice.endpoints.length - kept.length
  if (count === 0) return { value: slice, serviceKey, reason: undefined }
  const addresses = slice.endpoints.flatMap((endpoint) => endpoint.addresses)
  const outside = addresses.find((ip) => !isWithin(ip, podPrefixes))
  const reason = `${count} of ${slice.endpoints.length} endpoints are outside the pod prefixes, for example ${outside}`
  return { value: { ...slice, endpoints: kept }, serviceKey, reason }
}

function checkKey(key: string, value: Value): Decoded {
  if (keyOf(value) === key) return { kind: 'value', value }
  return { kind: 'invalid', reason: `its value has the key ${keyOf(value)}` }
}
