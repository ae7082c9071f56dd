// Labels and annotations that a ServiceExport carries to the ServiceImports of other clusters: their form and their bounds.
// The reader of ServiceExports, the decoder of records and the writer of ServiceImports ask this file.
// Sources: Kubernetes, "Labels and Selectors" and "Annotations"; KEP-1645, "Labels and annotations".
import { isDnsSubdomain } from './dns-name.ts'
import type { Attribute } from './values.ts'

/** Most labels, and most annotations, of one export. A record carries all of them: at most 28 KiB. */
export const ATTRIBUTES_MAX = 16
/** Most characters of the value of an annotation. */
const ANNOTATION_CHARACTERS_MAX = 1024

const NAME = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/
const PRINTABLE = new RegExp(`^[ -~]{0,${ANNOTATION_CHARACTERS_MAX}}$`)

/** What an attribute is: labels and annotations have the same keys, and values of different forms. */
export type AttributeKind = 'labels' | 'annotations'

/** Whether key and value have the form of a label or annotation that records carry. */
export function isAttribute({ key, value }: Attribute, kind: AttributeKind): boolean {
  const slash = key.indexOf('/')
  const hasPrefix = slash < 0 || isDnsSubdomain(key.slice(0, slash))
  if (!hasPrefix || !NAME.test(key.slice(slash + 1))) return false
  return kind === 'labels' ? value === '' || NAME.test(value) : PRINTABLE.test(value)
}

/**
 * Whether a key belongs to Kubernetes or to this program. Such a key steers controllers, so that of another cluster is
 * never written.
 */
export function isReservedKey(key: string): boolean {
  return RESERVED.test(key)
}

const RESERVED = /^(?:[^/]*\.)?(?:kubernetes|k8s|rhizome)\.io\//
