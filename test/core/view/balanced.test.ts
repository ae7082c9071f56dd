// Which services are balanced over clusters, whose policy is in force, and which address each has.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { cidrContains } from '../../../src/core/model/cidr.ts'
import type { Cidr, ClusterName, Ip, ServiceValue } from '../../../src/core/model/values.ts'
import {
  balancedServices,
  mergedService,
  POLICIES_PER_CLUSTER_MAX,
  unbalancedServices
} from '../../../src/core/view/balanced.ts'
import type { ClusterView, MeshView, ServiceView } from '../../../src/core/view/view.ts'

const PREFIX = '240.240.0.0/16' as Cidr

const service = (name: string, balance?: string, more: Partial<ServiceValue> = {}): ServiceView => ({
  service: {
    kind: 'service',
    namespace: 'shop',
    name,
    clusterIps: ['10.101.0.1' as Ip],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
    headless: false,
    externalName: '',
    affinitySeconds: 0,
    publishNotReady: false,
    ...(balance === undefined ? {} : { balance }),
    ...more
  },
  slices: []
})

function view(clusters: Readonly<Record<string, readonly ServiceView[]>>, self = 'edge'): MeshView {
  const all = Object.entries(clusters).map(([name, services]): [ClusterName, ClusterView] => [
    name as ClusterName,
    {
      name: name as ClusterName,
      podPrefixes: [],
      servicePrefixes: [],
      agents: [],
      services: new Map(services.map((each) => [`shop/${each.service.name}`, each])),
      complete: true,
      conflicts: [],
      refusals: []
    }
  ])
  return { self: self as ClusterName, clusters: new Map(all) }
}

/** "west: nearest; not edge" */
function inForce(mesh: MeshView, order?: readonly string[]): string {
  const balanced = balancedServices(mesh, {
    prefix: PREFIX,
    ...(order && { order: (left, right) => order.indexOf(left) - order.indexOf(right) })
  }).get('shop/web')
  if (balanced === undefined) return 'none'
  const not = balanced.overruled.map(({ cluster, fault }) => `${cluster}${fault ? '!' : ''}`)
  return [`${balanced.from}: ${balanced.text}`, ...not].join(' not ')
}

describe('balanced services', () => {
  it('are those with a policy that is understood', () => {
    assert.equal(inForce(view({ east: [service('web')], west: [service('web')] })), 'none')
    assert.equal(
      inForce(view({ east: [service('web')], west: [service('web', 'nearest')] })),
      'west: nearest'
    )
    assert.equal(inForce(view({ west: [service('web', 'nearby')] })), 'none')
    assert.equal(
      inForce(view({ east: [service('web', 'nearby')], west: [service('web', 'nearest')] })),
      'west: nearest not east!'
    )
  })

  it('have the policy of the own cluster, else that of the cluster that became a member first', () => {
    const both = { east: [service('web', 'nearest')], west: [service('web', 'only=west')] }
    assert.equal(inForce(view(both)), 'east: nearest not west')
    assert.equal(inForce(view(both), ['west', 'east']), 'west: only=west not east')
    assert.equal(
      inForce(view({ ...both, edge: [service('web', 'spread')] })),
      'edge: spread not east not west'
    )
    assert.equal(
      inForce(view({ east: [service('web', 'nearest')], west: [service('web', 'nearest')] })),
      'east: nearest'
    )
  })

  it('follow no other cluster where the own cluster has the service: no member draws its traffic away', () => {
    const drawn = { west: [service('web', 'only=west')] }
    assert.equal(inForce(view({ ...drawn, edge: [service('web')] })), 'none')
    assert.equal(inForce(view({ ...drawn, edge: [service('web', 'nearby')] })), 'none')
    assert.equal(inForce(view({ ...drawn, edge: [service('other')] })), 'west: only=west')
  })

  it('are neither headless services nor aliases', () => {
    const headless = { headless: true, clusterIps: [] }
    assert.equal(inForce(view({ east: [service('web', 'nearest', headless)] })), 'none')
    const mixed = view({ east: [service('web', undefined, headless)], west: [service('web', 'nearest')] })
    const [balanced] = balancedServices(mixed, { prefix: PREFIX }).values()
    assert.deepEqual(
      balanced?.holders.map(({ cluster }) => cluster),
      ['west']
    )
  })

  it('have different addresses inside the prefix, the same on every agent of a cluster', () => {
    const names = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,6}$/), { maxLength: 60 })
    const prefix = fc.constantFrom(PREFIX, '10.250.0.0/24' as Cidr, 'fd00:1::/112' as Cidr)
    fc.assert(
      fc.property(names, prefix, (all, within) => {
        const addresses = (of: readonly string[]) =>
          new Map(
            [
              ...balancedServices(view({ east: of.map((name) => service(name, 'spread')) }), {
                prefix: within
              })
            ].map(([key, { address }]) => [key, address])
          )
        const found = addresses(all)
        assert.equal(found.size, all.length)
        assert.equal(new Set(found.values()).size, all.length)
        for (const address of found.values()) {
          assert.ok(cidrContains(within, address))
          assert.ok(!address.endsWith('.0.0') && !address.endsWith('.255.255'))
        }
        assert.deepEqual(addresses(all.toReversed()), found)
      }),
      { numRuns: 50 }
    )
  })

  it('are bounded for each cluster, so that one leaves the others their addresses', () => {
    const many = Array.from({ length: POLICIES_PER_CLUSTER_MAX + 10 }, (_, index) =>
      service(`a${index}`, 'spread')
    )
    const found = balancedServices(view({ east: many, west: [service('web', 'nearest')] }), {
      prefix: PREFIX
    })
    assert.equal(found.size, POLICIES_PER_CLUSTER_MAX + 1)
    assert.ok(found.has('shop/web'))
  })

  it('leave no policy without an answer: it is in force, overruled, or shown with the reason why none is', () => {
    const texts = fc.constantFrom(undefined, 'spread', 'nearest', 'nearby', 'only=west')
    const names = ['web', 'api', 'mail'] as const
    const one = fc.tuple(...names.map(() => texts))
    const prefixes = fc.constantFrom(PREFIX, '240.240.0.0/32' as Cidr, '240.240.0.0/30' as Cidr)
    fc.assert(
      fc.property(one, one, fc.boolean(), one, prefixes, (east, west, isHere, edge, prefix) => {
        const of = (list: readonly (string | undefined)[]) =>
          list.map((text, at) => service(names[at] ?? '', text))
        const mesh = view({ east: of(east), west: of(west), ...(isHere && { edge: of(edge) }) })
        const found = balancedServices(mesh, { prefix })
        const idle = new Map(unbalancedServices(mesh, found).map((each) => [each.key, each]))
        for (const [key, { services }] of mesh.clusters)
          for (const [name, { service: held }] of services) {
            if (held.balance === undefined) continue
            const used = found.get(name)
            const shown = used === undefined ? idle.get(name)?.policies : used.overruled
            const isTold =
              used?.text === held.balance ||
              shown?.some(({ cluster, text }) => cluster === key && text === held.balance)
            assert.ok(isTold, `${name} of ${key}`)
            assert.equal(idle.has(name), used === undefined)
          }
        for (const { key, cause, policies } of idle.values()) {
          const valid = policies.filter(({ fault }) => fault === undefined)
          const isOwn = isHere && !valid.some(({ cluster }) => cluster === 'edge')
          assert.equal(cause, valid.length === 0 ? undefined : isOwn ? 'own' : 'full', key)
        }
      })
    )
    const many = Array.from({ length: POLICIES_PER_CLUSTER_MAX }, (_, at) => service(`a${at}`, 'spread'))
    const full = view({ east: [...many, service('web', 'nearest')] })
    const [left, ...more] = unbalancedServices(full, balancedServices(full, { prefix: PREFIX }))
    assert.deepEqual([left?.key, left?.cause, more.length], ['shop/web', 'limit', 0])
  })

  it('merge the ports: one for each name and each number, that of the first holder', () => {
    const port = (name: string, number: number) => ({
      name,
      protocol: 'TCP' as const,
      port: number,
      appProtocol: ''
    })
    const holder = (cluster: string, ports: ServiceValue['ports'], affinitySeconds = 0) => ({
      cluster: cluster as ClusterName,
      view: service('web', undefined, { ports, affinitySeconds })
    })
    const merged = mergedService(
      [
        holder('east', [port('http', 80), port('metrics', 9090)]),
        holder('west', [port('http', 8080), port('web', 80), port('https', 443)], 60)
      ],
      '240.240.0.1' as Ip
    )
    assert.deepEqual(merged.ports, [port('http', 80), port('metrics', 9090), port('https', 443)])
    assert.equal(merged.affinitySeconds, 60)
  })
})
