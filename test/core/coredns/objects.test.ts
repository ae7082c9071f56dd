import assert from 'node:assert/strict'

import {
  apiObject,
  objectText,
  placedObjects,
  type Holder,
  type Scope
} from '../../../src/core/coredns/objects.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'
import type { ServiceView } from '../../../src/core/view/view.ts'
import { endpoint, port, service, slice } from '../dns/fixtures.ts'

const HTTP = [port('http', 80)]
const PG = [port('pg', 5432)]

describe('objects of the feed', () => {
  it('are a Service and its EndpointSlices as the Kubernetes API has them', () => {
    const web = service(
      'shop/web',
      ['10.2.0.1', 'fd00:2::1'],
      { ports: [{ ...port('http', 80), appProtocol: 'http' }], affinitySeconds: 60 },
      slice([{ ...endpoint('10.1.0.1', 'Web-0'), node: 'n1', serving: false }], HTTP)
    )
    assert.deepEqual(objects('cluster', { east: web }), [
      {
        metadata: {
          name: 'web-0',
          namespace: 'shop',
          labels: {
            'kubernetes.io/service-name': 'web',
            'multicluster.kubernetes.io/source-cluster': 'east'
          }
        },
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        addressType: 'IPv4',
        ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
        endpoints: [
          {
            addresses: ['10.1.0.1'],
            conditions: { ready: true, serving: false, terminating: false },
            hostname: 'web-0',
            nodeName: 'n1'
          }
        ]
      },
      {
        metadata: {
          name: 'web',
          namespace: 'shop',
          labels: { 'multicluster.kubernetes.io/source-cluster': 'east' }
        },
        apiVersion: 'v1',
        kind: 'Service',
        spec: {
          clusterIP: '10.2.0.1',
          clusterIPs: ['10.2.0.1', 'fd00:2::1'],
          ipFamilies: ['IPv4', 'IPv6'],
          ipFamilyPolicy: 'RequireDualStack',
          type: 'ClusterIP',
          ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 80, appProtocol: 'http' }],
          sessionAffinity: 'ClientIP',
          sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } }
        }
      }
    ])
  })

  it('put the resource version into the metadata and change nothing else', () => {
    const [placed] = placedObjects(
      holders({ east: service('shop/web', ['10.2.0.1'], { ports: HTTP }) }),
      'cluster'
    )
    assert.ok(placed)
    const parsed: unknown = JSON.parse(objectText(placed.source, 17))
    const { metadata, ...rest } = apiObject(placed.source)
    assert.deepEqual(parsed, { metadata: { resourceVersion: '17', ...metadata }, ...rest })
  })

  it('merge the addresses and ports of every cluster into one Service', () => {
    const { spec, slices } = merged({
      east: service('shop/web', ['10.2.0.1'], { ports: HTTP }, slice([endpoint('10.1.0.1')], HTTP)),
      west: service(
        'shop/web',
        ['10.12.0.1'],
        { ports: [...HTTP, port('admin', 81)] },
        slice([endpoint('10.11.0.1')], HTTP)
      )
    })
    assert.deepEqual(spec['clusterIPs'], ['10.2.0.1', '10.12.0.1'])
    assert.deepEqual(portsOf(spec), ['http:80', 'admin:81'])
    assert.deepEqual(slices, ['web-0.east', 'web-0.west'])
  })

  it('stay headless when every cluster is, with the endpoints of all', () => {
    const { spec, slices } = merged({
      east: service('shop/db', [], { headless: true }, slice([endpoint('10.1.0.1', 'db-0')], PG)),
      west: service('shop/db', [], { headless: true }, slice([endpoint('10.11.0.1', 'db-0')], PG))
    })
    assert.equal(spec['clusterIP'], 'None')
    assert.deepEqual(slices, ['db-0.east', 'db-0.west'])
  })

  it('take the endpoints of a headless cluster for addresses beside the service IPs of others', () => {
    const { spec } = merged({
      east: service('shop/web', ['10.2.0.1'], { ports: HTTP }),
      west: service('shop/web', [], { headless: true }, slice([endpoint('10.11.0.1')], PG))
    })
    assert.deepEqual(spec['clusterIPs'], ['10.2.0.1', '10.11.0.1'])
    assert.deepEqual(portsOf(spec), ['http:80', 'pg:5432'])
  })

  it('point elsewhere only where no cluster has addresses, and then as the first does', () => {
    const alias = (name: string): ServiceView => service('shop/pay', [], { externalName: name })
    assert.deepEqual(merged({ east: alias('a.example.com.'), west: alias('b.example.com') }).spec, {
      type: 'ExternalName',
      externalName: 'a.example.com'
    })
    const cold = service('shop/pay', [], { headless: true })
    assert.equal(merged({ east: cold, west: alias('b.example.com') }).spec['type'], 'ExternalName')
    const warm = service('shop/pay', ['10.12.0.1'], { ports: HTTP })
    assert.deepEqual(merged({ east: alias('a.example.com'), west: warm }).spec['clusterIPs'], ['10.12.0.1'])
  })

  it('split a slice of both families, as addressType is one', () => {
    const both = service(
      'shop/db',
      [],
      { headless: true },
      slice([endpoint('10.1.0.1'), endpoint('fd00:1::1')], PG)
    )
    const parts = objects('cluster', { east: both }).filter(({ kind }) => kind === 'EndpointSlice')
    assert.deepEqual(
      parts.map(({ metadata, ...rest }) => [metadata.name, rest['addressType']]),
      [
        ['db-0', 'IPv4'],
        ['db-0.AAAA', 'IPv6']
      ]
    )
  })

  it('say ready of endpoints that are published although they are not', () => {
    const eager = service(
      'shop/eager',
      [],
      { headless: true, publishNotReady: true },
      slice([{ ...endpoint('10.1.0.1'), ready: false }])
    )
    const [first] = objects('cluster', { east: eager })
    assert.match(JSON.stringify(first), /"ready":true/)
  })

  it('are none for a service without address or name', () => {
    assert.deepEqual(objects('cluster', { east: service('shop/odd', [], { ports: HTTP }) }), [])
    assert.deepEqual(objects('cluster', { east: service('shop/odd', [], { externalName: '192.0.2.1' }) }), [])
  })
})

function objects(scope: Scope, views: Readonly<Record<string, ServiceView>>) {
  return placedObjects(holders(views), scope).map(({ source }) => apiObject(source))
}

function merged(views: Readonly<Record<string, ServiceView>>) {
  const all = objects('all', views)
  const found = all.find(({ kind }) => kind === 'Service')
  assert.ok(found)
  return {
    spec: found['spec'] as Record<string, unknown>,
    slices: all.filter(({ kind }) => kind === 'EndpointSlice').map(({ metadata }) => metadata.name)
  }
}

function portsOf(spec: Record<string, unknown>): readonly string[] {
  return (spec['ports'] as { name: string; port: number }[]).map(({ name, port }) => `${name}:${port}`)
}

function holders(views: Readonly<Record<string, ServiceView>>): readonly Holder[] {
  return Object.entries(views).map(([cluster, view]) => ({ cluster: cluster as ClusterName, view }))
}
