// The DNS zones of the mesh in one list. The name function, the Corefiles, the aliases of a catalogue, the reserved
// names of clusters and meshctl read it, so a new zone is one row here.
//
// - `cluster.<name>` for each cluster of the mesh;
// - the merged zones: `cluster.all` has the services of all clusters that are not withdrawn, `clusterset.local` those
//   that ServiceExports export (docs/mcs.md);
// - the reverse zones inside the prefixes of the mesh (dns/arpa.ts).
// Source: Kubernetes DNS-Based Service Discovery 1.1.0, for the names inside a zone.
import type { ServiceValue } from './values.ts'

/** The zone of the Multi-Cluster Services API (KEP-1645). */
export const CLUSTERSET_ZONE = 'clusterset.local'

/**
 * Zones that answer for all clusters together, in lower case and without a final dot. Each has two labels, because
 * the name function finds a zone by the last two labels of a question (test/core/model/zones.test.ts).
 */
export const MERGED_ZONES: readonly string[] = ['cluster.all', CLUSTERSET_ZONE]

/**
 * The domain of a Kubernetes cluster's own services, unless the cluster was set up with another. The mesh never
 * serves it.
 */
export const KUBERNETES_DOMAIN = 'cluster.local'

/** The domains under which addresses have names: RFC 1035 3.5 and RFC 3596 2.5. */
export const REVERSE_DOMAINS = { IPv4: 'in-addr.arpa', IPv6: 'ip6.arpa' } as const

const CLUSTER_PREFIX = 'cluster.'

/** Returns the zone of one cluster: "cluster.east". */
export function clusterZone(cluster: string): string {
  return `${CLUSTER_PREFIX}${cluster}`
}

/** Returns the name of a service in a cluster's zone: "web.shop.svc.cluster.east". */
export function serviceDomain(
  cluster: string,
  { name, namespace }: Pick<ServiceValue, 'name' | 'namespace'>
): string {
  return `${name}.${namespace}.svc.${clusterZone(cluster)}`
}

/** Returns the name of a service in `clusterset.local`. */
export function clustersetDomain({ name, namespace }: Pick<ServiceValue, 'name' | 'namespace'>): string {
  return `${name}.${namespace}.svc.${CLUSTERSET_ZONE}`
}

/**
 * Returns the key of a service of `clusterset.local` among the addresses of merged zones. The key of a service of
 * `cluster.all` is "<namespace>/<name>" alone, and no name of Kubernetes has the "@".
 */
export function clustersetKey(serviceKey: string): string {
  return `${serviceKey}@${CLUSTERSET_ZONE}`
}

/** Whether a key among the addresses of merged zones is that of a service of `clusterset.local`. */
export function isClustersetKey(key: string): boolean {
  return key.endsWith(`@${CLUSTERSET_ZONE}`)
}

/**
 * Whether a zone is `cluster.<x>`, whether or not the mesh has a cluster x; false for `cluster.local`, the domain of
 * Kubernetes itself. `zone`: lower case, without a final dot.
 */
export function isClusterZone(zone: string): boolean {
  return zone.startsWith(CLUSTER_PREFIX) && zone !== KUBERNETES_DOMAIN
}

/** Whether a zone has names of services: a cluster's or a merged one. A reverse zone has none. */
export function isServiceZone(zone: string): boolean {
  return isClusterZone(zone) || MERGED_ZONES.includes(zone)
}

/** Names that no cluster may have, because their zone has another meaning: "all" and "local". */
export const RESERVED_CLUSTER_NAMES: ReadonlySet<string> = new Set(
  [...MERGED_ZONES, KUBERNETES_DOMAIN]
    .filter((zone) => zone.startsWith(CLUSTER_PREFIX))
    .map((zone) => zone.slice(CLUSTER_PREFIX.length))
)
