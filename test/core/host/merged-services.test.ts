// Balanced services as the load balancer gets them: real servers with weights, the slots they become, and no work for what
// did not change.
import assert from 'node:assert/strict'
import { Balancer } from '../../../src/core/host/balance.ts'
import { MergedServices, sharesOf, type ChoiceFacts } from '../../../src/core/host/merged-services.ts'
import { slotTable } from '../../../src/core/host/slots.ts'
import { serviceServers } from '../../../src/core/host/virtual-servers.ts'
import type { Cidr, ClusterName, Endpoint, Ip } from '../../../src/core/model/values.ts'
import { balancedServices } from '../../../src/core/view/balanced.ts'
import type { ClusterView, MeshView, ServiceView } from '../../../src/core/view/view.ts'

const CLUSTERS = ['east', 'edge', 'west'] as const
type Cluster = (typeof CLUSTERS)[number]

const READY = { ready: true, serving: true, terminating: false }
const LEAVING = { ready: false, serving: true, terminating: true }

interface Options {
  /** Endpoints of each cluster; default 2, 3 and 4. */
  readonly endpoints?: readonly [east: number, edge: number, west: number]
  readonly affinitySeconds?: number
  readonly conditions?: Partial<Record<Cluster, Pick<Endpoint, 'ready' | 'serving' | 'terminating'>>>
}

/** The service web with 2, 3 and 4 endpoints in east, edge and west. */
function mesh(
  balance: string,
  { affinitySeconds = 0, conditions = {}, endpoints = [2, 3, 4] }: Options = {}
): MeshView {
  const clusters = CLUSTERS.map((name, index): [ClusterName, ClusterView] => {
    const web: ServiceView = {
      service: {
        kind: 'service',
        namespace: 'shop',
        name: 'web',
        clusterIps: [`10.10${index}.0.1` as Ip],
        ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
        headless: false,
        externalName: '',
        affinitySeconds,
        publishNotReady: false,
        ...(name === 'edge' ? { balance } : {})
      },
      slices: [
        {
          kind: 'endpointSlice',
          namespace: 'shop',
          name: 'web-1',
          service: 'web',
          ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
          endpoints: Array.from({ length: endpoints[index] ?? 0 }, (_, host) => ({
            ...(conditions[name] ?? READY),
            addresses: [`10.${index + 1}.${host >> 8}.${host & 255}` as Ip],
            hostname: '',
            node: ''
          }))
        }
      ]
    }
    const cluster = name as ClusterName
    const rest = {
      podPrefixes: [],
      servicePrefixes: [],
      agents: [],
      complete: true,
      conflicts: [],
      refusals: []
    }
    return [cluster, { name: cluster, services: new Map([['shop/web', web]]), ...rest }]
  })
  return { self: 'edge' as ClusterName, clusters: new Map(clusters) }
}

const facts = (down: readonly string[] = []): ChoiceFacts => ({
  self: 'edge' as ClusterName,
  isWithdrawn: (cluster) => down.includes(cluster),
  rttMs: () => undefined
})

const balancedOf = (view: MeshView) => balancedServices(view, { prefix: '240.240.0.0/16' as Cidr })

function serverOf(view: MeshView, down: readonly string[] = [], scheduler: 'rr' | 'mh' = 'rr') {
  const [web] = new MergedServices().follow(balancedOf(view), facts(down)).values()
  assert.ok(web)
  const [server] = serviceServers(web, scheduler).servers
  assert.ok(server)
  return server
}

/** The part of the slots that lead to each cluster, in percent. */
function slotsOf(server: ReturnType<typeof serverOf>): Partial<Record<Cluster, number>> {
  const { slots } = slotTable(server)
  const counts: Partial<Record<Cluster, number>> = {}
  for (const { ip } of slots) {
    const cluster = CLUSTERS[Number(ip.split('.')[1]) - 1] ?? 'west'
    counts[cluster] = (counts[cluster] ?? 0) + 1
  }
  for (const cluster of CLUSTERS)
    if (counts[cluster] !== undefined) counts[cluster] = Math.round((100 * counts[cluster]) / slots.length)
  return counts
}

describe('a balanced service in the load balancer', () => {
  it('has slots in proportion to the weights, however many endpoints each cluster has', () => {
    const server = serverOf(mesh('weights=east:90,west:10'))
    assert.equal(server.scheduler, 'wrr')
    assert.deepEqual(slotsOf(server), { east: 90, west: 10 })
  })

  it('keeps the proportion where the endpoints are more than the table has places', () => {
    for (const affinitySeconds of [0, 60])
      for (const endpoints of [
        [900, 3, 5],
        [3, 0, 900],
        [800, 900, 1000],
        [256, 0, 256]
      ] as const) {
        const server = serverOf(mesh('weights=east:90,west:10', { endpoints, affinitySeconds }))
        assert.ok(server.realServers.length <= 512, String(server.realServers.length))
        const { east = 0, west = 0, ...others } = slotsOf(server)
        assert.deepEqual(others, {})
        assert.ok(Math.abs(east - 90) <= 3 && east + west === 100, `${east}:${west} of ${endpoints.join()}`)
      }
  })

  it('uses as many endpoints of each slice as its part of them is', () => {
    const [service] = balancedOf(mesh('weights=east:90,west:10', { endpoints: [900, 3, 900] })).values()
    assert.ok(service)
    const reasons = sharesOf(service, facts()).map(({ cluster, endpoints, of, reason }) => [
      cluster,
      endpoints,
      of,
      reason
    ])
    assert.deepEqual(reasons, [
      ['east', 459, 900, 'its weight is 90 of 100; 459 of its 900 endpoints have a place'],
      ['edge', 0, 0, 'it is not in weights'],
      ['west', 51, 900, 'its weight is 10 of 100; 51 of its 900 endpoints have a place']
    ])
  })

  it('keeps the proportion with ClientIP affinity, as nearly as the table of hashes can', () => {
    const slots = slotsOf(serverOf(mesh('weights=east:75,west:25', { affinitySeconds: 60 })))
    assert.ok(Math.abs((slots.east ?? 0) - 75) < 12, JSON.stringify(slots))
  })

  it('has no more slots than the limits count', () => {
    for (const policy of ['weights=east:997,west:1', 'weights=east:90,west:10', 'spread']) {
      const [web] = new MergedServices().follow(balancedOf(mesh(policy)), facts()).values()
      assert.ok(web)
      const { servers, amount } = serviceServers(web, 'rr')
      const used = servers.reduce((sum, server) => sum + 1 + slotTable(server).slots.length, 0)
      assert.ok(used <= amount.entries, `${policy}: ${used} of ${amount.entries}`)
    }
  })

  it('has the endpoints of the next cluster when the first is down, and weights of 1', () => {
    assert.deepEqual(slotsOf(serverOf(mesh('failover=west,east'))), { west: 100 })
    const server = serverOf(mesh('failover=west,east'), ['west'])
    assert.deepEqual(slotsOf(server), { east: 100 })
    assert.ok(server.realServers.every(({ weight }) => weight === 1))
    assert.equal(server.scheduler, 'rr')
  })

  it('uses endpoints that terminate only while none is ready anywhere', () => {
    assert.deepEqual(slotsOf(serverOf(mesh('failover=west,east', { conditions: { west: LEAVING } }))), {
      east: 100
    })
    const all = { east: LEAVING, edge: LEAVING, west: LEAVING }
    assert.deepEqual(slotsOf(serverOf(mesh('failover=west,east', { conditions: all }))), { west: 100 })
  })

  it('of exports leads only to clusters whose port has the number that the exports agree on', () => {
    const exportedAt = { east: 3000, edge: 1000, west: 2000 }
    const view = mesh('spread')
    for (const [name, { services }] of view.clusters) {
      const web = services.get('shop/web') ?? assert.fail()
      const rest = { ipFamilies: [4], internalTrafficPolicy: 'Cluster', trafficDistribution: '' } as const
      const clusterset = { ...rest, exportedAt: exportedAt[name as Cluster], labels: [], annotations: [] }
      const ports = web.service.ports.map((port) => ({ ...port, port: name === 'west' ? 8080 : 80 }))
      const { balance: _, ...service } = web.service
      const changed = { ...web, service: { ...service, ports, clusterset } }
      ;(services as Map<string, ServiceView>).set('shop/web', changed)
    }
    const server = serverOf(view)
    assert.equal(server.port, 80)
    assert.deepEqual(Object.keys(slotsOf(server)).toSorted(), ['east', 'edge'])
  })

  it('is the same object while nothing changed, and a new one when the choice did', () => {
    const merged = new MergedServices()
    const balanced = balancedOf(mesh('failover=west,east'))
    const first = merged.follow(balanced, facts())
    assert.equal(merged.follow(balancedOf(mesh('failover=west,east')), facts()).size, 1)
    const again = merged.follow(balanced, facts())
    assert.equal(merged.follow(balanced, facts()), again)
    assert.equal(first.size, 1)
    assert.notEqual(merged.follow(balanced, facts(['west'])).get('shop/web'), again.get('shop/web'))
    assert.equal(merged.follow(new Map(), facts()).size, 0)
  })

  it('gives the Balancer the same virtual servers by edits as anew', () => {
    const balancer = new Balancer()
    const steps = [facts(), facts(['west']), facts(['west', 'east']), facts()]
    const balanced = balancedOf(mesh('only=west,east; failover=west'))
    for (const step of steps) {
      const input = (services: ReadonlyMap<string, ServiceView>) => ({
        clusters: [{ name: 'all' as ClusterName, services, isWithdrawn: false }],
        scheduler: 'rr' as const,
        kept: []
      })
      const edited = balancer.follow(input(balancer.merged.follow(balanced, step)))
      const anew = new Balancer().follow(input(new MergedServices().follow(balanced, step)))
      assert.deepEqual(edited, anew)
    }
  })

  it('says of each cluster why it has its share, or none', () => {
    const [service] = balancedOf(mesh('only=west,east; failover=west')).values()
    assert.ok(service)
    assert.deepEqual(
      sharesOf(service, facts(['west'])).map(({ cluster, weight, reason }) => [cluster, weight, reason]),
      [
        ['east', 1, 'no cluster in failover has an endpoint, so the others answer'],
        ['edge', 0, 'only=west,east leaves it out'],
        ['west', 0, 'no tunnel to it is up']
      ]
    )
  })
})
