// Joins the ServiceExports of a source with the Services of the same names, for catalog.ts.
import type { ServiceValue } from '../model/values.ts'
import { withExport, type ServiceTraits } from './read-export.ts'
import type { Reading } from './read-object.ts'

interface Read {
  readonly reading: Reading
}

interface Placed<T extends Read> {
  readonly item: T
  readonly value: ServiceValue
}

/** Why a ServiceExport exports nothing: a problem without its place. */
interface Fault {
  readonly message: string
  readonly fix: string
  readonly level: 'warning'
}

/**
 * Returns the services, each with its export. `services` has record keys, `exports` has "<namespace>/<name>". The last
 * of several ServiceExports with one name counts. `onIdle` is called for each that exports nothing.
 */
export function joinExports<T extends Read>(
  services: ReadonlyMap<string, Placed<T>>,
  exports: ReadonlyMap<string, T>,
  onIdle: (item: T, fault: Fault) => void
): readonly Placed<T>[] {
  for (const [key, item] of exports) {
    const service = services.get(`svc/${key}`)?.value
    if (service?.externalName === '') continue
    const reason =
      service === undefined ? `there is no Service ${key}` : `the Service ${key} has the type ExternalName`
    onIdle(item, { message: `ServiceExport ${key} exports nothing: ${reason}`, fix: FIX, level: 'warning' })
  }
  return [...services.values()].map(({ item, value }) => {
    const found = exports.get(`${value.namespace}/${value.name}`)?.reading
    if (item.reading.kind !== 'service' || found?.kind !== 'serviceExport') return { item, value }
    return { item, value: withExport(value, item.reading.traits ?? NO_TRAITS, found.value) }
  })
}

const NO_TRAITS: ServiceTraits = { ipFamilies: [], internalTrafficPolicy: '', trafficDistribution: '' }
const FIX = 'make a Service with a cluster IP or a headless one under this name, or delete the ServiceExport'
