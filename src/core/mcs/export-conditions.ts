// The conditions of a ServiceExport: whether it is valid, whether other clusters have it, and whether exports of other
// clusters differ from it. Each message of a condition that asks for a person names the fix.
//
//   Valid     there is a Service of this name, and its type can be exported
//   Ready     the record of the Service is in the mesh with this export
//   Conflict  exports of other clusters differ from the oldest one; absent while the export is not Ready
//
// Invariants
//   1. Conditions of other types and of other authors stay.
//   2. The reasons are those of the standard (sigs.k8s.io/mcs-api v0.5.0).
import type { IdleExport } from '../catalog/live-catalog.ts'
import { MCS_GROUP } from '../catalog/read-export.ts'
import { MERGE_PATCH, type KubeCall } from '../kube/kube-api.ts'
import type { Fields } from '../model/field-check.ts'
import {
  clustersetServices,
  exportedKeys,
  EXPORTS_PER_CLUSTER_MAX,
  EXPORTS_PER_NAMESPACE_MAX,
  type ClustersetService
} from '../view/clusterset.ts'
import type { MeshView } from '../view/view.ts'

/** A condition without the times and numbers that the object adds. */
interface Condition {
  readonly type: 'Valid' | 'Ready' | 'Conflict'
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: string
  readonly message: string
}

/** A ServiceExport, as the source has read it. */
interface Export {
  readonly namespace: string
  readonly name: string
  /** Why it exports nothing; absent: it exports its Service. */
  readonly idle?: IdleExport
}

/** The clusterset services by key; made once for all exports of a pass. */
export function byKey(view: Pick<MeshView, 'clusters'>): ReadonlyMap<string, ClustersetService> {
  return new Map(clustersetServices(view).map((each) => [each.key, each]))
}

/** Returns the conditions of an export. `services`: those of `view` (byKey). */
export function conditionsOf(
  of: Export,
  view: Pick<MeshView, 'self' | 'clusters'>,
  services: ReadonlyMap<string, ClustersetService>
): readonly Condition[] {
  const key = `${of.namespace}/${of.name}`
  const invalid = invalidOf(of.idle, key)
  if (invalid !== undefined) {
    const { message } = invalid
    return [invalid, { type: 'Ready', status: 'False', reason: 'Failed', message }]
  }
  const valid: Condition = {
    type: 'Valid',
    status: 'True',
    reason: 'Valid',
    message: `Service ${key} can be exported`
  }
  const exported = services.get(key)
  const isExported = exported?.exporters.some(({ cluster }) => cluster === view.self) === true
  if (of.idle === undefined && isExported) {
    const message = `all clusters of the mesh can have Service ${key}`
    return [valid, { type: 'Ready', status: 'True', reason: 'Exported', message }, conflictOf(exported)]
  }
  return [valid, notReady(of, key, view)]
}

/** The condition Valid where it is False: no change in another cluster can make such an export work. */
function invalidOf(idle: IdleExport | undefined, key: string): Condition | undefined {
  const type = 'Valid' as const
  const status = 'False' as const
  if (idle?.reason === 'noService')
    return {
      type,
      status,
      reason: 'NoService',
      message: `there is no Service ${key}: make it, or delete this ServiceExport`
    }
  if (idle?.reason === 'alias')
    return {
      type,
      status,
      reason: 'InvalidServiceType',
      message: `Service ${key} has the type ExternalName, which cannot be exported: use a cluster IP or a headless Service`
    }
  return undefined
}

/**
 * The condition Ready of a valid export that the mesh does not have. The causes are looked for from the most certain to the
 * least: the own policy, a fault of the Service, a refusal by the certificate, a limit; else the record is on its way.
 */
function notReady({ idle }: Export, key: string, view: Pick<MeshView, 'self' | 'clusters'>): Condition {
  const failed = (message: string): Condition => ({
    type: 'Ready',
    status: 'False',
    reason: 'Failed',
    message
  })
  if (idle?.reason === 'kept')
    return failed(
      `Service ${key} stays in this cluster: its annotation rhizome.io/export is not "true", or the administrator's lists of namespaces leave it out`
    )
  if (idle !== undefined)
    return failed(`Service ${key} cannot be exported: ${idle.message ?? 'it has a fault'}`)
  const own = view.clusters.get(view.self)
  const refusal = own?.refusals.find((each) => each.key === `svc/${key}`)
  if (refusal !== undefined) return failed(`other clusters refuse Service ${key}: ${refusal.reason}`)
  if (own?.services.get(key)?.service.clusterset !== undefined && !exportedKeys(own.services).has(key))
    return failed(
      `this cluster has more exports than are taken: at most ${EXPORTS_PER_NAMESPACE_MAX} of a namespace and ${EXPORTS_PER_CLUSTER_MAX} in all, the first by name; delete some`
    )
  return {
    type: 'Ready',
    status: 'False',
    reason: 'Pending',
    message: `Service ${key} is being published to the mesh`
  }
}

/**
 * The condition Conflict. All exporting clusters have the same one, the oldest too, because any of them can mend it. It
 * names for each difference the oldest cluster that differs.
 */
function conflictOf(service: ClustersetService): Condition {
  const { conflicts, key } = service
  const type = 'Conflict' as const
  if (conflicts.length === 0) {
    const message = `the exports of Service ${key} in all clusters agree`
    return { type, status: 'False', reason: 'NoConflicts', message }
  }
  return {
    type,
    status: 'True',
    reason: conflicts.map(({ reason }) => reason).join(),
    message: conflictText(service)
  }
}

/** In which fields the exports differ, from which one that counts, and what to do. There is a conflict. */
export function conflictText({ conflicts, exporters, key }: ClustersetService): string {
  const [{ cluster: oldest }] = exporters
  const list = conflicts.map(({ reason, cluster }) => `${WORDS[reason]} (cluster ${cluster})`).join(', ')
  return `exports of Service ${key} differ in ${list} from that of cluster ${oldest}, which is the oldest and counts: make the Services and ServiceExports alike`
}

/** The fields of Service and ServiceExport that a reason is about. */
const WORDS: Readonly<Record<ClustersetService['conflicts'][number]['reason'], string>> = {
  PortConflict: 'ports',
  TypeConflict: 'type (headless or not)',
  SessionAffinityConflict: 'sessionAffinity',
  SessionAffinityConfigConflict: 'the timeout of sessionAffinity',
  AnnotationsConflict: 'exportedAnnotations',
  LabelsConflict: 'exportedLabels',
  InternalTrafficPolicyConflict: 'internalTrafficPolicy',
  TrafficDistributionConflict: 'trafficDistribution',
  IPFamilyConflict: 'ipFamilies'
}

/**
 * Returns the conditions that the object should have; undefined when it has them. `now`: the time of a condition whose
 * status changes.
 */
export function nextConditions(
  { conditions, generation }: { readonly conditions: readonly Fields[]; readonly generation: number },
  want: readonly Condition[],
  now: string
): readonly Fields[] | undefined {
  const others = conditions.filter(({ type }) => !OURS.has(type))
  let isSame = conditions.length === others.length + want.length
  const next = want.map((condition) => {
    const before = conditions.find(({ type }) => type === condition.type)
    const { status, reason, message, observedGeneration, lastTransitionTime } = before ?? {}
    const isSameStatus = status === condition.status && typeof lastTransitionTime === 'string'
    isSame &&=
      isSameStatus &&
      reason === condition.reason &&
      message === condition.message &&
      observedGeneration === generation
    return {
      ...condition,
      observedGeneration: generation,
      lastTransitionTime: isSameStatus ? lastTransitionTime : now
    }
  })
  return isSame ? undefined : [...others, ...next]
}

const OURS: ReadonlySet<unknown> = new Set<Condition['type']>(['Valid', 'Ready', 'Conflict'])

/** The call that writes the conditions; the API server refuses it with 409 if the object has changed in between. */
export function exportStatusCall(
  version: string,
  { namespace, name, resourceVersion }: Export & { readonly resourceVersion: string },
  conditions: readonly Fields[]
): KubeCall {
  return {
    method: 'PATCH',
    path: `/apis/${MCS_GROUP}/${version}/namespaces/${namespace}/serviceexports/${name}/status`,
    contentType: MERGE_PATCH,
    body: { metadata: { resourceVersion }, status: { conditions } }
  }
}
