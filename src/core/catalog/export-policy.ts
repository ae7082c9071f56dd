// Which Services of this cluster other clusters can see. Precedence: the administrator's lists of namespaces, then
// the Service's own annotation, then its ServiceExport, then the annotation of its namespace, then the rest of the
// policy. LiveCatalog asks for each service of a Kubernetes source.
// Invariants
//   1. default/kubernetes, the cluster's own API, is exported only when the Service itself has the annotation "true" or
//      a ServiceExport.
//   2. A namespace that the administrator's lists exclude exports nothing. A tenant who may write a Service or a
//      Namespace cannot annotate it out of the cluster (docs/decisions/0054).
//   3. An annotation that is neither "true" nor "false" keeps the Service in the cluster: the cautious reading of a
//      typing error.
//   4. A ServiceExport only adds: no Service is exported less because of it (docs/mcs.md).
import { isFields, type Fields } from '../model/field-check.ts'
import { selects, type LabelSelector } from '../kube/label-selector.ts'

/** On a Service or a Namespace, with the value "true" or "false". */
const EXPORT_ANNOTATION = 'rhizome.io/export'

/** The settings `export`, `export-namespaces`, `export-except-namespaces` and `export-selector`, parsed. */
export interface ExportPolicy {
  /** What happens to a Service without an annotation, when the lists and the selector accept it. */
  readonly unmarked: 'export' | 'keep'
  /** Names of namespaces that may export; empty: all. Annotations cannot override it (invariant 2). */
  readonly namespaces: readonly string[]
  /** Names of namespaces that export nothing; it takes precedence over `namespaces`. */
  readonly exceptNamespaces: readonly string[]
  /** Labels that a Service without an annotation must have; empty: any. */
  readonly selector: LabelSelector
}

/** The policy that exports every Service except default/kubernetes; the default of the sources. */
export const EXPORT_ALL: ExportPolicy = {
  unmarked: 'export',
  namespaces: [],
  exceptNamespaces: [],
  selector: []
}

/**
 * `whole`: with its endpoints. `name`: without them, so its name resolves and connections are refused. `none`: not at
 * all.
 */
type ExportVerdict = 'whole' | 'name' | 'none'

/**
 * The facts of one Service that the policy needs. They are small, because one is kept for each of 10,000 Services.
 */
export interface ExportFacts {
  /** The annotation of the Service; undefined when it has none. */
  readonly asked: boolean | undefined
  /** Whether the selector of the policy matches its labels. */
  readonly selected: boolean
  /**
   * internalTrafficPolicy: Local. Traffic to such a Service never leaves the node, and a client in another cluster is
   * always on another node.
   */
  readonly nodeLocal: boolean
}

/** What a Service of a folder says for the policy. It is kept with the object, because the settings are not known there. */
export interface ExportMarks extends Pick<ExportFacts, 'asked'> {
  /** For the setting export-selector. */
  readonly labels: Fields
}

/**
 * Reads the facts from a Service object of the Kubernetes API. It never throws: malformed metadata counts as absent.
 */
export function exportFacts(service: Fields, policy: ExportPolicy): ExportFacts {
  const metadata = isFields(service['metadata']) ? service['metadata'] : {}
  const spec = isFields(service['spec']) ? service['spec'] : {}
  return {
    asked: askedToExport(service),
    selected: selects(policy.selector, isFields(metadata['labels']) ? metadata['labels'] : {}),
    nodeLocal: spec['internalTrafficPolicy'] === 'Local'
  }
}

/**
 * The annotation of a Service or Namespace: true, false (also for any other text), or undefined when there is none.
 */
export function askedToExport(object: Fields): boolean | undefined {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const annotations = isFields(metadata['annotations']) ? metadata['annotations'] : {}
  const value = annotations[EXPORT_ANNOTATION]
  return value === undefined ? undefined : value === 'true'
}

/**
 * Whether a Service is exported. `namespaceAsked` is the annotation rhizome.io/export of its namespace; undefined:
 * none. `hasExport`: there is a ServiceExport for it.
 */
export function exportVerdict(
  service: {
    readonly namespace: string
    readonly name: string
    readonly facts: ExportFacts
    readonly hasExport?: boolean
  },
  namespaceAsked: boolean | undefined,
  policy: ExportPolicy
): ExportVerdict {
  const { namespace, name, facts, hasExport = false } = service
  if (!isOpen(namespace, policy)) return 'none'
  if (facts.asked ?? hasExport) return 'whole'
  if (facts.asked === false || (namespace === 'default' && name === 'kubernetes')) return 'none'
  const leaves = namespaceAsked ?? (policy.unmarked === 'export' && facts.selected)
  if (!leaves) return 'none'
  return facts.nodeLocal ? 'name' : 'whole'
}

/** Whether the administrator's lists let a namespace export. */
function isOpen(namespace: string, { namespaces, exceptNamespaces }: ExportPolicy): boolean {
  return (namespaces.length === 0 || namespaces.includes(namespace)) && !exceptNamespaces.includes(namespace)
}
