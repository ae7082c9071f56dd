// The part of a service's record that its ServiceExport adds, between bytes and values; value-codec.ts calls it.
// Invariant: what decodeClusterset returns has known words, bounded lists and the form of Kubernetes' labels and
// annotations. No later code checks again.
import { ATTRIBUTES_MAX, isAttribute, type AttributeKind } from '../model/attributes.ts'
import type { Attribute, ClustersetExport } from '../model/values.ts'
import type { ValueMessage } from './messages.ts'

type ExportMessage = NonNullable<NonNullable<ValueMessage['service']>['clusterset']>

/** A word of the Kubernetes API that may be new: "PreferClose", "PreferSameZone". */
export const TRAFFIC_DISTRIBUTION = /^[A-Za-z]{0,63}$/

/** Returns the export of a message; undefined when a field of it is malformed. */
export function decodeClusterset(message: ExportMessage): ClustersetExport | undefined {
  const { exportedAt, internalTrafficPolicy, trafficDistribution, labels, annotations } = message
  const ipFamilies = message.ipFamilies.filter((family) => family === 4 || family === 6)
  const hasFamilies =
    ipFamilies.length === message.ipFamilies.length && new Set(ipFamilies).size === ipFamilies.length
  if (!hasFamilies || !isTrafficPolicy(internalTrafficPolicy)) return undefined
  if (!TRAFFIC_DISTRIBUTION.test(trafficDistribution)) return undefined
  if (!areAttributes(labels, 'labels') || !areAttributes(annotations, 'annotations')) return undefined
  return {
    exportedAt,
    ipFamilies,
    internalTrafficPolicy,
    trafficDistribution,
    labels: labels.map(({ key, value }) => ({ key, value })),
    annotations: annotations.map(({ key, value }) => ({ key, value }))
  }
}

/** Returns the fields of the message for an export. */
export function encodeClusterset({ ipFamilies, labels, annotations, ...others }: ClustersetExport) {
  return {
    ...others,
    ipFamilies: [...ipFamilies],
    labels: labels.map(({ key, value }) => ({ key, value })),
    annotations: annotations.map(({ key, value }) => ({ key, value }))
  }
}

function isTrafficPolicy(text: string): text is ClustersetExport['internalTrafficPolicy'] {
  return text === '' || text === 'Cluster' || text === 'Local'
}

/** Whether a list is short enough, in the order of its keys, without a key twice, and of the right form. */
function areAttributes(list: readonly Attribute[], kind: AttributeKind): boolean {
  return (
    list.length <= ATTRIBUTES_MAX &&
    list.every((each, index) => isAttribute(each, kind) && (list[index - 1]?.key ?? '') < each.key)
  )
}
