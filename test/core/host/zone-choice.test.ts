// Which endpoints of a service are near a host: the table of wishes, and what holds for every service and every host.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { Balancer } from '../../../src/core/host/balance.ts'
import { useOf } from '../../../src/core/host/endpoint-use.ts'
import { chooseNear, nearView, type NearWish } from '../../../src/core/host/zone-choice.ts'
import { serviceServers } from '../../../src/core/host/virtual-servers.ts'
import { familyOf } from '../../../src/core/model/cidr.ts'
import type { Place } from '../../../src/core/model/topology.ts'
import type { ClusterName, Endpoint, EndpointSliceValue, Ip } from '../../../src/core/model/values.ts'
import type { ServiceView } from '../../../src/core/view/view.ts'

const HERE: Place = { zone: 'a', node: 'n1' }
const UNKNOWN: Place = { zone: '', node: 'n1' }
const OWN: NearWish = { trafficDistribution: undefined, isOwn: true, sameZone: false }

/** "1a": an endpoint with the address 10.1.0.1 in zone a. */
const endpoint = (name: string, more: Partial<Endpoint> = {}): Endpoint => ({
  addresses: [`10.1.0.${name.slice(0, -1)}` as Ip],
  ready: true,
  serving: true,
  terminating: false,
  hostname: '',
  node: '',
  ...(name.at(-1) !== '-' && { zone: name.at(-1) ?? '' }),
  ...more
})

const slice = (
  endpoints: readonly Endpoint[],
  { name = 'web-1', ports = ['http'] }: { readonly name?: string; readonly ports?: readonly string[] } = {}
): EndpointSliceValue => ({
  kind: 'endpointSlice',
  namespace: 'shop',
  name,
  service: 'web',
  ports: ports.map((each) => ({ name: each, protocol: 'TCP', port: each === 'http' ? 8080 : 9090 })),
  endpoints
})

const view = (
  slices: readonly EndpointSliceValue[],
  { trafficDistribution, ips = ['10.101.0.1'] }: { trafficDistribution?: string; ips?: string[] } = {}
): ServiceView => ({
  service: {
    kind: 'service',
    namespace: 'shop',
    name: 'web',
    clusterIps: ips.map((ip) => ip as Ip),
    ports: [
      { name: 'http', protocol: 'TCP', port: 80, appProtocol: '' },
      { name: 'admin', protocol: 'TCP', port: 90, appProtocol: '' }
    ],
    headless: false,
    externalName: '',
    affinitySeconds: 0,
    publishNotReady: false,
    ...(trafficDistribution !== undefined && { trafficDistribution })
  },
  slices
})

/** "1 2: zone": the addresses that a host uses, and how near they are. */
function chosen(endpoints: readonly Endpoint[], wish: Partial<NearWish>, place = HERE): string {
  const near = chooseNear(view([slice(endpoints)]), { place, families: [4], wish: { ...OWN, ...wish } })
  const addresses = near.slices.flatMap((each) =>
    each.endpoints.map(({ addresses: [ip] }) => String(ip).slice(7))
  )
  return `${addresses.join(' ')}: ${near.nearness}`
}

describe('the choice of near endpoints', () => {
  const [one, two, three] = [endpoint('1a'), endpoint('2b'), endpoint('3-')]
  const hinted = [endpoint('1a', { forZones: ['b'] }), endpoint('2b', { forZones: ['a'] })]
  const close = { trafficDistribution: 'PreferClose' }
  const sameNode = { trafficDistribution: 'PreferSameNode' }
  const onNode = [endpoint('1a', { node: 'n2' }), endpoint('2b', { node: 'n1' })]
  const rows: readonly (readonly [string, string, string])[] = [
    ['nothing asks for it', chosen([one, two, three], {}), '1 2 3: all'],
    ['PreferClose', chosen([one, two, three], close), '1: zone'],
    ['PreferSameZone', chosen([one, two, three], { trafficDistribution: 'PreferSameZone' }), '1: zone'],
    ['a word that is not known', chosen([one, two], { trafficDistribution: 'PreferFar' }), '1 2: all'],
    ['none in the zone', chosen([two, three], close), '2 3: all'],
    ['none ready in the zone', chosen([endpoint('1a', { ready: false }), two], close), '1 2: all'],
    ['a host without a zone', chosen([one, two, three], close, UNKNOWN), '1 2 3: all'],
    ['hints, which count before the zones', chosen(hinted, close), '2: zone'],
    ['hints alone', chosen(hinted, {}), '2: zone'],
    ['hints of some endpoints only', chosen([...hinted, endpoint('3-')], {}), '1 2 3: all'],
    ['hints of all ready endpoints', chosen([...hinted, endpoint('3-', { ready: false })], {}), '2 3: zone'],
    ['hints for other zones only', chosen([endpoint('1a', { forZones: ['b'] })], {}), '1: all'],
    ['PreferSameNode', chosen(onNode, sameNode), '2: node'],
    ['PreferSameNode without one on the node', chosen([one, two], sameNode), '1: zone'],
    ['PreferClose looks at no node', chosen(onNode, close), '1: zone'],
    ['another cluster, whose Service asks', chosen([one, two], { ...close, isOwn: false }), '1 2: all'],
    ['another cluster, whose hints ask', chosen(hinted, { isOwn: false }), '1 2: all'],
    ['another cluster, and the policy asks', chosen([one, two], { isOwn: false, sameZone: true }), '1: zone'],
    [
      'another cluster with PreferSameNode, and the policy asks for the zone',
      chosen(onNode, { ...sameNode, isOwn: false, sameZone: true }),
      '1: zone'
    ]
  ]
  for (const [what, is, wanted] of rows) it(`${what}: ${wanted}`, () => assert.equal(is, wanted))

  it('counts all endpoints where a port has none in the zone', () => {
    const service = view([slice([one, two]), slice([two], { name: 'web-2', ports: ['admin'] })])
    const near = chooseNear(service, { place: HERE, families: [4], wish: { ...OWN, ...close } })
    assert.equal(near.nearness, 'all')
  })

  it('counts all endpoints where a family has none in the zone', () => {
    const six = { ...two, addresses: ['fd00::2' as Ip] as const }
    const both = [slice([one, two]), slice([six], { name: 'web-6' })]
    const near = (families: readonly (4 | 6)[]) =>
      chooseNear(view(both), { place: HERE, families, wish: { ...OWN, ...close } }).nearness
    assert.equal(near([4, 6]), 'all')
    assert.equal(near([4]), 'zone')
  })

  it('keeps the same object for the same service and place, and follows another place', () => {
    const service = view([slice([one, two])], close)
    assert.equal(nearView(service, HERE), nearView(service, HERE))
    const other = nearView(service, { zone: 'b', node: '' })
    assert.deepEqual(other.slices[0]?.endpoints, [two])
    const plain = view([slice([one, two])])
    assert.equal(nearView(plain, HERE), plain)
  })
})

describe('near endpoints of any service', () => {
  const zone = fc.constantFrom('a', 'b', 'c')
  const endpoints = fc.array(
    fc.record(
      {
        number: fc.integer({ min: 1, max: 40 }),
        family: fc.constantFrom(4, 6),
        state: fc.constantFrom('ready', 'leaving', 'gone'),
        node: fc.constantFrom('', 'n1', 'n2'),
        zone,
        forZones: fc.uniqueArray(zone, { minLength: 1, maxLength: 3 })
      },
      { requiredKeys: ['number', 'family', 'state', 'node'] }
    ),
    { maxLength: 8 }
  )
  const slices = fc
    .array(fc.record({ endpoints, ports: fc.subarray(['http', 'admin']) }), { maxLength: 4 })
    .map((all) =>
      all.map((each, index) =>
        slice(
          each.endpoints.map(({ number, family, state, ...more }): Endpoint => ({
            addresses: [(family === 4 ? `10.1.0.${number}` : `fd00::${number}`) as Ip],
            ready: state === 'ready',
            serving: state !== 'gone',
            terminating: state === 'leaving',
            hostname: '',
            ...more
          })),
          { name: `web-${index}`, ports: each.ports }
        )
      )
    )
  const place = fc.record({ zone: fc.constantFrom('', 'a', 'b', 'd'), node: fc.constantFrom('', 'n1') })
  const trafficDistribution = fc.constantFrom('', 'PreferClose', 'PreferSameZone', 'PreferSameNode')
  const wish = fc.record({ trafficDistribution, isOwn: fc.boolean(), sameZone: fc.boolean() })
  const ready = (all: readonly EndpointSliceValue[], port: string, family: 4 | 6): readonly Endpoint[] =>
    all
      .filter(({ ports }) => ports.some(({ name }) => name === port))
      .flatMap((each) => each.endpoints)
      .filter((each) => useOf(each, { publishNotReady: false }) === 'ready')
      .filter(({ addresses }) => addresses.some((ip) => familyOf(ip) === family))

  it('are never none while an endpoint is ready, for each port and family', () =>
    fc.assert(
      fc.property(slices, place, wish, (all, where, asks) => {
        const near = chooseNear(view(all), { place: where, families: [4, 6], wish: asks })
        for (const port of ['http', 'admin'])
          for (const family of [4, 6] as const)
            assert.equal(ready(near.slices, port, family).length > 0, ready(all, port, family).length > 0)
      })
    ))

  it('leave out nothing that is not ready, and nothing at all without a wish', () =>
    fc.assert(
      fc.property(slices, place, wish, (all, where, asks) => {
        const near = chooseNear(view(all), { place: where, families: [4, 6], wish: asks })
        const notReady = (of: readonly EndpointSliceValue[]) =>
          of.flatMap((each) =>
            each.endpoints.filter((one) => useOf(one, { publishNotReady: false }) !== 'ready')
          )
        assert.deepEqual(notReady(near.slices), notReady(all))
        const isWanted = asks.sameZone || asks.isOwn
        if (!isWanted || near.reason === undefined) assert.equal(near.slices, all)
      })
    ))

  it('are in the zone or on the node, for each port and family, or they are all', () =>
    fc.assert(
      fc.property(slices, place, wish, (all, where, asks) => {
        const near = chooseNear(view(all), { place: where, families: [4, 6], wish: asks })
        const used = near.slices.flatMap((each) => each.endpoints).filter((one) => one.ready)
        if (near.nearness === 'node') assert.ok(used.every(({ node }) => node === where.node))
        else if (near.nearness === 'zone')
          assert.ok(
            used.every(
              ({ zone: of, forZones }) => of === where.zone || forZones?.includes(where.zone) === true
            )
          )
        else assert.equal(near.slices, all)
      })
    ))

  it('give a Balancer that has followed other inputs the same list as a new one', () =>
    fc.assert(
      fc.property(
        fc.array(fc.tuple(slices, place, trafficDistribution), { minLength: 1, maxLength: 4 }),
        (steps) => {
          const old = new Balancer()
          for (const [all, where, asks] of steps) {
            const services = new Map([['shop/web', view(all, { trafficDistribution: asks })]])
            const cluster = { name: 'west' as ClusterName, services, isWithdrawn: false, place: where }
            const input = { clusters: [cluster], scheduler: 'rr', kept: [] } as const
            assert.deepEqual(old.follow(input), new Balancer().follow(input))
          }
        }
      )
    ))
})

describe('the virtual servers of a service that asks for near endpoints', () => {
  const realServers = (all: readonly EndpointSliceValue[], place = HERE): readonly string[] => {
    const near = nearView(view(all, { trafficDistribution: 'PreferSameZone' }), place)
    return serviceServers(near, 'rr').servers.flatMap(({ realServers: of }) => of.map(({ ip }) => ip))
  }

  it('fall back at once when the last endpoint of the zone goes, and return with it', () => {
    const [near, far] = [endpoint('1a'), endpoint('2b')]
    assert.deepEqual(realServers([slice([near, far])]), ['10.1.0.1'])
    assert.deepEqual(realServers([slice([far])]), ['10.1.0.2'])
    assert.deepEqual(realServers([slice([{ ...near, ready: false, terminating: true }, far])]), ['10.1.0.2'])
    assert.deepEqual(realServers([slice([near, far])]), ['10.1.0.1'])
  })

  it('use endpoints of every zone that terminate, when none is ready', () => {
    const leaving = { ready: false, serving: true, terminating: true }
    assert.deepEqual(realServers([slice([endpoint('1a', leaving), endpoint('2b', leaving)])]), [
      '10.1.0.1',
      '10.1.0.2'
    ])
  })
})
