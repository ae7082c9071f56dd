// Which Services of this cluster the others get to see. Precedence: the administrator's lists of namespaces, then the Service's own
// annotation, then its namespace's, then the rest of the policy. Invariants
//   1. default/kubernetes, the cluster's own API, leaves only when the Service itself is annotated so.
//   2. A namespace that the administrator's lists leave out exports nothing: whoever may write a Service or a Namespace there
//      cannot annotate it out of the cluster.
//   3. An annotation that is neither "true" nor "false" keeps the Service at home: the cautious reading of a typing error.
import { isFields, type Fields } from '../model/field-check.ts'
import { selects, type LabelSelector } from '../kube/label-selector.ts'

const EXPORT_ANNOTATION = 'rhizome.io/export'

export interface ExportPolicy {
  /** What becomes of a Service without annotation that the lists and the selector let pass. */
  readonly unmarked: 'export' | 'keep'
  /** Names of namespaces; empty = all. Binding, whatever is annotated in the others (invariant 2). */
  readonly namespaces: readonly string[]
  readonly exceptNamespaces: readonly string[]
  /** On the labels of a Service without annotation; empty = all. */
  readonly selector: LabelSelector
}

/** As the seed had it: everything. */
export const EXPORT_ALL: ExportPolicy = {
  unmarked: 'export',
  namespaces: [],
  exceptNamespaces: [],
  selector: []
}

/** `name`: the Service without its endpoints, so that its name resolves and connections are refused. */
type ExportVerdict = 'whole' | 'name' | 'none'

/** What the policy must know of a Service: little enough to keep one for each of 10,000. */
export interface ExportFacts {
  readonly asked: boolean | undefined
  readonly selected: boolean
  /** internalTrafficPolicy: Local. Its traffic never leaves the node, and another cluster's client is on another node. */
  readonly nodeLocal: boolean
}

export function exportFacts(service: Fields, policy: ExportPolicy): ExportFacts {
  const metadata = isFields(service['metadata']) ? service['metadata'] : {}
  const spec = isFields(service['spec']) ? service['spec'] : {}
  return {
    asked: askedToExport(service),
    selected: selects(policy.selector, isFields(metadata['labels']) ? metadata['labels'] : {}),
    nodeLocal: spec['internalTrafficPolicy'] === 'Local'
  }
}

/** The annotation of a Service or Namespace; undefined when there is none. */
export function askedToExport(object: Fields): boolean | undefined {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const annotations = isFields(metadata['annotations']) ? metadata['annotations'] : {}
  const value = annotations[EXPORT_ANNOTATION]
  return value === undefined ? undefined : value === 'true'
}

export function exportVerdict(
  service: { readonly namespace: string; readonly name: string; readonly facts: ExportFacts },
  namespaceAsked: boolean | undefined,
  policy: ExportPolicy
): ExportVerdict {
  const { namespace, name, facts } = service
  if (!isOpen(namespace, policy)) return 'none'
  if (facts.asked === true) return 'whole'
  if (facts.asked === false || (namespace === 'default' && name === 'kubernetes')) return 'none'
  const leaves = namespaceAsked ?? (policy.unmarked === 'export' && facts.selected)
  if (!leaves) return 'none'
  return facts.nodeLocal ? 'name' : 'whole'
}

function isOpen(namespace: string, { namespaces, exceptNamespaces }: ExportPolicy): boolean {
  return (namespaces.length === 0 || namespaces.includes(namespace)) && !exceptNamespaces.includes(namespace)
}
