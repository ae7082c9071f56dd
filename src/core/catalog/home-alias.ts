// An ExternalName that points into its own cluster, rewritten for other clusters. `db.shop.svc.cluster.local` means
// another service in each cluster, so `db.shop.svc.cluster.<exporter>` is published. catalog.ts calls it for each
// Service of type ExternalName.
// Source: Kubernetes, "DNS for Services and Pods": the domain of a cluster, and the search list of its pods.
import { clusterZone, KUBERNETES_DOMAIN } from '../model/zones.ts'

/** The cluster that exports the Service with the ExternalName. */
interface Home {
  /** Its name in the mesh. */
  readonly cluster: string
  /** The domain of its own services, when it is not `cluster.local`; '' counts as absent. */
  readonly clusterDomain?: string
  readonly hasService: (namespace: string, name: string) => boolean
}

/**
 * The name to publish for `target`, which is in lower case and without a final dot. It is returned unchanged when it
 * names nothing in the cluster.
 */
export function homeAlias(target: string, namespace: string, home: Home): string {
  const zone = clusterZone(home.cluster)
  for (const domain of [KUBERNETES_DOMAIN, home.clusterDomain ?? '']) {
    if (domain === '') continue
    if (target === domain) return zone
    if (target.endsWith(`.${domain}`)) return `${target.slice(0, -domain.length)}${zone}`
  }
  const labels = target.split('.')
  // A host outside the cluster never has a name of one label, and `svc` is not a top-level domain.
  if (labels.length === 1) return `${target}.${namespace}.svc.${zone}`
  if (labels.length > 2 && labels.at(-1) === 'svc') return `${target}.${zone}`
  const named = namedService(target)
  return named !== undefined && home.hasService(named.namespace, named.name)
    ? `${target}.svc.${zone}`
    : target
}

/**
 * The service that the last two labels of a name would mean. "web.shop" may be that service or a host elsewhere,
 * which depends on whether the service exists (docs/decisions/0053).
 */
export function namedService(
  target: string
): { readonly namespace: string; readonly name: string } | undefined {
  const [name, namespace] = target.split('.').slice(-2)
  return name === undefined || namespace === undefined || name === '' ? undefined : { namespace, name }
}
