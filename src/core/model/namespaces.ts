// Which namespaces a cluster may export. Its invite names them (core/trust/set/statement.ts); without names it is every
// namespace. So a cluster that is invited for the namespace `shop` gets no share in `web.other.svc.cluster.all`. The view
// of each member holds the rule, and the publisher of the cluster itself, which then says what it leaves out.

/** The namespace of the record keys "svc/<namespace>/<name>" and "eps/<namespace>/<slice>"; undefined for other keys. */
export function namespaceOf(key: string): string | undefined {
  const [kind, namespace] = key.split('/', 2)
  return kind === 'svc' || kind === 'eps' ? namespace : undefined
}

/** Whether a cluster may export the record. `namespaces`: those of its invite, DNS labels; empty: all. */
export function mayExport(key: string, namespaces: readonly string[]): boolean {
  if (namespaces.length === 0) return true
  const namespace = namespaceOf(key)
  return namespace === undefined || namespaces.includes(namespace)
}
