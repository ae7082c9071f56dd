// Joins the ServiceExports of a source with the Services of the same names, for catalog.ts.
import type { ServiceValue } from '../model/values.ts'
import { withExport, type ServiceTraits } from './read-export.ts'
import { joinLimits } from './read-export-to.ts'
import type { Reading } from './read-object.ts'

interface Read {
  readonly reading: Reading
}

interface Placed<T extends Read> {
  readonly item: T
  readonly value: ServiceValue
}

/** Why a ServiceExport, or a Service, exports nothing: a problem without its place. */
interface Fault {
  readonly message: string
  readonly fix: string
  readonly level: 'warning' | 'error'
}

/**
 * Returns the services, each with its export. `services` has record keys, `exports` has "<namespace>/<name>". The last
 * of several ServiceExports with one name counts. `onIdle` is called for each that exports nothing, and for each service that
 * no cluster may see (read-export-to.ts), which is left out.
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
  return [...services.values()].flatMap(({ item, value }) => {
    const { reading } = item
    if (reading.kind !== 'service') return [{ item, value }]
    const found = exports.get(`${value.namespace}/${value.name}`)?.reading
    const exported = found?.kind === 'serviceExport' && value.externalName === '' ? found.value : undefined
    const clusters = joinLimits(reading.limit ?? {}, exported ?? {})
    if (clusters === 'none') {
      onIdle(item, keptFault(value))
      return []
    }
    const limited = clusters === 'all' ? value : { ...value, exportTo: clusters }
    return [{ item, value: exported ? withExport(limited, reading.traits ?? NO_TRAITS, exported) : limited }]
  })
}

function keptFault({ namespace, name }: ServiceValue): Fault {
  return {
    message: `Service ${namespace}/${name} is exported to no cluster: no name is in rhizome.io/export-to of the Service and of its ServiceExport`,
    fix: 'correct the annotation of one of the two, or remove it',
    level: 'error'
  }
}

const NO_TRAITS: ServiceTraits = { ipFamilies: [], internalTrafficPolicy: '', trafficDistribution: '' }
const FIX = 'make a Service with a cluster IP or a headless one under this name, or delete the ServiceExport'
