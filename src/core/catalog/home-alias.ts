// An ExternalName that points into its own cluster, as other clusters must read it. `db.shop.svc.cluster.local` is another service in
// every cluster: what is published is `db.shop.svc.cluster.<exporter>`.
// Source: Kubernetes, "DNS for Services and Pods": the domain of a cluster, and the search list of its pods.

interface Home {
  /** The exporter. */
  readonly cluster: string
  /** Domain of the exporter's own services, where it is not `cluster.local`. */
  readonly clusterDomain?: string
  readonly hasService: (namespace: string, name: string) => boolean
}

/** `target` without a final dot, lower case. It stays as it is where it names nothing of the cluster. */
export function homeAlias(target: string, namespace: string, home: Home): string {
  const zone = `cluster.${home.cluster}`
  for (const domain of ['cluster.local', home.clusterDomain ?? '']) {
    if (domain === '') continue
    if (target === domain) return zone
    if (target.endsWith(`.${domain}`)) return `${target.slice(0, -domain.length)}${zone}`
  }
  const labels = target.split('.')
  // No host outside has a name of one label, and `svc` is no top-level domain.
  if (labels.length === 1) return `${target}.${namespace}.svc.${zone}`
  if (labels.length > 2 && labels.at(-1) === 'svc') return `${target}.${zone}`
  const named = namedService(target)
  return named !== undefined && home.hasService(named.namespace, named.name)
    ? `${target}.svc.${zone}`
    : target
}

/** "web.shop" may be a service or a host elsewhere: which of them it is depends on whether this service exists. */
export function namedService(
  target: string
): { readonly namespace: string; readonly name: string } | undefined {
  const [name, namespace] = target.split('.').slice(-2)
  return name === undefined || namespace === undefined || name === '' ? undefined : { namespace, name }
}
