// ServiceImports: what each cluster's API server should have of the services of `clusterset.local`, and which calls lead
// there from what it has.
// Invariants
//   1. Only objects with our label are changed or deleted; an import of another author stays and is reported.
//   2. After the calls for (want, have) the object is `want`, and for (want, want) there are none.
//   3. An import is deleted only when its absence is certain (`mayDelete`): while a catalogue is incomplete, calls only add.
// Source: KEP-1645, sigs.k8s.io/mcs-api v0.5.0.
import { isReservedKey } from '../model/attributes.ts'
import { MCS_GROUP } from '../catalog/read-export.ts'
import { APPLY_PATCH, fieldsAt, textAt, type KubeCall } from '../kube/kube-api.ts'
import { sameData } from '../model/equal.ts'
import { isFields, type Fields } from '../model/field-check.ts'
import { familyOf } from '../model/cidr.ts'
import { hashText } from '../model/hash.ts'
import type { Attribute, ClusterName, Ip } from '../model/values.ts'
import { clustersetKey } from '../model/zones.ts'
import { clustersetServices, familiesOf, type ClustersetService } from '../view/clusterset.ts'
import type { MeshView } from '../view/view.ts'

/** The field manager of our writes, and the value of the label that marks our imports. */
const MCS_MANAGER = 'rhizome-mcs'
const MANAGED_BY_LABEL = 'app.kubernetes.io/managed-by'
/** A digest of labels and annotations, which others may add to: with it, those that are not wanted any more are found. */
const DIGEST = 'rhizome.io/import'

/** A ServiceImport, without the fields that the API server makes. */
export interface ServiceImport {
  readonly namespace: string
  readonly name: string
  /** Those of the oldest export, and our mark. */
  readonly labels: Readonly<Record<string, string>>
  /** Those of the oldest export, and the digest. */
  readonly annotations: Readonly<Record<string, string>>
  /** The fields of v1alpha1 and v1beta1, which are the same. Fields that are not set are absent. */
  readonly spec: Fields
  /** The exporting clusters, sorted: status.clusters. */
  readonly clusters: readonly string[]
  readonly ready: ImportCondition
}

/** The condition Ready of an import. */
interface ImportCondition {
  readonly status: 'True' | 'False'
  readonly reason: 'Ready' | 'Pending' | 'IPFamilyNotSupported'
  readonly message: string
}

/** A ServiceImport as the API server has it. */
export interface HeldImport {
  readonly namespace: string
  readonly name: string
  /** False: another program or a person made it. */
  readonly isOurs: boolean
  /** The digest that was written last; '' when there is none. */
  readonly digest: string
  readonly spec: Fields
  readonly clusters: readonly string[]
  /** The condition Ready as it is; {} when there is none. */
  readonly ready: Fields
}

/** Returns the imports of the namespaces that the cluster has, by "<namespace>/<name>". */
export function wantedImports(
  view: Pick<MeshView, 'clusters'>,
  {
    addresses,
    hasNamespace
  }: {
    /** The addresses of merged zones (view/balanced.ts). */
    readonly addresses: ReadonlyMap<string, Ip>
    readonly hasNamespace: (name: string) => boolean
  }
): ReadonlyMap<string, ServiceImport> {
  const wanted = new Map<string, ServiceImport>()
  for (const each of clustersetServices(view))
    if (hasNamespace(each.service.namespace))
      wanted.set(each.key, importOf(each, addresses.get(clustersetKey(each.key))))
  return wanted
}

/** One import. `address`: the clusterset IP in this cluster, undefined where none is free. */
function importOf(of: ClustersetService, address: Ip | undefined): ServiceImport {
  const { service, exported, exporters } = of
  const { namespace, name, headless, affinitySeconds } = service
  const ips = headless || address === undefined ? [] : [address]
  const families = headless ? familiesOf(exporters[0]) : ips.map(familyOf)
  const { internalTrafficPolicy, trafficDistribution } = exported
  const spec = {
    type: headless ? 'Headless' : 'ClusterSetIP',
    ...(ips.length > 0 && { ips }),
    ...(families.length > 0 && { ipFamilies: families.map((family) => `IPv${family}`) }),
    ports: service.ports.map((port) => ({
      ...(port.name !== '' && { name: port.name }),
      protocol: port.protocol,
      ...(port.appProtocol !== '' && { appProtocol: port.appProtocol }),
      port: port.port
    })),
    ...(headless
      ? {}
      : affinitySeconds > 0
        ? {
            sessionAffinity: 'ClientIP',
            sessionAffinityConfig: { clientIP: { timeoutSeconds: affinitySeconds } }
          }
        : { sessionAffinity: 'None' }),
    ...(internalTrafficPolicy !== '' && { internalTrafficPolicy }),
    ...(trafficDistribution !== '' && { trafficDistribution })
  }
  const labels = { ...recordOf(exported.labels), [MANAGED_BY_LABEL]: MCS_MANAGER }
  const annotations = recordOf(exported.annotations)
  return {
    namespace,
    name,
    labels,
    annotations: { ...annotations, [DIGEST]: digestOf(labels, annotations) },
    spec,
    clusters: exporters.map(({ cluster }) => cluster).toSorted(),
    ready: readyOf(of, address)
  }
}

/** A ClusterSetIP has the family of the setting balance-cidr, and reaches endpoints of that family alone. */
function readyOf({ service, exporters }: ClustersetService, address: Ip | undefined): ImportCondition {
  if (service.headless)
    return { status: 'True', reason: 'Ready', message: 'the endpoints are answered by DNS' }
  if (address === undefined)
    return {
      status: 'False',
      reason: 'Pending',
      message: 'no address is free in the prefix of the setting balance-cidr: choose a larger one'
    }
  const family = familyOf(address)
  const isServed = exporters.some((exporter) => {
    const families = familiesOf(exporter)
    return families.length === 0 || families.includes(family)
  })
  if (isServed)
    return { status: 'True', reason: 'Ready', message: `the load balancer of each host serves ${address}` }
  return {
    status: 'False',
    reason: 'IPFamilyNotSupported',
    message: `${address} is IPv${family}, and no exporting cluster has endpoints of that family: set balance-cidr to a prefix of theirs`
  }
}

/**
 * Reads a ServiceImport of the API. It never throws. Of one that another author has made only the name is kept: tenants make as
 * many as they like, of any size.
 */
export function readImport(object: Fields): HeldImport {
  const { clusters, conditions } = fieldsAt(object, 'status')
  const namespace = textAt(object, 'metadata', 'namespace') ?? ''
  const name = textAt(object, 'metadata', 'name') ?? ''
  const isOurs = textAt(object, 'metadata', 'labels', MANAGED_BY_LABEL) === MCS_MANAGER
  if (!isOurs) return { namespace, name, isOurs, digest: '', spec: {}, clusters: [], ready: {} }
  return {
    namespace,
    name,
    isOurs,
    digest: textAt(object, 'metadata', 'annotations', DIGEST) ?? '',
    spec: fieldsAt(object, 'spec'),
    clusters: fieldsOf(clusters).flatMap(({ cluster }) => (typeof cluster === 'string' ? [cluster] : [])),
    ready: fieldsOf(conditions).find(({ type }) => type === 'Ready') ?? {}
  }
}

/** Whether the object itself, and whether its status, is not as it should be. */
export function importDiffers(
  want: ServiceImport,
  have: HeldImport | undefined
): { readonly object: boolean; readonly status: boolean } {
  if (have === undefined) return { object: true, status: true }
  const { status, reason, message } = have.ready
  return {
    object: have.digest !== want.annotations[DIGEST] || !sameData(have.spec, want.spec),
    status:
      !sameData(have.clusters.toSorted(), want.clusters) || !sameData({ status, reason, message }, want.ready)
  }
}

/** The call that makes the object, or changes it to be as wanted. */
export function applyImport(version: string, want: ServiceImport): KubeCall {
  const { labels, annotations, spec } = want
  return apply(version, want, '', { metadata: { labels, annotations }, spec })
}

/** The call that writes the status. `have` keeps its time while Ready stays what it is. */
export function applyImportStatus(
  version: string,
  want: ServiceImport,
  { have, now }: { readonly have: HeldImport | undefined; readonly now: string }
): KubeCall {
  const before = have?.ready['lastTransitionTime']
  const isSame = have?.ready['status'] === want.ready.status && typeof before === 'string'
  const condition = { type: 'Ready', ...want.ready, lastTransitionTime: isSame ? before : now }
  const clusters = want.clusters.map((cluster) => ({ cluster }))
  return apply(version, want, '/status', { metadata: {}, status: { clusters, conditions: [condition] } })
}

/** The call that deletes an import of ours. */
export function deleteImport(version: string, { namespace, name }: HeldImport): KubeCall {
  return { method: 'DELETE', path: pathOf(version, namespace, name) }
}

/** The path of all imports, for lists. */
export function importsPath(version: string): string {
  return `/apis/${MCS_GROUP}/${version}/serviceimports`
}

/**
 * Whether an import that is not wanted is certain to have no exporter: every cluster that exported it has told its whole
 * catalogue, or is no member any more.
 */
export function mayDelete({ clusters }: HeldImport, view: Pick<MeshView, 'clusters'>): boolean {
  return clusters.every((name) => view.clusters.get(name as ClusterName)?.complete !== false)
}

/**
 * Server-side apply makes the object or changes it, and removes fields that an earlier apply has set. `force`: these fields
 * are ours, so a change of another manager is set back.
 */
function apply(
  version: string,
  { namespace, name }: Pick<ServiceImport, 'namespace' | 'name'>,
  part: '' | '/status',
  { metadata, ...fields }: { readonly metadata: Fields; readonly [field: string]: unknown }
): KubeCall {
  return {
    method: 'PATCH',
    path: `${pathOf(version, namespace, name)}${part}`,
    query: { fieldManager: MCS_MANAGER, force: 'true' },
    contentType: APPLY_PATCH,
    body: {
      apiVersion: `${MCS_GROUP}/${version}`,
      kind: 'ServiceImport',
      metadata: { ...metadata, namespace, name },
      ...fields
    }
  }
}

function pathOf(version: string, namespace: string, name: string): string {
  return `/apis/${MCS_GROUP}/${version}/namespaces/${namespace}/serviceimports/${name}`
}

/** Labels or annotations as an object has them, without keys that steer controllers. */
function recordOf(attributes: readonly Attribute[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    attributes.flatMap(({ key, value }) => (isReservedKey(key) ? [] : [[key, value] as const]))
  )
}

/** A short text that differs where one of the records does. */
function digestOf(...records: readonly Readonly<Record<string, string>>[]): string {
  return hashText(JSON.stringify(records.map((record) => Object.entries(record)))).toString(16)
}

function fieldsOf(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.filter(isFields) : []
}
