import assert from 'node:assert/strict'
import { catalog } from '../../../src/core/catalog/catalog.ts'
import { readObject } from '../../../src/core/catalog/folder-policy.ts'
import { createNames } from '../../../src/core/dns/names.ts'
import type { Cidr, ClusterName } from '../../../src/core/model/values.ts'
import type { ClusterView } from '../../../src/core/view/view.ts'

const service = (name: string, spec: object) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec: { ports: [{ port: 80 }], ...spec }
})
const alias = (externalName: string) => service('alias', { type: 'ExternalName', externalName })

function read(objects: readonly object[], options: { cluster?: string; clusterDomain?: string }) {
  const items = objects.flatMap((object) => readObject(object, { file: 'a.yaml' }))
  return catalog(items, { ...options, warnUnreachable: false }).snapshot.services
}

describe('an ExternalName', () => {
  const home: readonly (readonly [string, string])[] = [
    ['db.shop.svc.cluster.local', 'db.shop.svc.cluster.west'],
    ['db.shop.svc.cluster.local.', 'db.shop.svc.cluster.west'],
    ['DB.Shop.SVC.Cluster.Local', 'db.shop.svc.cluster.west'],
    ['pod-0.db.shop.svc.cluster.local', 'pod-0.db.shop.svc.cluster.west'],
    ['10-1-0-1.shop.pod.cluster.local', '10-1-0-1.shop.pod.cluster.west'],
    ['db.shop.svc.corp.example', 'db.shop.svc.cluster.west'],
    ['db', 'db.shop.svc.cluster.west'],
    ['DB.', 'db.shop.svc.cluster.west'],
    ['missing', 'missing.shop.svc.cluster.west'],
    ['db.shop', 'db.shop.svc.cluster.west'],
    ['pod-0.db.shop', 'pod-0.db.shop.svc.cluster.west'],
    ['db.shop.svc', 'db.shop.svc.cluster.west'],
    ['db.other.svc.', 'db.other.svc.cluster.west'],
    ['pod-0.db.shop.svc', 'pod-0.db.shop.svc.cluster.west']
  ]
  for (const [target, published] of home) {
    it(`${target} is published as ${published}`, () => {
      const objects = [service('db', { clusterIP: 'None' }), alias(target)]
      const [value] = read(objects, { cluster: 'west', clusterDomain: 'corp.example' })
      assert.equal(value?.externalName, published)
    })
  }

  for (const target of [
    'api.example.com',
    'example.com',
    'web.shop',
    'db.shop.svc.cluster.east',
    'db.shop.svc.cluster.all',
    'cluster.local.example.com',
    'notcluster.local',
    'corp.example.com'
  ]) {
    it(`${target} names nothing of the cluster, and stays`, () => {
      const [value] = read([service('db', { clusterIP: 'None' }), alias(target)], { cluster: 'west' })
      assert.equal(value?.externalName, target)
    })
  }

  it('is as it was written while the cluster is in no mesh', () => {
    assert.equal(read([alias('db.shop.svc.cluster.local')], {})[0]?.externalName, 'db.shop.svc.cluster.local')
  })

  it('asked from elsewhere leads to the service of the cluster that exports it', () => {
    const clusterOf = (name: string, ip: string): [ClusterName, ClusterView] => {
      const services = read([service('db', { clusterIP: ip }), alias('db.shop.svc.cluster.local')], {
        cluster: name
      })
      const view: ClusterView = {
        name: name as ClusterName,
        podPrefixes: [],
        servicePrefixes: ['10.0.0.0/8' as Cidr],
        agents: [],
        services: new Map(services.map((each) => [`shop/${each.name}`, { service: each, slices: [] }])),
        complete: true,
        conflicts: [],
        refusals: []
      }
      return [view.name, view]
    }
    const names = createNames({
      view: {
        self: 'east' as ClusterName,
        clusters: new Map([clusterOf('east', '10.102.0.1'), clusterOf('west', '10.101.0.1')])
      }
    })
    for (const [zone, ip] of [
      ['cluster.west', '10.101.0.1'],
      ['cluster.east', '10.102.0.1']
    ]) {
      const reply = names.answer({ name: `alias.shop.svc.${zone}`, type: 'A' })
      assert.deepEqual(reply.kind === 'answer' && reply.answers.map(({ type, data }) => [type, data]), [
        ['CNAME', `db.shop.svc.${zone}`],
        ['A', ip]
      ])
    }
  })
})
