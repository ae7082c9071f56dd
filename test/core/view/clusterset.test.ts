// One service of the exports of all clusters: which export counts, what all have, and where they differ.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type {
  Cidr,
  ClusterName,
  ClustersetExport,
  Ip,
  ServicePort,
  ServiceValue
} from '../../../src/core/model/values.ts'
import { clustersetKey } from '../../../src/core/model/zones.ts'
import { balancedServices } from '../../../src/core/view/balanced.ts'
import {
  clustersetServices,
  exportedKeys,
  EXPORTS_PER_CLUSTER_MAX,
  EXPORTS_PER_NAMESPACE_MAX
} from '../../../src/core/view/clusterset.ts'
import type { ClusterView, MeshView, ServiceView } from '../../../src/core/view/view.ts'

const EXPORT: ClustersetExport = {
  exportedAt: 1000,
  ipFamilies: [4],
  internalTrafficPolicy: 'Cluster',
  trafficDistribution: '',
  labels: [],
  annotations: []
}

const port = (name: string, number: number, protocol: 'TCP' | 'UDP' = 'TCP'): ServicePort => ({
  name,
  protocol,
  port: number,
  appProtocol: ''
})

function exported(more: Partial<ClustersetExport> = {}, service: Partial<ServiceValue> = {}): ServiceView {
  return {
    service: {
      kind: 'service',
      namespace: 'shop',
      name: 'web',
      clusterIps: service.headless === true ? [] : ['10.101.0.1' as Ip],
      ports: [port('http', 80)],
      headless: false,
      externalName: '',
      affinitySeconds: 0,
      publishNotReady: false,
      clusterset: { ...EXPORT, ...more },
      ...service
    },
    slices: []
  }
}

function view(clusters: Readonly<Record<string, readonly ServiceView[]>>): MeshView {
  const all = Object.entries(clusters).map(([name, services]): [ClusterName, ClusterView] => [
    name as ClusterName,
    {
      name: name as ClusterName,
      podPrefixes: [],
      servicePrefixes: [],
      agents: [],
      services: new Map(services.map((each) => [`${each.service.namespace}/${each.service.name}`, each])),
      complete: true,
      conflicts: [],
      refusals: []
    }
  ])
  return { self: 'east' as ClusterName, clusters: new Map(all) }
}

const [ARBITRARY_PORTS, NAMES] = [
  ['http', 'dns', ''],
  ['east', 'west', 'edge', 'north']
] as const
const anExport = fc
  .record({
    exportedAt: fc.constantFrom(0, 1000, 2000),
    headless: fc.boolean(),
    affinitySeconds: fc.constantFrom(0, 60, 10_800),
    ports: fc.uniqueArray(
      fc.record({
        name: fc.constantFrom(...ARBITRARY_PORTS),
        protocol: fc.constantFrom('TCP' as const, 'UDP' as const),
        port: fc.constantFrom(80, 81, 82)
      }),
      { minLength: 1, maxLength: 3, selector: ({ protocol, port: number }) => `${protocol} ${number}` }
    ),
    labels: fc.constantFrom([], [{ key: 'team', value: 'shop' }])
  })
  .map(({ exportedAt, labels, ports, ...service }) =>
    exported(
      { exportedAt, labels },
      { ...service, clusterIps: [], ports: ports.map((each) => ({ ...each, appProtocol: '' })) }
    )
  )
const aMesh = fc.dictionary(fc.constantFrom(...NAMES), anExport, { minKeys: 1, noNullPrototype: true })

describe('the services of clusterset.local', () => {
  it('are those that a cluster exports, and no others', () => {
    const { clusterset: _, ...plain } = exported({}, { name: 'plain' }).service
    const mesh = view({ east: [exported(), { service: plain, slices: [] }] })
    assert.deepEqual(
      clustersetServices(mesh).map(({ key }) => key),
      ['shop/web']
    )
  })

  it('are the same in whichever order clusters are known, and the oldest export counts', () => {
    fc.assert(
      fc.property(aMesh, (exports) => {
        const entries = Object.entries(exports).map(([name, each]) => [name, [each]] as const)
        const [one] = clustersetServices(view(Object.fromEntries(entries)))
        const [other] = clustersetServices(view(Object.fromEntries(entries.toReversed())))
        assert.ok(one !== undefined && other !== undefined)
        assert.deepEqual(one, other)
        const ages = one.exporters.map((each) => each.exported.exportedAt || Infinity)
        assert.deepEqual(
          ages,
          ages.toSorted((a, b) => a - b || 0)
        )
        const [oldest] = one.exporters
        assert.equal(one.service.headless, oldest.view.service.headless)
        assert.deepEqual(one.exported, oldest.exported)
        for (const each of oldest.view.service.ports.slice(0, 1)) assert.ok(one.service.ports.includes(each))
      }),
      { numRuns: 300 }
    )
  })

  it('have the ports of all exports, each name and each number once, and a conflict exactly where two differ', () => {
    fc.assert(
      fc.property(aMesh, (exports) => {
        const [found] = clustersetServices(
          view(Object.fromEntries(Object.entries(exports).map(([name, each]) => [name, [each]])))
        )
        assert.ok(found !== undefined)
        const { ports } = found.service
        const numbers = ports.map(({ protocol, port: number }) => `${protocol} ${number}`)
        assert.equal(new Set(numbers).size, numbers.length)
        const labels = ports.map(({ name }) => name).filter((name) => name !== '')
        assert.equal(new Set(labels).size, labels.length)
        for (const { view: each } of found.exporters)
          for (const wanted of each.service.ports)
            assert.ok(
              ports.some(
                (one) =>
                  (one.protocol === wanted.protocol && one.port === wanted.port) ||
                  (wanted.name !== '' ? one.name === wanted.name : one.protocol === wanted.protocol)
              ),
              `${wanted.name} ${wanted.port} has neither a place nor an older port in it`
            )
        const reasons = new Set(found.conflicts.map(({ reason }) => reason))
        const differ = (of: (each: ServiceView) => unknown) =>
          new Set(found.exporters.map(({ view: each }) => JSON.stringify(of(each)))).size > 1
        assert.equal(
          reasons.has('TypeConflict'),
          differ(({ service }) => service.headless)
        )
        assert.equal(
          reasons.has('LabelsConflict'),
          differ(({ service }) => service.clusterset?.labels)
        )
        assert.equal(
          reasons.has('SessionAffinityConflict'),
          differ(({ service }) => service.affinitySeconds > 0)
        )
        assert.equal(
          reasons.has('PortConflict'),
          differ(({ service }) => service.ports.map((each) => JSON.stringify(each)).toSorted())
        )
      }),
      { numRuns: 300 }
    )
  })

  it('take an export without a time for the youngest, and the first cluster by name of two of one age', () => {
    const oldestOf = (clusters: Readonly<Record<string, number>>) =>
      clustersetServices(
        view(
          Object.fromEntries(
            Object.entries(clusters).map(([name, at]) => [name, [exported({ exportedAt: at })]])
          )
        )
      )[0]?.exporters[0].cluster
    assert.equal(oldestOf({ east: 0, west: 5 }), 'west')
    assert.equal(oldestOf({ west: 5, east: 5 }), 'east')
    assert.equal(oldestOf({ west: 0, east: 0 }), 'east')
  })

  it('are bounded for each namespace and cluster, so that one namespace takes no place of another', () => {
    const many = (namespace: string, count: number) =>
      Array.from({ length: count }, (_, at) => exported({}, { namespace, name: `s${at}` }))
    const keys = exportedKeys(
      view({ east: [...many('greedy', 3000), ...many('shop', 5)] }).clusters.get('east' as ClusterName)
        ?.services ?? new Map()
    )
    assert.equal([...keys].filter((key) => key.startsWith('greedy/')).length, EXPORTS_PER_NAMESPACE_MAX)
    assert.equal([...keys].filter((key) => key.startsWith('shop/')).length, 5)
    const all = Array.from({ length: 6 }, (_, at) => many(`n${at}`, 1000)).flat()
    const { services } = view({ east: all }).clusters.get('east' as ClusterName) ?? { services: new Map() }
    assert.equal(exportedKeys(services).size, EXPORTS_PER_CLUSTER_MAX)
  })

  it('have one address each, which moves none of cluster.all; headless ones have none', () => {
    const prefix = '240.240.0.0/16' as Cidr
    const web = exported({}, { balance: 'nearest' })
    const { clusterset: _, ...plain } = web.service
    const db = exported({}, { name: 'db', headless: true })
    const without = balancedServices(view({ east: [{ service: plain, slices: [] }] }), { prefix })
    const balanced = balancedServices(view({ east: [web, db], west: [exported()] }), { prefix })
    assert.deepEqual([...balanced.keys()], ['shop/web', clustersetKey('shop/web')])
    assert.equal(balanced.get('shop/web')?.address, without.get('shop/web')?.address)
    assert.notEqual(balanced.get(clustersetKey('shop/web'))?.address, balanced.get('shop/web')?.address)
    // Of an address for each of a prefix that has none left, cluster.all loses none.
    const small = balancedServices(view({ east: [web, exported({}, { name: 'api' })] }), {
      prefix: '240.240.0.0/30' as Cidr
    })
    assert.ok(small.has('shop/web'))
    assert.equal(small.size, 2)
  })

  it('spread over all exporting clusters; a policy, or trafficDistribution, says otherwise', () => {
    const policyOf = (clusters: Parameters<typeof view>[0]) => {
      const found = balancedServices(view(clusters), { prefix: '240.240.0.0/16' as Cidr })
      return found.get(clustersetKey('shop/web'))
    }
    assert.equal(policyOf({ east: [exported()], west: [exported()] })?.policy.preference.kind, 'spread')
    const close = { trafficDistribution: 'PreferClose' }
    assert.equal(policyOf({ east: [exported(close)] })?.policy.preference.kind, 'local-first')
    const nearest = exported({ exportedAt: 2000 }, { balance: 'nearest' })
    assert.equal(policyOf({ edge: [exported()], west: [nearest] })?.policy.preference.kind, 'nearest')
    // A headless exporter of a service that is not headless is balanced by its endpoints.
    const headless = exported({ exportedAt: 2000 }, { headless: true })
    assert.deepEqual(
      policyOf({ east: [exported()], west: [headless] })?.holders.map(({ cluster }) => cluster),
      ['east', 'west']
    )
  })
})
