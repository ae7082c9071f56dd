// Zones of a cluster, as Kubernetes names them: the value of the label topology.kubernetes.io/zone of a Node. The readers
// of objects and settings, the decoder of records and the choice of endpoints ask this file. A zone of DNS is another
// thing (zones.ts).
// Sources: Kubernetes, "Well-Known Labels"; KEP-2433 (hints), KEP-4444 and KEP-3015 (trafficDistribution).

/** The label of a Node that has the name of its zone. */
export const ZONE_LABEL = 'topology.kubernetes.io/zone'

/** Most different zones of one EndpointSlice. Clusters have three zones as a rule; a slice has 1,000 endpoints at most. */
export const ZONES_MAX = 64
/** Most zones in the hints of one endpoint, as in the API validation of Kubernetes. */
export const FOR_ZONES_MAX = 8

// The value of a label that is not empty.
const ZONE = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/

/** Whether a text can be the name of a zone: at most 63 characters, as a value of a label. */
export function isZoneName(text: string): boolean {
  return ZONE.test(text)
}

/** Where a host is, as far as it is known; '' where it is not. */
export interface Place {
  readonly zone: string
  /** The name of the Node. */
  readonly node: string
}

/** A host whose place is not known: no endpoint is near it. */
export const NOWHERE: Place = { zone: '', node: '' }
