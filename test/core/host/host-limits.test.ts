import assert from 'node:assert/strict'
import fc from 'fast-check'
import { desiredWithin } from '../../../src/core/host/desired.ts'
import {
  admit,
  fits,
  HOST_LIMITS,
  NOTHING,
  refusalText,
  sumOf,
  type Amount,
  type Claim
} from '../../../src/core/host/host-limits.ts'
import type {
  Cidr,
  ClusterName,
  Endpoint,
  EndpointSliceValue,
  Ip,
  Origin,
  ServiceValue,
  WireguardKey
} from '../../../src/core/model/values.ts'
import type { ClusterView, ServiceView } from '../../../src/core/view/view.ts'
import { servicesOf } from '../../../src/core/host/virtual-servers.ts'

interface Shape {
  readonly name: string
  readonly namespace?: string
  readonly vips?: number
  readonly ports: number
  readonly endpoints: number
  readonly affinitySeconds?: number
}

let vipsMade = 0

/** A service whose slices have up to 1,000 endpoints each, as Kubernetes makes them. */
function service(shape: Shape): [string, ServiceView] {
  const { name, namespace = 'shop', vips = 1, ports, endpoints, affinitySeconds = 0 } = shape
  const value: ServiceValue = {
    kind: 'service',
    namespace,
    name,
    clusterIps: Array.from({ length: vips }, () => ipOf('10.101', vipsMade++)),
    ports: Array.from({ length: ports }, (_, index) => ({
      name: `p${index}`,
      protocol: 'TCP' as const,
      port: 1000 + index,
      appProtocol: ''
    })),
    headless: false,
    externalName: '',
    affinitySeconds,
    publishNotReady: false
  }
  const slices = Array.from({ length: Math.ceil(endpoints / 1000) }, (_, index) =>
    slice(value, { index, endpoints: Math.min(1000, endpoints - index * 1000) })
  )
  return [`${namespace}/${name}`, { service: value, slices }]
}

function slice(
  { namespace, name, ports }: ServiceValue,
  { index, endpoints }: { readonly index: number; readonly endpoints: number }
): EndpointSliceValue {
  return {
    kind: 'endpointSlice',
    namespace,
    name: `${name}-${index}`,
    service: name,
    ports: ports.map((port) => ({ name: port.name, protocol: port.protocol, port: port.port + 7000 })),
    endpoints: Array.from({ length: endpoints }, (_, at): Endpoint => ({
      addresses: [ipOf('10.1', index * 1000 + at)],
      ready: true,
      serving: true,
      terminating: false,
      hostname: '',
      node: ''
    }))
  }
}

function ipOf(prefix: string, index: number): Ip {
  return `${prefix}.${(index >> 8) & 255}.${index & 255}` as Ip
}

function cluster(name: string, services: readonly [string, ServiceView][]): ClusterView {
  return {
    name: name as ClusterName,
    podPrefixes: ['10.1.0.0/16' as Cidr],
    servicePrefixes: ['10.101.0.0/16' as Cidr],
    agents: [],
    services: new Map(services),
    complete: true,
    conflicts: [],
    refusals: []
  }
}

function hostOf(clusters: readonly ClusterView[]) {
  const self = cluster('self', [])
  return desiredWithin({
    view: { self: self.name, clusters: new Map([self, ...clusters].map((each) => [each.name, each])) },
    self: { origin: 'self' as Origin, cluster: self.name },
    local: { publicKey: 'key' as WireguardKey },
    health: () => 'up',
    settings: {
      device: 'mesh0',
      listenPort: 51820,
      mtu: 1420,
      balanceLocal: false,
      keepaliveSeconds: 25,
      scheduler: 'rr'
    }
  })
}

const only = (shape: Shape) => servicesOf(cluster('east', [service(shape)]), 'rr')[0] ?? assert.fail()

describe('the limits of one service', () => {
  const SHAPES: readonly Shape[] = [
    { name: 'web', ports: 100, endpoints: 1000 },
    { name: 'web', vips: 8, ports: 100, endpoints: 1000 },
    { name: 'web', vips: 2, ports: 3, endpoints: 50_000 },
    { name: 'web', ports: 100, endpoints: 1000, affinitySeconds: 60 },
    { name: 'web', ports: 1, endpoints: 20_000, affinitySeconds: 60 },
    { name: 'web', vips: 8, ports: 1000, endpoints: 3 },
    { name: 'web', vips: 8, ports: 128, endpoints: 40, affinitySeconds: 60 }
  ]
  for (const shape of SHAPES)
    it(`keeps ${shape.vips ?? 1} × ${shape.ports} × ${shape.endpoints}${shape.affinitySeconds ? ' with affinity' : ''} within them, and every port that is used has endpoints`, () => {
      const { amount, asked, servers } = only(shape)
      assert.ok(fits(amount, HOST_LIMITS.service), JSON.stringify(amount))
      assert.equal(servers.length, amount.virtualServers)
      assert.equal(
        servers.reduce((sum, { realServers }) => sum + realServers.length, 0),
        amount.realServers
      )
      assert.ok(servers.every(({ realServers }) => realServers.length > 0))
      assert.ok(asked.virtualServers > amount.virtualServers || asked.realServers > amount.realServers)
    })

  it('leaves whole what Kubernetes services really are', () => {
    for (const shape of [
      { name: 'big', ports: 1, endpoints: 4000 },
      { name: 'many-ports', vips: 2, ports: 405, endpoints: 10 },
      { name: 'both', ports: 10, endpoints: 1000 },
      { name: 'sticky', ports: 5, endpoints: 500, affinitySeconds: 10_800 }
    ]) {
      const { amount, asked } = only(shape)
      assert.equal(amount.virtualServers, asked.virtualServers, shape.name)
      assert.equal(amount.realServers, asked.realServers, shape.name)
    }
  })

  it('looks at each endpoint a few times, whatever the addresses and ports are', () => {
    const [key, view] = service({ name: 'web', vips: 8, ports: 100, endpoints: 1000 })
    let looks = 0
    const [whole] = view.slices
    assert.ok(whole)
    const counted = whole.endpoints.map((endpoint) => ({
      ...endpoint,
      get addresses() {
        looks++
        return endpoint.addresses
      }
    }))
    let decoded = 0
    const lazy = {
      ...whole,
      get endpoints() {
        decoded++
        return counted
      }
    }
    const [claim] = servicesOf(cluster('east', [[key, { ...view, slices: [lazy] }]]), 'rr')
    assert.equal(decoded, 1, 'a claim is counted at one look')
    void claim?.servers
    assert.equal(decoded, 2)
    assert.ok(looks <= 8 * counted.length, `${looks} looks at ${counted.length} endpoints`)
  })

  it('says what was asked and what is used, with the fix', () => {
    const { refused } = hostOf([cluster('east', [service({ name: 'web', ports: 100, endpoints: 1000 })])])
    assert.deepEqual(refused.map(refusalText), [
      {
        subject: 'east shop/web',
        message:
          'service shop/web of cluster east has 100,000 real servers (addresses × ports × endpoints); 10,000 are used',
        fix: 'split the service, or reduce its ports or endpoints'
      }
    ])
  })

  it('chooses the same endpoints whatever the order of arrival of services', () => {
    const services = [
      service({ name: 'web', ports: 100, endpoints: 1000 }),
      service({ name: 'api', ports: 50, endpoints: 1000 })
    ]
    const forth = hostOf([cluster('east', services)])
    const back = hostOf([cluster('east', services.toReversed())])
    assert.deepEqual(back, forth)
  })
})

describe('the limits of namespace, cluster and host', () => {
  it('refuse the largest services of a namespace that has too many, and leave its neighbours alone', () => {
    const big = Array.from({ length: 30 }, (_, index) =>
      service({ name: `big-${index}`, namespace: 'greedy', ports: 10, endpoints: 1000 })
    )
    const small = [
      service({ name: 'small', namespace: 'greedy', ports: 1, endpoints: 3 }),
      service({ name: 'small', namespace: 'modest', ports: 2, endpoints: 3 })
    ]
    const claims = servicesOf(cluster('east', [...big, ...small]), 'rr')
    const [admission] = admit([{ cluster: 'east', claims }])
    assert.ok(admission)
    const names = new Set(admission.admitted.map(({ name }) => name))
    assert.ok(names.has('greedy/small') && names.has('modest/small'))
    assert.equal(admission.refusals.length, 1)
    const [refusal] = admission.refusals
    assert.ok(refusal)
    assert.equal(refusal.services, claims.length - names.size)
    assert.match(refusalText(refusal).message, /^namespace greedy of cluster east has more services/)
  })

  // Small limits, so that a run tries what a mesh would need millions of objects for.
  const limits: typeof HOST_LIMITS = {
    service: HOST_LIMITS.service,
    namespace: { virtualServers: 12, realServers: 60, entries: 90 },
    cluster: { virtualServers: 20, realServers: 100, entries: 150 },
    host: { virtualServers: 40, realServers: 210, entries: 320 }
  }
  const claim = fc.record({
    namespace: fc.constantFrom('a', 'b', 'c'),
    id: fc.nat(40),
    amount: fc.record({
      virtualServers: fc.integer({ min: 0, max: 6 }),
      realServers: fc.integer({ min: 0, max: 30 }),
      entries: fc.integer({ min: 0, max: 50 })
    })
  })
  const mesh = fc
    .uniqueArray(
      fc.record({ cluster: fc.string({ minLength: 1 }), claims: fc.array(claim, { maxLength: 30 }) }),
      {
        selector: ({ cluster }) => cluster,
        maxLength: 6
      }
    )
    .map((clusters) =>
      clusters.map((entry) => ({
        cluster: entry.cluster,
        claims: [...new Map(entry.claims.map((each) => [`${each.namespace}/${each.id}`, each]))].map(
          ([name, each]): Claim => ({ ...each, name })
        )
      }))
    )
  const total = (claims: readonly Claim[]): Amount =>
    claims.reduce((sum, { amount }) => sumOf(sum, amount), NOTHING)
  const part = (amount: Amount, by: number): Amount => ({
    virtualServers: Math.floor(amount.virtualServers / by),
    realServers: Math.floor(amount.realServers / by),
    entries: Math.floor(amount.entries / by)
  })

  it('are never exceeded, whatever services exist', () => {
    fc.assert(
      fc.property(mesh, (clusters) => {
        const admissions = admit(clusters, limits)
        assert.ok(fits(total(admissions.flatMap(({ admitted }) => admitted)), limits.host))
        for (const { admitted } of admissions) {
          assert.ok(fits(total(admitted), limits.cluster))
          for (const own of Map.groupBy(admitted, ({ namespace }) => namespace).values())
            assert.ok(fits(total(own), limits.namespace))
        }
      })
    )
  })

  it('take nothing from a cluster that asks for its share or less, whatever the others ask for', () => {
    fc.assert(
      fc.property(mesh, (clusters) => {
        const admissions = admit(clusters, limits)
        for (const [index, { claims }] of clusters.entries()) {
          const namespaces = Map.groupBy(claims, ({ namespace }) => namespace)
          const isModest =
            fits(total(claims), part(limits.host, clusters.length)) &&
            fits(total(claims), limits.cluster) &&
            [...namespaces.values()].every((own) => fits(total(own), limits.namespace))
          if (isModest)
            assert.deepEqual(admissions[index], { ...admissions[index], admitted: claims, refusals: [] })
        }
      })
    )
  })

  const claimOf = (name: string, virtualServers: number, entries: number): Claim => ({
    name,
    namespace: name,
    amount: { virtualServers, realServers: 0, entries }
  })

  it('refuse the largest services, whatever their names are', () => {
    const claims = [claimOf('a', 1, 145), claimOf('b', 1, 10), claimOf('c', 1, 80), claimOf('d', 1, 60)]
    const wide = { ...limits, namespace: limits.cluster }
    const [admission] = admit([{ cluster: 'east', claims }], wide)
    assert.deepEqual(
      admission?.admitted.map(({ name }) => name),
      ['b', 'c', 'd']
    )
  })

  it('give each cluster its share of each kind, also where another is smaller in one and larger in another', () => {
    const wide = { ...limits, namespace: limits.cluster }
    const lean = (cluster: string) => ({
      cluster,
      claims: Array.from({ length: 20 }, (_, index) => claimOf(`${index}`, 1, 1))
    })
    const modest = {
      cluster: 'c',
      claims: Array.from({ length: 13 }, (_, index) => claimOf(`${index}`, 1, 5))
    }
    const [a, b, c] = admit([lean('a'), lean('b'), modest], wide)
    assert.equal(c?.admitted.length, 13)
    assert.deepEqual([a?.admitted.length, b?.admitted.length], [13, 13])
  })

  it('name every refused service in a count, and depend on no order', () => {
    fc.assert(
      fc.property(mesh, (clusters) => {
        const admissions = admit(clusters, limits)
        const turned = clusters.toReversed().map((entry) => ({ ...entry, claims: entry.claims.toReversed() }))
        const again = admit(turned, limits).toReversed()
        for (const [index, { admitted, refusals }] of admissions.entries()) {
          const missing = (clusters[index]?.claims.length ?? 0) - admitted.length
          assert.equal(
            refusals.reduce((sum, { services }) => sum + services, 0),
            missing
          )
          const names = (list: readonly Claim[] = []) => list.map(({ name }) => name).sort()
          assert.deepEqual(names(again[index]?.admitted), names(admitted))
        }
      })
    )
  })

  it('expand nothing of a service that is refused', () => {
    const big = Array.from({ length: 60 }, (_, index) =>
      service({ name: `s${index}`, namespace: `n${index % 20}`, ports: 10, endpoints: 1000 })
    )
    let decoded = 0
    const watched = big.map(([key, view]): [string, ServiceView] => [
      key,
      {
        ...view,
        slices: view.slices.map((each) => ({
          ...each,
          get endpoints() {
            decoded++
            return each.endpoints
          }
        }))
      }
    ])
    const { host, refused } = hostOf([cluster('east', watched)])
    const kept = host.virtualServers.length / 10
    assert.ok(kept < big.length)
    assert.equal(refused.at(-1)?.services, big.length - kept)
    assert.equal(decoded, big.length + kept, 'one look at each to count it, one more at what is used')
  })

  it('keep another cluster whole beside one that fills the host', () => {
    const greedy = cluster(
      'greedy',
      Array.from({ length: 50 }, (_, index) =>
        service({ name: `s${index}`, namespace: `n${index % 20}`, ports: 8, endpoints: 1000 })
      )
    )
    const modest = cluster('modest', [
      service({ name: 'web', ports: 2, endpoints: 4 }),
      service({ name: 'db', ports: 1, endpoints: 2 })
    ])
    const { host, refused } = hostOf([greedy, modest])
    const wanted = servicesOf(modest, 'rr').flatMap(({ servers }) => servers)
    const vips = new Map(host.virtualServers.map((server) => [`${server.vip} ${server.port}`, server]))
    for (const server of wanted) assert.deepEqual(vips.get(`${server.vip} ${server.port}`), server)
    assert.ok(host.virtualServers.length <= HOST_LIMITS.host.virtualServers)
    assert.deepEqual(
      refused.map(({ cluster: name, scope }) => `${name} ${scope}`),
      ['greedy cluster']
    )
  })
})
