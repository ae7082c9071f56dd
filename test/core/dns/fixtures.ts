// A believable mesh for the DNS tests: two clusters of a shop, every kind of service.
/* oxlint-disable typescript/no-unsafe-type-assertion -- brands of values that the tests spell right */
import type {
  Cidr,
  ClusterName,
  ClustersetExport,
  Endpoint,
  EndpointPort,
  EndpointSliceValue,
  Ip,
  ServiceValue
} from '../../../src/core/model/values.ts'
import type { ClusterView, MeshView, ServiceView } from '../../../src/core/view/view.ts'

const HTTP = [port('http', 80)]

/** A ServiceExport of the Multi-Cluster Services API without anything special, for the field `clusterset` of a service. */
export const EXPORT: ClustersetExport = {
  exportedAt: 1000,
  ipFamilies: [4],
  internalTrafficPolicy: 'Cluster',
  trafficDistribution: '',
  labels: [],
  annotations: []
}

export function shopMesh(): MeshView {
  const east = cluster('east', {
    podPrefixes: ['10.1.0.0/16', 'fd00:1::/32'],
    servicePrefixes: ['10.2.0.0/16', 'fd00:2::/32'],
    services: [
      service('shop/web', ['10.2.0.1'], { ports: HTTP }, slice([endpoint('10.1.0.1')], HTTP)),
      service('shop/multi', ['10.2.0.3'], { ports: [port('dns', 53, 'UDP'), port('metrics', 9153)] }),
      service('shop/empty', ['10.2.0.4'], { ports: HTTP }),
      service('shop/dual', ['10.2.0.5', 'fd00:2::5'], { ports: HTTP }),
      service('shop/six', ['fd00:2::6'], { ports: HTTP }),
      service('shop/unnamed', ['10.2.0.7'], { ports: [port('', 8080)] }),
      service(
        'shop/db',
        [],
        { headless: true },
        slice(
          [
            endpoint('10.1.0.11', 'db-0'),
            endpoint('10.1.0.12', 'twin'),
            endpoint('10.1.0.13', 'twin'),
            { ...endpoint('10.1.0.19', 'db-9'), ready: false }
          ],
          [port('pg', 5432)]
        ),
        slice([endpoint('fd00:1::14')], [port('pg', 5432)])
      ),
      service('shop/cold', [], { headless: true }, slice([{ ...endpoint('10.1.0.30'), ready: false }])),
      service(
        'shop/eager',
        [],
        { headless: true, publishNotReady: true },
        slice([{ ...endpoint('10.1.0.31'), ready: false }])
      ),
      service('shop/portless', [], { headless: true }, slice([endpoint('10.1.0.20')])),
      service('shop/pay', [], { externalName: 'pay.example.com.' }),
      service('shop/pointer', [], { externalName: 'web.shop.svc.cluster.west' }),
      service('shop/dangling', [], { externalName: 'nosuch.shop.svc.cluster.west' }),
      service('shop/loop', [], { externalName: 'loop.shop.svc.cluster.all' }),
      service('shop/literal', [], { externalName: '192.0.2.1' }),
      service('shop/mixed', [], { externalName: 'mixed.example.com' })
    ]
  })
  const west = cluster('west', {
    podPrefixes: ['10.11.0.0/16'],
    servicePrefixes: ['10.12.0.0/16'],
    services: [
      service('shop/web', ['10.12.0.1'], { ports: HTTP }),
      service('shop/db', [], { headless: true }, slice([endpoint('10.11.0.11', 'db-0')], [port('pg', 5432)])),
      service('shop/mixed', ['10.12.0.9'], { ports: HTTP })
    ]
  })
  return meshOf(east, west)
}

export function meshOf(...clusters: readonly ClusterView[]): MeshView {
  return { self: 'east' as ClusterName, clusters: new Map(clusters.map((c) => [c.name, c])) }
}

export function cluster(
  name: string,
  options: {
    readonly services?: readonly ServiceView[]
    readonly podPrefixes?: readonly string[]
    readonly servicePrefixes?: readonly string[]
    readonly complete?: boolean
  }
): ClusterView {
  const { services = [], podPrefixes, servicePrefixes, complete = true } = options
  const net = name === 'west' ? 10 : 0
  return {
    name: name as ClusterName,
    podPrefixes: (podPrefixes ?? [`10.${net + 1}.0.0/16`]) as readonly Cidr[],
    servicePrefixes: (servicePrefixes ?? [`10.${net + 2}.0.0/16`]) as readonly Cidr[],
    agents: [],
    services: new Map(services.map((view) => [`${view.service.namespace}/${view.service.name}`, view])),
    complete,
    conflicts: [],
    refusals: []
  }
}

/** `key` is "<namespace>/<name>". */
export function service(
  key: string,
  clusterIps: readonly string[],
  value: Partial<ServiceValue> & {
    readonly ports?: readonly (EndpointPort & { readonly appProtocol: string })[]
  } = {},
  ...slices: readonly Omit<EndpointSliceValue, 'namespace' | 'name' | 'service'>[]
): ServiceView {
  const [namespace = '', name = ''] = key.split('/')
  return {
    service: {
      kind: 'service',
      namespace,
      name,
      clusterIps: clusterIps as readonly Ip[],
      ports: [],
      headless: false,
      externalName: '',
      affinitySeconds: 0,
      publishNotReady: false,
      ...value
    },
    slices: slices.map(({ kind, ports, endpoints }, i) => ({
      kind,
      ports,
      endpoints,
      namespace,
      name: `${name}-${i}`,
      service: name
    }))
  }
}

export function slice(endpoints: readonly Endpoint[], ports: readonly EndpointPort[] = []) {
  return { kind: 'endpointSlice' as const, endpoints, ports }
}

export function endpoint(address: string, hostname = ''): Endpoint {
  return { addresses: [address as Ip], ready: true, serving: true, terminating: false, hostname, node: '' }
}

export function port(name: string, number: number, protocol: 'TCP' | 'UDP' = 'TCP') {
  return { name, port: number, protocol, appProtocol: '' }
}
