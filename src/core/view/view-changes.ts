// What differs between two views. Changes are found by identity, because what did not change is the same object as in
// the view before.
import type { ClusterName } from '../model/values.ts'
import { changesBetween, type KeyChange } from '../model/sorted-map.ts'
import type { ClusterView, MeshView, ServiceView } from './view.ts'

/** One cluster that was added, changed or removed. */
interface ClusterChange {
  readonly name: ClusterName
  /** undefined: the cluster is new. */
  readonly before: ClusterView | undefined
  /** undefined: the cluster is gone. */
  readonly after: ClusterView | undefined
  /** The changed services by "<namespace>/<name>", in order; all services of a cluster that is new or gone. */
  readonly services: readonly KeyChange<ServiceView>[]
}

/**
 * The clusters that changed, in the order of their names, with their changed services. The cost is proportional to
 * the change, plus one comparison for each cluster: one changed service of 100,000 takes some ten microseconds.
 * `before` undefined: everything is new.
 */
export function changedClusters(before: MeshView | undefined, after: MeshView): readonly ClusterChange[] {
  const old = before?.clusters ?? NO_CLUSTERS
  return changesBetween(old, after.clusters).map((change) => ({
    name: change.key as ClusterName, // the key of a cluster is its name
    before: change.before,
    after: change.after,
    services: changesBetween(change.before?.services ?? NO_SERVICES, change.after?.services ?? NO_SERVICES)
  }))
}

const NO_CLUSTERS: ReadonlyMap<string, ClusterView> = new Map()
const NO_SERVICES: ReadonlyMap<string, ServiceView> = new Map()
