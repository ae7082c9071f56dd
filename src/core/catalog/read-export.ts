// Reads ServiceExports of the Multi-Cluster Services API, for read-object.ts, and joins each with its Service, for
// catalog.ts. A ServiceExport has no content of its own but its creation time, labels and annotations: all else is that
// of the Service with the same name.
// Invariant: a label or annotation that cannot be carried is left out with a warning. It never keeps the Service from
// being exported.
// Source: KEP-1645, sigs.k8s.io/mcs-api v0.5.0 (v1alpha1 and v1beta1 have the same fields).
import { ATTRIBUTES_MAX, isAttribute, isReservedKey, type AttributeKind } from '../model/attributes.ts'
import { isFields, quote, type Fault, type FieldCheck, type Fields } from '../model/field-check.ts'
import type { Attribute, ClustersetExport, ServiceValue } from '../model/values.ts'
import { TRAFFIC_DISTRIBUTION } from '../wire/clusterset-codec.ts'
import { readExportTo, type ExportLimit } from './read-export-to.ts'

/** The API group of the Multi-Cluster Services API. */
export const MCS_GROUP = 'multicluster.x-k8s.io'

/** The versions of the API whose objects this program reads and writes, the best first. */
export const MCS_VERSIONS = ['v1beta1', 'v1alpha1'] as const

/** The fields of a Service that only its ServiceExport carries to other clusters. */
export type ServiceTraits = Pick<
  ClustersetExport,
  'ipFamilies' | 'internalTrafficPolicy' | 'trafficDistribution'
>

/** A ServiceExport: it exports the Service with its name, to the clusters of its limit. */
export interface ServiceExportValue
  extends Pick<ClustersetExport, 'exportedAt' | 'labels' | 'annotations'>, ExportLimit {
  readonly namespace: string
  readonly name: string
}

/** Reads a ServiceExport. The names are read already; `check` keeps a fault that makes the object invalid. */
export function readExport(
  check: FieldCheck,
  object: Fields,
  names: { readonly namespace: string; readonly name: string }
): { readonly value: ServiceExportValue; readonly warning: Fault | undefined } {
  check.label(names.name, 'metadata.name')
  const metadata = check.fields(object['metadata'], 'metadata')
  const spec = check.fields(object['spec'], 'spec')
  const labels = readAttributes(spec['exportedLabels'], 'labels', 'spec.exportedLabels')
  const annotations = readAttributes(spec['exportedAnnotations'], 'annotations', 'spec.exportedAnnotations')
  const { limit, fault } = readExportTo(object)
  return {
    value: {
      ...names,
      exportedAt: secondsOf(metadata['creationTimestamp']),
      labels: labels.list,
      annotations: annotations.list,
      ...limit
    },
    warning: fault ?? labels.warning ?? annotations.warning
  }
}

/** Reads the traits of a Service. Nothing here is a fault: a word that is not known counts as not set. */
export function readTraits(spec: Fields): ServiceTraits {
  const families = Array.isArray(spec['ipFamilies']) ? spec['ipFamilies'] : []
  const policy = spec['internalTrafficPolicy']
  const distribution = spec['trafficDistribution']
  return {
    ipFamilies: [...new Set(families.flatMap((each) => FAMILIES.get(each) ?? []))],
    internalTrafficPolicy: policy === 'Cluster' || policy === 'Local' ? policy : '',
    trafficDistribution:
      typeof distribution === 'string' && TRAFFIC_DISTRIBUTION.test(distribution) ? distribution : ''
  }
}

/** Returns the Service with its export; an alias (ExternalName) cannot be exported and stays as it is. */
export function withExport(
  service: ServiceValue,
  traits: ServiceTraits,
  { exportedAt, labels, annotations }: ServiceExportValue
): ServiceValue {
  if (service.externalName !== '') return service
  return { ...service, clusterset: { exportedAt, ...traits, labels, annotations } }
}

const FAMILIES: ReadonlyMap<unknown, 4 | 6> = new Map([
  ['IPv4', 4],
  ['IPv6', 6]
])

/** Reads a time such as "2026-11-28T02:36:06Z" as Unix seconds, without a clock; 0 when it is no such time. */
function secondsOf(value: unknown): number {
  const match = typeof value === 'string' ? TIME.exec(value) : null
  if (match === null) return 0
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number)
  return Math.max(0, Date.UTC(year, month - 1, day, hour, minute, second) / 1000)
}

const TIME = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d{1,9})?Z$/

function readAttributes(
  value: unknown,
  kind: AttributeKind,
  where: string
): { readonly list: readonly Attribute[]; readonly warning: Fault | undefined } {
  const entries = isFields(value) ? Object.entries(value) : []
  const all = entries
    .map(([key, text]): Attribute => ({ key, value: typeof text === 'string' ? text : '' }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
  const carried = all.filter((each) => isAttribute(each, kind) && !isReservedKey(each.key))
  const list = carried.slice(0, ATTRIBUTES_MAX)
  const left = all.find((each) => !list.includes(each))
  if (left === undefined) return { list, warning: undefined }
  const fix = isReservedKey(left.key)
    ? 'use a key without kubernetes.io, k8s.io or rhizome.io: those steer controllers'
    : `use at most ${ATTRIBUTES_MAX} ${kind} of printable ASCII characters, with values that Kubernetes accepts`
  return {
    list,
    warning: {
      where,
      message: `${where} has ${all.length - list.length} ${kind} that are not carried to other clusters, for example ${quote(left.key)}`,
      fix
    }
  }
}
