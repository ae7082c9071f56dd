// Applies the export policy to the objects of a folder of manifests, which is read as a whole at each change. LiveCatalog
// does the same for a Kubernetes API, where it also follows the annotations of namespaces.
// Invariant: a Service that is kept in the site has no EndpointSlices in the result, and is in no problem.
import { askedToExport, exportVerdict, type ExportMarks, type ExportPolicy } from './export-policy.ts'
import { toValue, type Item, type Problem } from './catalog.ts'
import { expand } from './object-list.ts'
import { isFields } from '../model/field-check.ts'
import { selects } from '../kube/label-selector.ts'

/** The objects in one document of a folder: several for a List or a v1 Endpoints. */
export function readObject(
  object: unknown,
  place: { readonly file: string; readonly where?: string }
): Item[] {
  return expand(object).map((each) => ({ ...place, reading: toValue(each), ...marksOf(each) }))
}

/** Returns the marks of an object of a folder as a field of its item; no field for other objects than a Service. */
function marksOf(object: unknown): { readonly marks?: ExportMarks } {
  if (!isFields(object) || object['kind'] !== 'Service') return {}
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const labels = isFields(metadata['labels']) ? metadata['labels'] : {}
  return { marks: { asked: askedToExport(object), labels } }
}

/** The objects that leave the site, and the ServiceExports that the policy overrules. */
interface Leaving {
  readonly items: readonly Item[]
  readonly problems: readonly Problem[]
}

/** Returns the items without those of Services that the policy keeps. A Service that an earlier version has saved has no marks. */
export function leaving(items: readonly Item[], policy: ExportPolicy): Leaving {
  const exports = new Set(items.flatMap((item) => (kindOf(item) === 'serviceExport' ? idsOf(item) : [])))
  const kept = new Set(
    items.flatMap(({ reading, marks = UNMARKED }) => {
      if (reading.kind !== 'service') return []
      const { namespace, name, externalName } = reading.value
      const id = `${namespace}/${name}`
      const verdict = exportVerdict(
        {
          namespace,
          name,
          facts: { asked: marks.asked, selected: selects(policy.selector, marks.labels), nodeLocal: false },
          // A ServiceExport cannot export an alias.
          hasExport: externalName === '' && exports.has(id)
        },
        undefined,
        policy
      )
      return verdict === 'none' ? [id] : []
    })
  )
  if (kept.size === 0) return { items, problems: [] }
  const isKept = (item: Item): boolean => idsOf(item).some((id) => kept.has(id))
  return {
    items: items.filter((item) => !isKept(item)),
    problems: items.filter((item) => kindOf(item) === 'serviceExport' && isKept(item)).map(overruled)
  }
}

const UNMARKED: ExportMarks = { asked: undefined, labels: {} }

function kindOf({ reading }: Item): Item['reading']['kind'] {
  return reading.kind
}

/** "<namespace>/<name>" of the Service that an object is about; none for an object that could not be read. */
function idsOf({ reading }: Item): readonly string[] {
  switch (reading.kind) {
    case 'service':
    case 'serviceExport':
      return [`${reading.value.namespace}/${reading.value.name}`]
    case 'endpointSlice':
      return [`${reading.value.namespace}/${reading.value.service}`]
    case 'ignored':
    case 'problem':
      return []
    default:
      return reading satisfies never
  }
}

function overruled(item: Item): Problem {
  const [id = ''] = idsOf(item)
  return {
    file: item.file,
    ...(item.where !== undefined && { where: item.where }),
    message: `ServiceExport ${id} exports nothing: the settings export-namespaces and export-except-namespaces, the annotation rhizome.io/export of the Service, or its type keep it in this site`,
    fix: 'delete the ServiceExport, or change the settings or the Service',
    level: 'warning'
  }
}
