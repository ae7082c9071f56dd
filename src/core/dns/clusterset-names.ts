// The names of `clusterset.local`, which only ServiceExports make (docs/mcs.md):
// - <service>.<namespace>.svc: the clusterset IP, or the ready endpoints of a headless service in all clusters;
// - _<port>._<protocol>.<service>.<namespace>.svc: SRV records, whose targets are names of this zone;
// - <host>.<cluster>.<service>.<namespace>.svc: one endpoint of a headless service.
// Invariant: type and ports are those on which the exports of all clusters agree, also of clusters that cannot be reached
// now. Only endpoints of clusters that can be reached are answered.
// Source: KEP-1645, "DNS"; Multi-Cluster DNS-Based Service Discovery.
import type { Ip } from '../model/values.ts'
import { clustersetDomain, clustersetKey } from '../model/zones.ts'
import { agreedOf, exportersOf, type Agreed, type ExportingCluster } from '../view/clusterset.ts'
import type { ServiceView } from '../view/view.ts'
import type { HolderTargets, Node } from './node.ts'
import { endpointNames, portTargets, serviceNames, type Target } from './service-names.ts'

/** A cluster with a complete catalogue. */
export interface ExportedSource extends ExportingCluster {
  readonly isWithdrawn: boolean
}

/** The clusters, and the addresses of merged zones by clustersetKey. */
interface Exported {
  readonly sources: readonly ExportedSource[]
  readonly addresses: ReadonlyMap<string, Ip>
}

/** Returns what exists at a name. `labels` are those left of the zone's origin, in lower case. */
export function findExported({ sources, addresses }: Exported, labels: readonly string[]): Node {
  const [below, namespace, service, ...left] = labels.toReversed()
  if (below !== 'svc' || left.length > 2) return ABSENT
  if (namespace === undefined) return EMPTY
  if (service === undefined) {
    const start = `${namespace}/`
    return sources.some(({ exported }) => exported.keys().some((key) => key.startsWith(start)))
      ? EMPTY
      : ABSENT
  }
  const key = `${namespace}/${service}`
  const exporters = exportersOf(sources, key)
  if (exporters === undefined) return ABSENT
  const agreed = agreedOf(exporters)
  if (!agreed.service.headless) return ofAddress(agreed, addresses.get(clustersetKey(key)), left)
  const reached = new Set(sources.flatMap(({ name, isWithdrawn }) => (isWithdrawn ? [] : [name])))
  const [first, second] = left
  const isPort = first?.startsWith('_') === true
  const held = exporters
    .filter(({ cluster }) => reached.has(cluster) && (first === undefined || isPort || cluster === first))
    .flatMap(({ cluster, view }): readonly HolderTargets[] => {
      const endpoints = asHeadless(view)
      const targets = isPort
        ? portTargets(endpoints, bare(second), bare(first))
        : second === undefined
          ? targetsOf(endpoints)
          : endpointNames(endpoints).get(second)
      return targets === undefined
        ? []
        : [{ domain: `${cluster}.${clustersetDomain(agreed.service)}`, targets }]
    })
  // The name of the cluster alone has no records, but names below it do.
  if (first !== undefined && second === undefined) return held.length > 0 && !isPort ? EMPTY : ABSENT
  return held.length > 0 ? { kind: 'targets', held } : ABSENT
}

const ABSENT: Node = { kind: 'absent' }
const EMPTY: Node = { kind: 'empty' }

/** The names of a service with a clusterset IP. Without a free address, the name exists and has no records. */
function ofAddress({ service }: Agreed, address: Ip | undefined, left: readonly string[]): Node {
  const [first, second] = left
  if (address === undefined) return left.length === 0 ? EMPTY : ABSENT
  const view = withAddress(service, address)
  const targets =
    first === undefined
      ? targetsOf(view)
      : second !== undefined && first.startsWith('_')
        ? portTargets(view, bare(second), bare(first))
        : undefined
  return targets === undefined
    ? ABSENT
    : { kind: 'targets', held: [{ domain: clustersetDomain(service), targets }] }
}

function targetsOf(view: ServiceView): readonly Target[] | undefined {
  const names = serviceNames(view)
  return names.kind === 'targets' ? names.targets : undefined
}

/** A label of SRV without its underscore, as in zone.ts. */
function bare(label = ''): string {
  return label.replace(/^_/, '')
}

// service-names.ts caches by the identity of a view, so the views below are made once for each service.
const headless = new WeakMap<ServiceView, ServiceView>()
const addressed = new WeakMap<Agreed['service'], ServiceView>()

/** The service by its endpoints, also where this cluster alone gives it a cluster IP. */
function asHeadless(view: ServiceView): ServiceView {
  if (view.service.headless) return view
  let made = headless.get(view)
  if (made === undefined) {
    made = { ...view, service: { ...view.service, headless: true, clusterIps: [] } }
    headless.set(view, made)
  }
  return made
}

function withAddress(service: Agreed['service'], address: Ip): ServiceView {
  let made = addressed.get(service)
  if (made?.service.clusterIps[0] !== address) {
    made = { service: { ...service, clusterIps: [address] }, slices: [] }
    addressed.set(service, made)
  }
  return made
}
