// EndpointSlices of the Multi-Cluster Services API: the endpoints of each exported service, as every cluster with its namespace
// shows them, and which calls lead there from what the API server has.
// Invariants
//   1. Only objects with our label are changed or deleted: a new one is made by POST, which takes no object over, and a change
//      or deletion names the version that was read.
//   2. No object has the label kubernetes.io/service-name, so none of them is an endpoint of a Service of this cluster.
//   3. After the calls for (want, have) the objects are `want`, and for (want, want) there are none.
//   4. A slice is deleted only when its absence is certain: while the catalogue of its cluster is incomplete, it stays.
//   5. An exporting cluster has at most SLICES_PER_SERVICE_MAX slices of a service, and SLICES_PER_CLUSTER_MAX in all.
// Source: KEP-1645, "Using EndpointSlice objects to track endpoints".
import { fieldsAt, textAt, type KubeCall } from '../kube/kube-api.ts'
import { familyOf } from '../model/cidr.ts'
import { sameData } from '../model/equal.ts'
import { isFields, type Fields } from '../model/field-check.ts'
import { hashText, mixBits } from '../model/hash.ts'
import type { ClusterName, Endpoint, EndpointSliceValue } from '../model/values.ts'
import { clustersetServices } from '../view/clusterset.ts'
import type { MeshView } from '../view/view.ts'

const MANAGER = 'rhizome-mcs'
const SERVICE_LABEL = 'multicluster.kubernetes.io/service-name'
const CLUSTER_LABEL = 'multicluster.kubernetes.io/source-cluster'
const LOCAL_SERVICE_LABEL = 'kubernetes.io/service-name'
const MANAGED_BY_LABEL = 'endpointslice.kubernetes.io/managed-by'
/** A digest of ports and endpoints, so that this agent keeps none of them. */
const DIGEST = 'rhizome.io/import'

/** The limits of the Kubernetes API for one EndpointSlice. */
const ENDPOINTS_PER_SLICE_MAX = 1000
const PORTS_PER_SLICE_MAX = 100
/** Most slices of one service that one cluster exports; 100,000 endpoints. */
export const SLICES_PER_SERVICE_MAX = 100
/** Most slices of all services that one cluster exports, the first by namespace and name. */
const SLICES_PER_CLUSTER_MAX = 4096

/** An EndpointSlice as it should be, without the fields that the API server makes. */
export interface MirroredSlice {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly digest: string
  /** addressType, ports and endpoints. */
  readonly fields: Fields
}

/** An EndpointSlice as the API server has it. */
export interface HeldSlice extends Omit<MirroredSlice, 'fields'> {
  readonly resourceVersion: string
  /** The digest of what it has now; another one than `digest` when another program has changed the object. */
  readonly found: string
}

/** Returns the slices of the namespaces that the cluster has, by "<namespace>/<name>". */
export function wantedSlices(
  view: Pick<MeshView, 'clusters'>,
  hasNamespace: (name: string) => boolean
): ReadonlyMap<string, MirroredSlice> {
  const wanted = new Map<string, MirroredSlice>()
  const counts = new Map<ClusterName, number>()
  for (const { service, exporters } of clustersetServices(view)) {
    if (!hasNamespace(service.namespace)) continue
    for (const { cluster, view: exported } of exporters) {
      const count = counts.get(cluster) ?? 0
      const most = Math.min(SLICES_PER_SERVICE_MAX, SLICES_PER_CLUSTER_MAX - count)
      const slices = exported.slices.flatMap((slice) => mirrored(slice, cluster)).slice(0, Math.max(0, most))
      counts.set(cluster, count + slices.length)
      for (const each of slices) wanted.set(`${each.namespace}/${each.name}`, each)
    }
  }
  return wanted
}

// The record of a slice is an object of its own for each cluster, and the view keeps it while it does not change.
const made = new WeakMap<EndpointSliceValue, readonly MirroredSlice[]>()

/** The slices of one record: one for each address family, in parts that the API takes. */
function mirrored(slice: EndpointSliceValue, cluster: ClusterName): readonly MirroredSlice[] {
  let all = made.get(slice)
  if (all === undefined) {
    const ports = portsOf(slice)
    all = ([4, 6] as const).flatMap((family) => {
      const endpoints = slice.endpoints.flatMap((each) => endpointOf(each, family))
      const parts = Math.ceil(endpoints.length / ENDPOINTS_PER_SLICE_MAX)
      return Array.from({ length: parts }, (_, part) => {
        const from = part * ENDPOINTS_PER_SLICE_MAX
        const fields = {
          addressType: `IPv${family}`,
          ports,
          endpoints: endpoints.slice(from, from + ENDPOINTS_PER_SLICE_MAX)
        }
        return sliceOf(slice, { cluster, fields, part: `${slice.name} ${family} ${part}` })
      })
    })
    made.set(slice, all)
  }
  return all
}

/**
 * Service and cluster have no dot in their names, so no cluster can choose the name of another one's slice. The hash tells the
 * slices of one service of one cluster apart.
 */
function sliceOf(
  { namespace, service }: EndpointSliceValue,
  { cluster, fields, part }: { readonly cluster: ClusterName; readonly fields: Fields; readonly part: string }
): MirroredSlice {
  return {
    namespace,
    name: `${service}.${cluster}.${hexOf(part)}`,
    labels: { [SERVICE_LABEL]: service, [CLUSTER_LABEL]: cluster, [MANAGED_BY_LABEL]: MANAGER },
    digest: digestOf(fields),
    fields
  }
}

/** The API refuses a slice with two ports of one name. */
function portsOf({ ports }: EndpointSliceValue): readonly Fields[] {
  const byName = new Map(
    ports.toReversed().map(({ name, protocol, port }) => [name, { name, protocol, port }])
  )
  return [...byName.values()].toReversed().slice(0, PORTS_PER_SLICE_MAX)
}

/** The name of the node is left out: this cluster may have another node of that name. */
function endpointOf(endpoint: Endpoint, family: 4 | 6): readonly Fields[] {
  const addresses = endpoint.addresses.filter((address) => familyOf(address) === family)
  if (addresses.length === 0) return []
  const { ready, serving, terminating, hostname } = endpoint
  const conditions = { ready, serving, terminating }
  return [{ addresses, conditions, ...(hostname !== '' && { hostname }) }]
}

/** Reads an EndpointSlice of the API. It never throws. */
export function readSlice(object: Fields): HeldSlice {
  const { addressType, ports, endpoints } = object
  return {
    namespace: textAt(object, 'metadata', 'namespace') ?? '',
    name: textAt(object, 'metadata', 'name') ?? '',
    resourceVersion: textAt(object, 'metadata', 'resourceVersion') ?? '',
    labels: Object.fromEntries(
      Object.entries(fieldsAt(object, 'metadata', 'labels')).map(([key, value]) => [key, String(value)])
    ),
    digest: textAt(object, 'metadata', 'annotations', DIGEST) ?? '',
    found: digestOf({ addressType, ports: listOf(ports), endpoints: listOf(endpoints) })
  }
}

/** Whether the object is not as it should be. Labels of others stay, so that no two programs set each other back. */
export function sliceDiffers(want: MirroredSlice, have: HeldSlice): boolean {
  return (
    have.digest !== want.digest || have.found !== want.digest || !sameData(have.labels, labelsOf(want, have))
  )
}

/** Our labels and those that others have added, but not the one that would make it an endpoint of a Service (invariant 2). */
function labelsOf(want: MirroredSlice, have: HeldSlice | undefined): Readonly<Record<string, string>> {
  const { [LOCAL_SERVICE_LABEL]: _, ...others } = have?.labels ?? {}
  return { ...others, ...want.labels }
}

/** The call that makes the object, or changes the one that was read. */
export function putSlice(want: MirroredSlice, have: HeldSlice | undefined): KubeCall {
  const { namespace, name, digest, fields } = want
  const metadata = { namespace, name, labels: labelsOf(want, have), annotations: { [DIGEST]: digest } }
  const body = { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', ...fields }
  if (have === undefined) return { method: 'POST', path: folderOf(namespace), body: { ...body, metadata } }
  const { resourceVersion } = have
  return {
    method: 'PUT',
    path: `${folderOf(namespace)}/${name}`,
    body: { ...body, metadata: { ...metadata, resourceVersion } }
  }
}

/** The call that deletes the object that was read, and no other one of its name. */
export function deleteSlice({ namespace, name, resourceVersion }: HeldSlice): KubeCall {
  return {
    method: 'DELETE',
    path: `${folderOf(namespace)}/${name}`,
    body: { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { resourceVersion } }
  }
}

/** Path and query of all slices of ours, for lists. */
export const OWN_SLICES: Required<Pick<KubeCall, 'path' | 'query'>> = {
  path: '/apis/discovery.k8s.io/v1/endpointslices',
  query: { labelSelector: `${MANAGED_BY_LABEL}=${MANAGER}` }
}

/** Whether a slice that is not wanted is certain to have no endpoint: its cluster told all, or is no member any more. */
export function mayDeleteSlice({ labels }: HeldSlice, view: Pick<MeshView, 'clusters'>): boolean {
  return view.clusters.get((labels[CLUSTER_LABEL] ?? '') as ClusterName)?.complete !== false
}

function folderOf(namespace: string): string {
  return `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`
}

/** Two hashes of 32 bits: a change that neither shows is too rare to count, and harms only the cluster that exports it. */
function digestOf({ addressType, ports, endpoints }: Fields): string {
  const text = JSON.stringify([
    addressType,
    listOf(ports).map(portFacts),
    listOf(endpoints).map(endpointFacts)
  ])
  return `${hexOf(text)}${hexOf(`${text.length} ${text}`)}`
}

// In one order of keys, and without what the API server adds.
function portFacts({ name = '', protocol = 'TCP', port }: Fields): readonly unknown[] {
  return [name, protocol, port]
}

function endpointFacts(endpoint: Fields): readonly unknown[] {
  const { ready, serving, terminating } = fieldsAt(endpoint, 'conditions')
  const { addresses, hostname = '', nodeName = '', targetRef = null } = endpoint
  return [addresses, ready, serving, terminating, hostname, nodeName, targetRef]
}

function hexOf(text: string): string {
  return mixBits(hashText(text)).toString(16).padStart(8, '0')
}

function listOf(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.filter(isFields) : []
}
