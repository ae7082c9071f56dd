// The objects that the feed has for one service, in the form of the Kubernetes API: v1 Service and
// discovery.k8s.io/v1 EndpointSlice. collection.ts places them, src/io/coredns renders them.
//
// `cluster.all` merges the clusters that have the service into ONE Service object, so that CoreDNS's kubernetes
// plugin answers A and AAAA as the agent's responder does (docs/decisions/0013):
// - Headless in every cluster: the object is headless, with the EndpointSlices of all (each under
//   "<slice>.<cluster>").
// - Otherwise `clusterIPs` are the addresses of every cluster, one after another. A Kubernetes API server allows two;
//   the plugin takes as many as there are. The names of endpoints below the service keep working, which a headless
//   object with the service IPs as endpoints would lose. The ports are the union.
// - ExternalName only where no cluster has addresses, and then with the first cluster's target.
//
// SRV answers differ: the plugin's targets are names in the zone that was asked, the responder's targets are in each
// cluster's own zone.
// Invariant: an object is a pure function of its Source, without the resource version, so equal sources have equal
// texts.
import { familyOf } from '../dns/record.ts'
import { isFields } from '../model/field-check.ts'
import { endpointLabel, isPublished, serviceNames } from '../dns/service-names.ts'
import type {
  ClusterName,
  Endpoint,
  EndpointPort,
  EndpointSliceValue,
  Ip,
  ServicePort
} from '../model/values.ts'
import type { ServiceView } from '../view/view.ts'

/** The resources of the feed, as in the paths of the API. */
export type ResourceName = 'namespaces' | 'services' | 'endpointslices'

/** One cluster's part of a service. */
export interface Holder {
  readonly cluster: ClusterName
  readonly view: ServiceView
}

/** What an object is made of. It is small; the object is rendered when it is compared or read. */
export type Source =
  | { readonly kind: 'namespace'; readonly name: string }
  | {
      readonly kind: 'service'
      readonly holders: readonly [Holder, ...Holder[]]
      readonly scope: Scope
      /** The one address that stands for all holders, when a policy balances the service. */
      readonly address?: Ip
    }
  | {
      readonly kind: 'slice'
      readonly name: string
      readonly family: 'A' | 'AAAA'
      readonly holder: Holder
      readonly slice: EndpointSliceValue
    }

/** Whether a collection has the objects of one cluster, or those merged over all clusters. */
export type Scope = 'cluster' | 'all'

/** An object with its place in the collection. */
export interface Placed {
  readonly resource: ResourceName
  /** The namespace of the object; '' for a Namespace. */
  readonly namespace: string
  readonly name: string
  readonly source: Source
}

export interface Labels {
  readonly [key: string]: string
}

/**
 * An API object without its resource version. `metadata` must be its first field, because withVersion() relies on it.
 */
interface ApiObject {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Labels }
  readonly apiVersion: string
  readonly kind: string
  readonly [field: string]: unknown
}

/**
 * The Service and EndpointSlices of one service; none when it has neither addresses nor a name to point to. Slices
 * come before the service.
 */
export function placedObjects(holders: readonly Holder[], scope: Scope, address?: Ip): readonly Placed[] {
  const [first, ...others] = holders
  if (first === undefined || !holders.some(hasNames)) return []
  const { namespace, name } = first.view.service
  const service: Placed = {
    resource: 'services',
    namespace,
    name,
    source: { kind: 'service', holders: [first, ...others], scope, ...(address !== undefined && { address }) }
  }
  return [...holders.flatMap((holder) => placedSlices(holder, scope)), service]
}

/** Renders an object. */
export function apiObject(source: Source): ApiObject {
  switch (source.kind) {
    case 'namespace':
      return {
        metadata: { name: source.name, labels: { 'kubernetes.io/metadata.name': source.name } },
        apiVersion: 'v1',
        kind: 'Namespace',
        spec: {},
        status: { phase: 'Active' }
      }
    case 'service':
      return serviceObject(source)
    case 'slice':
      return sliceObject(source)
    default:
      return source satisfies never
  }
}

/** The object as JSON with its resource version, which is an opaque string by the Kubernetes API conventions. */
export function objectText(source: Source, resourceVersion: number): string {
  return withVersion(bodyText(source), resourceVersion)
}

/** The object as JSON without a resource version. Two objects are equal when these texts are. */
export function bodyText(source: Source): string {
  return JSON.stringify(apiObject(source))
}

function withVersion(body: string, resourceVersion: number): string {
  return `{"metadata":{"resourceVersion":"${resourceVersion}",${body.slice('{"metadata":{'.length)}`
}

/** What selectors compare besides the name: labels, and the fields that the API allows in a field selector. */
export interface Facets {
  readonly labels: Labels
  readonly fields: Readonly<Record<string, string>>
}

export function facetsOf(source: Source): Facets {
  const object = apiObject(source)
  return { labels: object.metadata.labels ?? {}, fields: selectableFields(source, object) }
}

function selectableFields(source: Source, { spec }: ApiObject): Readonly<Record<string, string>> {
  if (source.kind === 'namespace') return { 'status.phase': 'Active' }
  if (source.kind === 'slice' || !isFields(spec)) return {}
  const { type, clusterIP } = spec
  return {
    'spec.type': typeof type === 'string' ? type : '',
    'spec.clusterIP': typeof clusterIP === 'string' ? clusterIP : ''
  }
}

/** The label of the Multi-Cluster Services API (KEP-1645) that names the cluster of an EndpointSlice. */
const SOURCE_CLUSTER = 'multicluster.kubernetes.io/source-cluster'

function serviceObject({ holders, scope, address }: Source & { readonly kind: 'service' }): ApiObject {
  const { service } = holders[0].view
  return {
    metadata: {
      name: service.name,
      namespace: service.namespace,
      ...(scope === 'cluster' ? { labels: { [SOURCE_CLUSTER]: holders[0].cluster } } : {})
    },
    apiVersion: 'v1',
    kind: 'Service',
    spec: serviceSpec(holders, address)
  }
}

/** The spec of a Service, merged over its holders by the rules in the head of this file. */
function serviceSpec(holders: readonly Holder[], balanced: Ip | undefined): Record<string, unknown> {
  const alias = holders.map(({ view }) => serviceNames(view)).find((names) => names.kind === 'alias')
  const withAddresses = holders.filter(({ view }) => serviceNames(view).kind === 'targets')
  if (withAddresses.length === 0 && alias !== undefined) {
    return { type: 'ExternalName', externalName: alias.target }
  }
  // Holders without a published endpoint are headless, too, and have no part in the result.
  const headless = withAddresses.every(({ view }) => view.service.headless)
  const ports = unique(
    withAddresses.flatMap(({ view }) =>
      view.service.headless && !headless ? targetPorts(view) : view.service.ports
    ),
    ({ name, port, protocol }) => `${name} ${port} ${protocol}`
  )
  const common = {
    type: 'ClusterIP',
    sessionAffinity: 'None',
    ...(ports.length === 0 ? {} : { ports: ports.map(portObject) })
  }
  if (headless) {
    const publish = holders.some(({ view }) => view.service.publishNotReady)
    const flag = publish ? { publishNotReadyAddresses: true } : {}
    return { clusterIP: 'None', clusterIPs: ['None'], ...common, ...flag }
  }
  const addresses =
    balanced === undefined
      ? unique(
          withAddresses.flatMap(({ view }) => addressesOf(view)),
          (ip) => ip
        )
      : [balanced]
  const families = unique(addresses.map(familyOf), (family) => family)
  const affinity = holders.map(({ view }) => view.service.affinitySeconds).find((seconds) => seconds > 0)
  return {
    clusterIP: addresses[0],
    clusterIPs: addresses,
    ipFamilies: families.map((family) => FAMILY_NAME[family]),
    ipFamilyPolicy: families.length > 1 ? 'RequireDualStack' : 'SingleStack',
    ...common,
    ...(affinity === undefined
      ? {}
      : {
          sessionAffinity: 'ClientIP',
          sessionAffinityConfig: { clientIP: { timeoutSeconds: affinity } }
        })
  }
}

function addressesOf(view: ServiceView): readonly Ip[] {
  const names = serviceNames(view)
  return names.kind === 'targets' ? names.targets.map(({ address }) => address) : []
}

/**
 * The ports of a headless service that is merged with service IPs of other clusters: those that its endpoints serve.
 */
function targetPorts(view: ServiceView): readonly ServicePort[] {
  return view.slices.flatMap(({ ports }) => ports.map((port) => ({ ...port, appProtocol: '' })))
}

function portObject({ name, protocol, port, appProtocol }: ServicePort): Record<string, unknown> {
  return {
    ...(name === '' ? {} : { name }),
    protocol,
    port,
    targetPort: port,
    ...(appProtocol === '' ? {} : { appProtocol })
  }
}

/**
 * The objects of one holder's slices, one for each address family, because addressType is single and immutable in the
 * API.
 */
function placedSlices(holder: Holder, scope: Scope): readonly Placed[] {
  if (holder.view.service.externalName !== '') return []
  return holder.view.slices.flatMap((slice) => {
    const families = unique(
      slice.endpoints.flatMap(({ addresses }) => addresses.map(familyOf)),
      (family) => family
    )
    return (families.length === 0 ? (['A'] as const) : families).map((family, index): Placed => {
      const own = index === 0 ? slice.name : `${slice.name}.${family}`
      // Slice names have no capitals and a cluster's name has no dot, so two slices never get the same name.
      const name = scope === 'cluster' ? own : `${own}.${holder.cluster}`
      const source: Source = { kind: 'slice', name, family, holder, slice }
      return { resource: 'endpointslices', namespace: slice.namespace, name, source }
    })
  })
}

function sliceObject({ name, family, holder, slice }: Source & { readonly kind: 'slice' }): ApiObject {
  return {
    metadata: {
      name,
      namespace: slice.namespace,
      labels: {
        'kubernetes.io/service-name': slice.service,
        [SOURCE_CLUSTER]: holder.cluster,
        // Kubernetes' own controller marks the slices of a headless Service in this way.
        ...(holder.view.service.headless ? { 'service.kubernetes.io/headless': '' } : {})
      }
    },
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    addressType: FAMILY_NAME[family],
    ports: slice.ports.map(slicePortObject),
    endpoints: slice.endpoints.flatMap((endpoint) => endpointObject(holder.view, endpoint, family))
  }
}

function slicePortObject({ name, protocol, port }: EndpointPort): Record<string, unknown> {
  return { name, protocol, port }
}

function endpointObject(view: ServiceView, endpoint: Endpoint, family: 'A' | 'AAAA'): readonly object[] {
  const addresses = endpoint.addresses.filter((address) => familyOf(address) === family)
  const [first] = addresses
  if (first === undefined) return []
  return [
    {
      addresses,
      conditions: {
        // Kubernetes' own controller writes ready: true for publishNotReadyAddresses.
        ready: isPublished(view, endpoint),
        serving: endpoint.serving,
        terminating: endpoint.terminating
      },
      ...(endpoint.hostname === '' ? {} : { hostname: endpointLabel(endpoint, first) }),
      ...(endpoint.node === '' ? {} : { nodeName: endpoint.node })
    }
  ]
}

/** Whether the service has a name that resolves, or that will resolve when an endpoint becomes ready. */
function hasNames({ view }: Holder): boolean {
  const names = serviceNames(view)
  return names.kind === 'targets' ? names.targets.length > 0 : names.kind === 'alias' || view.service.headless
}

function unique<T>(items: readonly T[], keyOf: (item: T) => string): readonly T[] {
  return [...new Map(items.map((item) => [keyOf(item), item])).values()]
}

const FAMILY_NAME = { A: 'IPv4', AAAA: 'IPv6' } as const
