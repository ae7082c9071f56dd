// Reads the annotation rhizome.io/export-to of a Service or a ServiceExport: the clusters that may see the service. A list
// limits and never adds, and where both objects have one, a cluster must be in both.
// Invariants
//   1. A value that is not understood names no cluster. So a typing error keeps the service in its cluster, and never shows
//      it to more clusters than were meant.
//   2. A list that is published has at least one name, because an empty one on the wire means all clusters.
import { parseClusterName } from '../model/identity.ts'
import { isFields, quote, type Fault, type Fields } from '../model/field-check.ts'
import { EXPORT_TO_MAX, type ClusterName, type ExportTo } from '../model/values.ts'

/** On a Service or a ServiceExport: names of clusters, separated by commas or spaces. */
const EXPORT_TO_ANNOTATION = 'rhizome.io/export-to'

/** The clusters that one object names; empty: none. The field is absent when the object has no annotation. */
export interface ExportLimit {
  readonly exportTo?: readonly ClusterName[]
}

/** Reads the annotation. With a fault the list is empty (invariant 1). It never throws. */
export function readExportTo(object: Fields): { readonly limit: ExportLimit; readonly fault?: Fault } {
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const annotations = isFields(metadata['annotations']) ? metadata['annotations'] : {}
  const text = annotations[EXPORT_TO_ANNOTATION]
  if (text === undefined || text === null) return { limit: {} }
  if (typeof text !== 'string') return refused('is not text', 'put its value in quotation marks')
  // A longer text has more names than are allowed, and is not split.
  const words = text.length > TEXT_MAX ? [] : text.split(/[\s,]+/).filter((word) => word !== '')
  if (text.length > TEXT_MAX || words.length > EXPORT_TO_MAX)
    return refused(`names more than ${EXPORT_TO_MAX} clusters`, `name at most ${EXPORT_TO_MAX}`)
  const wrong = words.find((word) => parseClusterName(word).kind === 'invalid')
  if (wrong !== undefined)
    return refused(`has ${quote(wrong)}, which is no name of a cluster`, 'write names as in "east, edge-1"')
  if (words.length === 0) return refused('names no cluster', 'name one, or remove the annotation')
  const names = words
    .map(parseClusterName)
    .flatMap((name) => (name.kind === 'clusterName' ? [name.clusterName] : []))
  const exportTo = [...new Set(names)].sort()
  return { limit: { exportTo } }
}

// A name of 63 characters and a separator of two each.
const TEXT_MAX = EXPORT_TO_MAX * 65

function refused(problem: string, fix: string): { readonly limit: ExportLimit; readonly fault: Fault } {
  return {
    limit: { exportTo: [] },
    fault: {
      where: `metadata.annotations."${EXPORT_TO_ANNOTATION}"`,
      message: `${EXPORT_TO_ANNOTATION} ${problem}, so no other cluster gets the service`,
      fix
    }
  }
}

/**
 * Joins the limits of a Service and its ServiceExport. `all`: neither has one. `none`: no cluster is in both, and the
 * service must not be published (invariant 2).
 */
export function joinLimits(one: ExportLimit, other: ExportLimit): ExportTo | 'all' | 'none' {
  const lists = [one.exportTo, other.exportTo].filter((list) => list !== undefined)
  const [first, ...rest] = lists
  if (first === undefined) return 'all'
  const [name, ...names] = first.filter((each) => rest.every((list) => list.includes(each)))
  return name === undefined ? 'none' : [name, ...names]
}
