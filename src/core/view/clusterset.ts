// One service of the ServiceExports of all clusters (Multi-Cluster Services API): which clusters export it, what they agree
// on, and where they differ. DNS, load balancer, ServiceImports and conditions all read this one result.
// Invariants
//   1. The result depends on the exports alone, so all clusters get the same one, also when exports arrive in another order.
//   2. Of two exports that differ, the older one counts; of the same age, that of the first cluster by name. An export that
//      does not say when it was made is the youngest.
//   3. Each cluster has at most EXPORTS_PER_NAMESPACE_MAX exports in a namespace and EXPORTS_PER_CLUSTER_MAX in all. What
//      is beyond is refused by its name, so that no tenant takes the place of another namespace.
// Source: KEP-1645, "Constraints and Conflict Resolution".
import { familyOf } from '../model/cidr.ts'
import type { Attribute, ClusterName, ClustersetExport, ServicePort, ServiceValue } from '../model/values.ts'
import type { ClusterView, MeshView, ServiceView } from './view.ts'

/** Most exports of one cluster in one namespace, the first by name. */
export const EXPORTS_PER_NAMESPACE_MAX = 1024
/** Most exports of one cluster, the first by namespace and name. */
export const EXPORTS_PER_CLUSTER_MAX = 4096

/** One cluster's export. */
interface Exporter {
  readonly cluster: ClusterName
  readonly view: ServiceView
  readonly exported: ClustersetExport
}

/** What two exports of a service can differ in: the reasons of the condition Conflict. */
const CONFLICTS = [
  'PortConflict',
  'TypeConflict',
  'SessionAffinityConflict',
  'SessionAffinityConfigConflict',
  'AnnotationsConflict',
  'LabelsConflict',
  'InternalTrafficPolicyConflict',
  'TrafficDistributionConflict',
  'IPFamilyConflict'
] as const
type ConflictReason = (typeof CONFLICTS)[number]

/** A difference from the oldest export, and the first cluster that has it. */
interface ExportConflict {
  readonly reason: ConflictReason
  readonly cluster: ClusterName
}

/** What the exporting clusters agree on. */
export interface Agreed {
  /** Without addresses. Its ports are those of all exports; all else is that of the oldest. */
  readonly service: ServiceValue
  readonly exported: ClustersetExport
  /** In the order of CONFLICTS. */
  readonly conflicts: readonly ExportConflict[]
}

/** A service of `clusterset.local`. */
export interface ClustersetService extends Agreed {
  /** "<namespace>/<name>" */
  readonly key: string
  /** The oldest export first. */
  readonly exporters: readonly [Exporter, ...Exporter[]]
}

/** A cluster with what it exports within the limits. */
export interface ExportingCluster extends Pick<ClusterView, 'name' | 'services'> {
  readonly exported: ReadonlySet<string>
}

/** Returns the exports of a service in the clusters, the oldest first; undefined when no cluster exports it. */
export function exportersOf(
  clusters: readonly ExportingCluster[],
  key: string
): readonly [Exporter, ...Exporter[]] | undefined {
  const found: Exporter[] = []
  for (const { name, services, exported: keys } of clusters) {
    const view = keys.has(key) ? services.get(key) : undefined
    const exported = view?.service.clusterset
    if (view !== undefined && exported !== undefined) found.push({ cluster: name, view, exported })
  }
  const [first, ...others] = found.sort(byAge)
  return first === undefined ? undefined : [first, ...others]
}

/** Returns the services of `clusterset.local`, in the order of their names. */
export function clustersetServices(view: Pick<MeshView, 'clusters'>): readonly ClustersetService[] {
  const clusters = [...view.clusters.values()].map(({ name, services }): ExportingCluster => ({
    name,
    services,
    exported: exportedKeys(services)
  }))
  const keys = new Set(clusters.flatMap(({ exported }) => [...exported]))
  return [...keys].sort().flatMap((key): readonly ClustersetService[] => {
    const exporters = exportersOf(clusters, key)
    return exporters === undefined ? [] : [{ key, exporters, ...agreedOf(exporters) }]
  })
}

/**
 * Returns what the exporters agree on; the same object as before while their exports are the same objects, so that a
 * change of endpoints costs nothing.
 */
export function agreedOf(exporters: readonly [Exporter, ...Exporter[]]): Agreed {
  const [oldest] = exporters
  const known = agreements.get(oldest.view.service)
  const isSame =
    known?.exporters.length === exporters.length &&
    known.exporters.every(
      ({ cluster, view }, index) =>
        cluster === exporters[index]?.cluster && view.service === exporters[index]?.view.service
    )
  if (isSame) return known.agreed
  const agreed = agree(exporters)
  agreements.set(oldest.view.service, { exporters, agreed })
  return agreed
}

const agreements = new WeakMap<
  ServiceValue,
  { readonly exporters: readonly Exporter[]; readonly agreed: Agreed }
>()

// The exports of a cluster within the limits, by the identity of the map. A view keeps the map of a cluster that did not
// change.
const keysOf = new WeakMap<ReadonlyMap<string, ServiceView>, ReadonlySet<string>>()

/** Returns the services that a cluster exports within the limits. The map must not change afterwards. */
export function exportedKeys(services: ReadonlyMap<string, ServiceView>): ReadonlySet<string> {
  let keys = keysOf.get(services)
  if (keys === undefined) {
    const all = [...services].flatMap(([key, { service }]) => (service.clusterset ? [key] : []))
    keys = withinLimits(all)
    keysOf.set(services, keys)
  }
  return keys
}

/** Returns the keys that the limits of one cluster admit (invariant 3). */
export function withinLimits(all: readonly string[]): ReadonlySet<string> {
  const counts = new Map<string, number>()
  const kept = all.toSorted().filter((key) => {
    const namespace = key.slice(0, key.indexOf('/'))
    const count = (counts.get(namespace) ?? 0) + 1
    counts.set(namespace, count)
    return count <= EXPORTS_PER_NAMESPACE_MAX
  })
  return new Set(kept.slice(0, EXPORTS_PER_CLUSTER_MAX))
}

function byAge(left: Exporter, right: Exporter): number {
  const [a, b] = [left, right].map(({ exported }) => exported.exportedAt || Number.MAX_SAFE_INTEGER)
  return (a ?? 0) - (b ?? 0) || (left.cluster < right.cluster ? -1 : 1)
}

function agree(exporters: readonly [Exporter, ...Exporter[]]): Agreed {
  const [{ view, exported }] = exporters
  const { service } = view
  return {
    service: {
      kind: 'service',
      namespace: service.namespace,
      name: service.name,
      clusterIps: [],
      ports: unionOf(exporters),
      headless: service.headless,
      externalName: '',
      affinitySeconds: service.headless ? 0 : service.affinitySeconds,
      publishNotReady: exporters.every((each) => each.view.service.publishNotReady)
    },
    exported,
    conflicts: CONFLICTS.flatMap((reason) => {
      const mine = FACTS[reason](exporters[0])
      const other = exporters.find((each) => FACTS[reason](each) !== mine)
      return other === undefined ? [] : [{ reason, cluster: other.cluster }]
    })
  }
}

/** The ports of all exports. Of two with one name, or with one number, that of the older export counts. */
function unionOf(exporters: readonly Exporter[]): readonly ServicePort[] {
  const ports: ServicePort[] = []
  const taken = new Set<string>()
  for (const { view } of exporters)
    for (const port of view.service.ports) {
      const [name, number] = [`${port.protocol} ${port.name}`, `${port.protocol} ${port.port}`]
      // The Kubernetes API has names that differ in all ports of a Service, also in those of different protocols.
      const marks = [`number ${number}`, `name ${name}`, ...(port.name === '' ? [] : [`label ${port.name}`])]
      if (marks.some((mark) => taken.has(mark))) continue
      for (const mark of marks) taken.add(mark)
      ports.push(port)
    }
  return ports
}

/** For each reason, what of an export must be the same text in all of them. */
const FACTS: Readonly<Record<ConflictReason, (exporter: Exporter) => string>> = {
  PortConflict: ({ view }) =>
    view.service.ports
      .map(({ name, protocol, port, appProtocol }) => [name, protocol, port, appProtocol].join(' '))
      .toSorted()
      .join(),
  TypeConflict: ({ view }) => String(view.service.headless),
  SessionAffinityConflict: ({ view }) => String(view.service.affinitySeconds > 0),
  // Seconds differ from seconds only: an export without affinity has the conflict above.
  SessionAffinityConfigConflict: ({ view }) => String(view.service.affinitySeconds || ''),
  AnnotationsConflict: ({ exported }) => textOf(exported.annotations),
  LabelsConflict: ({ exported }) => textOf(exported.labels),
  // Kubernetes takes a policy that is not set for Cluster.
  InternalTrafficPolicyConflict: ({ exported }) => exported.internalTrafficPolicy || 'Cluster',
  TrafficDistributionConflict: ({ exported }) => exported.trafficDistribution,
  IPFamilyConflict: (exporter) =>
    familiesOf(exporter)
      .toSorted((a, b) => a - b)
      .join()
}

/** The address families of an export: those that the Service names, else those of its addresses. */
export function familiesOf({ view, exported }: Exporter): readonly (4 | 6)[] {
  if (exported.ipFamilies.length > 0) return exported.ipFamilies
  const { clusterIps } = view.service
  if (clusterIps.length > 0) return [...new Set(clusterIps.map(familyOf))]
  // A headless service of a site without Kubernetes: one address of each family shows the families.
  const found = view.slices.flatMap((slice) =>
    slice.endpoints.slice(0, 1).flatMap(({ addresses }) => addresses)
  )
  return [...new Set(found.map(familyOf))]
}

function textOf(attributes: readonly Attribute[]): string {
  return attributes.map(({ key, value }) => `${key}=${value}`).join('\n')
}
