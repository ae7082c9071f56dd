// Takes objects that contain several others apart: a List into its items, and a v1 Endpoints into the EndpointSlices
// that it stands for. catalog.ts calls it before it reads an object.
// Invariant: nothing here throws. A malformed object is returned unchanged, and read-object.ts reports what is wrong
// with it.
import { FieldCheck, isFields, type Fields } from '../model/field-check.ts'
import { SLICE_ENDPOINTS_MAX } from './read-object.ts'

/**
 * The items of a List (nested ones too), the slices of a v1 Endpoints, or the object itself. `depth` counts the Lists
 * around it.
 */
export function expand(object: unknown, depth = 0): readonly unknown[] {
  if (!isFields(object)) return [object]
  const { kind, items } = object
  const isList = typeof kind === 'string' && kind.endsWith('List') && Array.isArray(items)
  if (isList && depth < LIST_DEPTH_MAX) {
    // Items of a typed list ("ServiceList") may omit kind and apiVersion, which the list states for all of them.
    const defaults = kind === 'List' ? {} : { kind: kind.slice(0, -4), apiVersion: object['apiVersion'] }
    return items.flatMap((item) => expand(isFields(item) ? { ...defaults, ...item } : item, depth + 1))
  }
  return kind === 'Endpoints' && object['apiVersion'] === 'v1' ? slicesOfEndpoints(object) : [object]
}

/**
 * One slice for each subset and address family, and one more for each further 1,000 endpoints. Addresses are ready,
 * notReadyAddresses are not.
 */
function slicesOfEndpoints(object: Fields): readonly unknown[] {
  const check = new FieldCheck()
  const metadata = check.fields(object['metadata'], 'metadata')
  const name = check.text(metadata['name'], 'metadata.name')
  const subsets = check.list(object['subsets'], 'subsets', OLD_ENDPOINTS_MAX)
  const slices = subsets.flatMap((item, index) => {
    const subset = check.fields(item, `subsets[${index}]`)
    const addresses = [
      ...subsetAddresses(check, subset, 'addresses'),
      ...subsetAddresses(check, subset, 'notReadyAddresses')
    ]
    return (['IPv4', 'IPv6'] as const).flatMap((addressType) => {
      const ofType = addresses.filter(({ addresses: [ip] }) => ip.includes(':') === (addressType === 'IPv6'))
      return chunks(ofType, SLICE_ENDPOINTS_MAX).map((endpoints, chunk) => ({
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: {
          namespace: metadata['namespace'],
          name: `${name}-endpoints-${index}-${addressType.toLowerCase()}${chunk === 0 ? '' : `-${chunk}`}`,
          labels: { 'kubernetes.io/service-name': name }
        },
        addressType,
        ports: subset['ports'],
        endpoints
      }))
    })
  })
  return check.fault ? [object] : slices
}

function chunks<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, at) =>
    items.slice(at * size, (at + 1) * size)
  )
}

/** The addresses of one list of a subset as endpoints of discovery.k8s.io/v1. */
function subsetAddresses(check: FieldCheck, subset: Fields, field: 'addresses' | 'notReadyAddresses') {
  return check.list(subset[field], field, OLD_ENDPOINTS_MAX).map((item) => {
    const address = check.fields(item, field)
    return {
      addresses: [check.text(address['ip'], `${field}.ip`)] as const,
      hostname: address['hostname'],
      nodeName: address['nodeName'],
      conditions: { ready: field === 'addresses' }
    }
  })
}

// Kubernetes sets no bound here except the size of an object, about 1.5 MiB.
const OLD_ENDPOINTS_MAX = 100_000
// kubectl writes lists one level deep. The bound keeps a hostile file from exhausting the stack.
const LIST_DEPTH_MAX = 3
