import assert from 'node:assert/strict'
import { parseCidr, parseIp } from '../../../src/core/model/cidr.ts'
import { Balancer } from '../../../src/core/host/balance.ts'
import { desired, desiredWithin, type DesiredInput } from '../../../src/core/host/desired.ts'
import type { SourceEndpoint } from '../../../src/core/host/host-state.ts'
import { NO_SURROUNDINGS } from '../../../src/core/host/surroundings.ts'
import type {
  Cidr,
  ClusterName,
  Endpoint,
  EndpointSliceValue,
  ExportTo,
  Ip,
  Origin,
  PeerAddress,
  ServiceValue,
  WireguardKey
} from '../../../src/core/model/values.ts'
import { rendezvous } from '../../../src/core/host/rendezvous.ts'
import { unionHost } from '../../../src/core/host/union.ts'
import { serviceServers } from '../../../src/core/host/virtual-servers.ts'
import { balancedServices } from '../../../src/core/view/balanced.ts'
import type { AgentView, ClusterView, ProvedAgent, ServiceView } from '../../../src/core/view/view.ts'

const ip = (text: string): Ip => parseIp(text) ?? assert.fail(text)
const cidr = (text: string): Cidr => {
  const parsed = parseCidr(text)
  return parsed.kind === 'cidr' ? parsed.cidr : assert.fail(parsed.reason)
}
const name = (text: string) => text as ClusterName
const origin = (text: string) => text as Origin
const key = (text: string) => text as WireguardKey

const agent = (id: string, more: Partial<ProvedAgent> = {}): AgentView => ({
  origin: origin(id),
  agent: {
    kind: 'agent',
    wireguardKey: key(`key-${id}`),
    wireguardAddresses: [`192.0.2.1:51820` as PeerAddress, `198.51.100.1:51820` as PeerAddress],
    multiaddrs: [],
    tunnelAddress: undefined,
    node: id,
    role: 'gateway',
    version: '0',
    probePort: 0,
    ...more
  }
})

const endpoint = (address: string, more: Partial<Endpoint> = {}): Endpoint => ({
  addresses: [ip(address)],
  ready: true,
  serving: true,
  terminating: false,
  hostname: '',
  node: '',
  ...more
})

const service = (more: Partial<ServiceValue> = {}): ServiceValue => ({
  kind: 'service',
  namespace: 'shop',
  name: 'web',
  clusterIps: [ip('10.102.0.10')],
  ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
  headless: false,
  externalName: '',
  affinitySeconds: 0,
  publishNotReady: false,
  ...more
})

const slice = (
  endpoints: readonly Endpoint[],
  more: Partial<EndpointSliceValue> = {}
): EndpointSliceValue => ({
  kind: 'endpointSlice',
  namespace: 'shop',
  name: 'web-1',
  service: 'web',
  ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
  endpoints,
  ...more
})

const cluster = (n: number, title: string, more: Partial<ClusterView> = {}): ClusterView => ({
  name: name(title),
  podPrefixes: [cidr(`10.${n}.0.0/16`)],
  servicePrefixes: [cidr(`10.10${n}.0.0/16`)],
  agents: [agent(title, { tunnelAddress: ip(`10.${n}.0.1`) })],
  services: new Map<string, ServiceView>(),
  complete: true,
  conflicts: [],
  refusals: [],
  ...more
})

const east = (view: ServiceView) => cluster(2, 'east', { services: new Map([['shop/web', view]]) })

function input(clusters: readonly ClusterView[], more: Partial<DesiredInput> = {}): DesiredInput {
  return {
    view: { self: name('west'), clusters: new Map(clusters.map((each) => [each.name, each])) },
    self: { origin: origin('west'), cluster: name('west') },
    local: { publicKey: key('key-west'), nodeAddress: ip('10.1.0.1'), probePort: 7 },
    health: () => 'up',
    settings: {
      device: 'rhizome0',
      listenPort: 51820,
      mtu: 1420,
      balanceLocal: false,
      keepaliveSeconds: 15,
      scheduler: 'rr'
    },
    ...more
  }
}

const west = cluster(1, 'west')
const web = { service: service(), slices: [slice([endpoint('10.2.0.12'), endpoint('10.2.0.11')])] }

describe('the desired host', () => {
  it('has the prefix and the virtual server of a balanced service, guarded as service prefixes are', () => {
    const view = input([west, east({ ...web, service: service({ balance: 'spread' }) })])
    const prefix = cidr('240.240.0.0/16')
    const services = balancedServices(view.view, { prefix })
    const want = desired({ ...view, balanced: { prefix, services, rttMs: () => undefined } })
    const address = services.get('shop/web')?.address
    assert.deepEqual(
      want.virtualServers.find(({ vip }) => vip === address)?.realServers,
      want.virtualServers.find(({ vip }) => vip === ip('10.102.0.10'))?.realServers
    )
    assert.ok(want.vips.some(({ destination, source }) => destination === prefix && source === '10.1.0.1'))
    assert.ok(want.filter?.guardedVips?.includes(prefix))
    const none = desired({ ...view, balanced: { prefix, services: new Map(), rttMs: () => undefined } })
    assert.deepEqual(none, desired(view))
  })

  it('refuses connections to a balanced service while no cluster with it is reached', () => {
    const view = input([west, east({ ...web, service: service({ balance: 'spread' }) })])
    const prefix = cidr('240.240.0.0/16')
    const services = balancedServices(view.view, { prefix })
    const want = desired({
      ...view,
      health: () => 'withdrawn',
      balanced: { prefix, services, rttMs: () => undefined }
    })
    const server = want.virtualServers.find(({ vip }) => vip === services.get('shop/web')?.address)
    assert.deepEqual(server?.realServers, [])
  })

  it('has the tunnel, peers, routes, VIPs, virtual servers, filter and sysctls of the other clusters', () => {
    const want = desired(input([west, east(web)]))
    assert.deepEqual(want, {
      tunnel: { device: 'rhizome0', listenPort: 51820, mtu: 1420, publicKey: 'key-west' },
      peers: [
        {
          publicKey: 'key-east',
          peerAddress: '192.0.2.1:51820',
          allowedIps: ['10.2.0.0/16'],
          keepaliveSeconds: 15
        }
      ],
      routes: [{ destination: '10.2.0.0/16', source: '10.1.0.1' }],
      vips: [{ destination: '10.102.0.0/16', source: '10.1.0.1' }],
      virtualServers: [
        {
          vip: '10.102.0.10',
          protocol: 'TCP',
          port: 80,
          scheduler: 'rr',
          affinitySeconds: 0,
          realServers: [
            { ip: '10.2.0.11', port: 8080, weight: 1 },
            { ip: '10.2.0.12', port: 8080, weight: 1 }
          ]
        }
      ],
      filter: {
        remoteSources: ['10.2.0.0/16'],
        guardedVips: ['10.102.0.0/16'],
        localDestinations: ['10.1.0.0/16'],
        probePort: 7,
        mtu: 1420
      },
      sysctls: [
        { name: 'net.ipv4.conf.rhizome0.rp_filter', value: '2' },
        { name: 'net.ipv4.ip_forward', value: '1' }
      ]
    })
  })

  it('opens the ports of exported services whose endpoint is this host, at any of its pod-side addresses, and follows them', () => {
    const surroundings = { ...NO_SURROUNDINGS, addresses: [ip('10.1.0.9'), ip('192.0.2.7')] }
    const at = (endpoints: readonly Endpoint[], ports = slice([]).ports) =>
      cluster(1, 'west', {
        services: new Map([['shop/web', { service: service(), slices: [slice(endpoints, { ports })] }]])
      })
    const node = at([endpoint('10.1.0.1'), endpoint('10.1.0.5'), endpoint('10.1.0.9', { ready: false })])
    const balancer = new Balancer()
    const open = (own: ClusterView) =>
      desiredWithin(input([own, east(web)], { surroundings }), balancer).host.filter?.hostEndpoints
    assert.deepEqual(open(node), ['10.1.0.1 TCP 8080', '10.1.0.9 TCP 8080'])
    assert.deepEqual(open(at([endpoint('10.1.0.1')], [{ name: 'dns', protocol: 'UDP', port: 53 }])), [
      '10.1.0.1 UDP 53'
    ])
    // An address outside the pod prefixes, and the pods of another cluster, open nothing.
    assert.equal(open(at([endpoint('192.0.2.7'), endpoint('10.1.0.5')])), undefined)
    const theirs = { service: service(), slices: [slice([endpoint('10.1.0.1')])] }
    assert.equal(desired(input([west, east(theirs)], { surroundings })).filter?.hostEndpoints, undefined)
  })

  it('opens all pods to all clusters, or what the settings reach and reach-clusters say', () => {
    const own = cluster(1, 'west', {
      services: new Map([['shop/web', { service: service(), slices: [slice([endpoint('10.1.0.5')])] }]])
    })
    const filter = (settings: Partial<DesiredInput['settings']>) => {
      const of = input([own, east(web), cluster(3, 'edge')])
      return desired({ ...of, settings: { ...of.settings, ...settings } }).filter
    }
    const [open, closed] = [filter({}), filter({ reach: 'services', reachClusters: ['edge', 'nowhere'] })]
    assert.deepEqual([open?.reach, open?.reachable, open?.barredSources], [undefined, undefined, undefined])
    assert.deepEqual(
      [closed?.reach, closed?.reachable, closed?.barredSources],
      ['services', ['10.1.0.5 TCP 8080'], ['10.2.0.0/16']]
    )
    // The tunnel of a barred cluster works: its prefixes are routed, and answers come in.
    assert.deepEqual(closed?.remoteSources, open?.remoteSources)
    assert.deepEqual(filter({ reachClusters: ['nowhere'] })?.barredSources, ['10.2.0.0/16', '10.3.0.0/16'])
  })

  it('opens the endpoints of a service for named clusters to their sources only', () => {
    const of = (id: string, address: string, exportTo?: ExportTo): [string, ServiceView] => [
      `shop/${id}`,
      {
        service: service({ name: id, ...(exportTo && { exportTo }) }),
        slices: [slice([endpoint(address)], { name: `${id}-1` })]
      }
    ]
    const services = new Map([
      of('web', '10.1.0.5'),
      of('pay', '10.1.0.6', [name('edge'), name('nowhere')]),
      // An endpoint that another service opens to all, and one that two limited services share.
      of('also', '10.1.0.5', [name('edge')]),
      of('bill', '10.1.0.6', [name('east')])
    ])
    const own = cluster(1, 'west', { services })
    const filter = (reach: 'pods' | 'services') => {
      const given = input([own, east(web), cluster(3, 'edge')])
      return desired({ ...given, settings: { ...given.settings, reach } }).filter
    }
    assert.deepEqual(filter('services')?.reachable, ['10.1.0.5 TCP 8080'])
    assert.deepEqual(filter('services')?.reachableFrom, [
      '10.2.0.0/16 10.1.0.6 TCP 8080',
      '10.3.0.0/16 10.1.0.6 TCP 8080'
    ])
    assert.equal(filter('pods')?.reachableFrom, undefined)
    const nested = cluster(3, 'edge', {
      podPrefixes: ['10.3.4.0/24', '10.3.0.0/16', '10.3.4.0/25'].map(cidr)
    })
    const given = input([own, east(web), nested])
    assert.deepEqual(
      desired({ ...given, settings: { ...given.settings, reach: 'services' } }).filter?.reachableFrom,
      filter('services')?.reachableFrom
    )
    // While a catalogue is not complete, what was open stays, but of overlapping sources only the wanted one.
    const host = (reachableFrom: readonly SourceEndpoint[]) => {
      const given = input([own, east(web)])
      const want = desired({ ...given, settings: { ...given.settings, reach: 'services' } })
      return { ...want, filter: want.filter && { ...want.filter, reachableFrom } }
    }
    const before = ['10.3.0.0/16 10.1.0.6 TCP 8080', '10.2.0.0/16 10.1.0.6 TCP 8080'] as const
    assert.deepEqual(unionHost(host(['10.2.0.0/17 10.1.0.6 TCP 8080']), host(before)).filter?.reachableFrom, [
      '10.2.0.0/17 10.1.0.6 TCP 8080',
      '10.3.0.0/16 10.1.0.6 TCP 8080'
    ])
  })

  it('is deeply equal for equal input in another order', () => {
    const edge = cluster(3, 'edge')
    const twice = { ...web, slices: [slice([endpoint('10.2.0.11'), endpoint('10.2.0.12')], { name: 'b' })] }
    assert.deepEqual(desired(input([west, east(web), edge])), desired(input([edge, east(twice), west])))
  })

  it('of a withdrawn cluster keeps peers and names, probes on, and refuses connections to its services and pods', () => {
    const up = desired(input([west, east(web)]))
    const gone = desired(input([west, east(web)], { health: () => 'withdrawn' }))
    assert.deepEqual(gone.virtualServers[0]?.realServers, [])
    assert.deepEqual(gone.routes, [
      { destination: '10.2.0.0/16', source: undefined, kind: 'unreachable' },
      { destination: '10.2.0.1/32', source: '10.1.0.1' }
    ])
    const rest = { virtualServers: [], routes: [] }
    assert.deepEqual({ ...gone, ...rest }, { ...up, ...rest })
  })

  it('gives the routes of a cluster the MTU of its narrowest path, and leaves the probed address the device’s', () => {
    const agents = [agent('a', { tunnelAddress: ip('10.2.0.1') }), agent('b')]
    const pathMtu = (id: string) => (id === 'a' ? 1360 : 1328)
    assert.deepEqual(desired(input([west, cluster(2, 'east', { agents })], { pathMtu })).routes, [
      { destination: '10.2.0.0/16', source: '10.1.0.1', mtu: 1328 },
      { destination: '10.2.0.1/32', source: '10.1.0.1' }
    ])
  })

  it('balances its own services only when told to', () => {
    const own = {
      ...west,
      services: new Map([['shop/web', { service: service({ clusterIps: [ip('10.101.0.10')] }), slices: [] }]])
    }
    const base = input([own])
    assert.deepEqual(desired(base).vips, [])
    const both = desired({ ...base, settings: { ...base.settings, balanceLocal: true } })
    assert.deepEqual(
      both.vips.map(({ destination }) => destination),
      ['10.101.0.0/16']
    )
    assert.equal(both.virtualServers[0]?.vip, '10.101.0.10')
  })

  it('takes endpoints by port name, and has no virtual server for headless and external services', () => {
    const ports = [
      { name: 'http', protocol: 'TCP' as const, port: 80, appProtocol: '' },
      { name: 'metrics', protocol: 'TCP' as const, port: 9090, appProtocol: '' },
      { name: 'stats', protocol: 'UDP' as const, port: 9125, appProtocol: '' }
    ]
    const slicePorts = [
      { name: 'metrics', protocol: 'TCP' as const, port: 9091 },
      { name: 'stats', protocol: 'TCP' as const, port: 1 }
    ]
    const view = {
      service: service({ ports }),
      slices: [slice([endpoint('10.2.0.11')], { ports: slicePorts })]
    }
    const services = new Map<string, ServiceView>([
      ['shop/db', { service: service({ name: 'db', clusterIps: [], headless: true }), slices: [] }],
      [
        'shop/pay',
        { service: service({ name: 'pay', clusterIps: [], externalName: 'x.example' }), slices: [] }
      ],
      ['shop/web', view]
    ])
    const { virtualServers } = desired(input([west, cluster(2, 'east', { services })]))
    assert.deepEqual(
      virtualServers.map(({ protocol, port, realServers }) => [
        protocol,
        port,
        realServers.map((real) => real.port)
      ]),
      [
        ['TCP', 80, []],
        ['TCP', 9090, [9091]],
        ['UDP', 9125, []]
      ]
    )
  })

  it('counts an endpoint once that two slices name', () => {
    const view = {
      service: service(),
      slices: [slice([endpoint('10.2.0.11')]), slice([endpoint('10.2.0.11')], { name: 'b' })]
    }
    assert.equal(desired(input([west, east(view)])).virtualServers[0]?.realServers.length, 1)
  })

  it('has no source address outside its own pod prefixes, and none of another family', () => {
    const east6 = cluster(2, 'east', { podPrefixes: [cidr('fd00:2::/64')] })
    assert.equal(desired(input([west, east6])).routes[0]?.source, undefined)
    const outside = input([west, east(web)], {
      local: { publicKey: key('k'), nodeAddress: ip('192.168.1.1') }
    })
    assert.equal(desired(outside).routes[0]?.source, undefined)
    assert.ok(
      desired(input([west, east6])).sysctls.some((each) => each.name === 'net.ipv6.conf.all.forwarding')
    )
  })

  it('with several gateways gives each prefix to one, and to the next when that one fails', () => {
    const agents = ['a', 'b', 'c'].map((id, index) => agent(id, { tunnelAddress: ip(`10.2.0.${index + 1}`) }))
    const podPrefixes = [cidr('10.2.0.0/16'), cidr('10.20.0.0/16')]
    const clusters = [west, cluster(2, 'east', { agents, podPrefixes })]
    const owner = (more: Partial<DesiredInput> = {}) =>
      desired(input(clusters, more)).peers.find((peer) => peer.allowedIps.includes(cidr('10.2.0.0/16')))
        ?.publicKey
    const want = desired(input(clusters))
    assert.equal(want.peers.length, 3)
    const all = want.peers.flatMap(({ allowedIps }) => allowedIps)
    assert.equal(all.length, new Set(all).size)
    const [first, second] = rendezvous('10.2.0.0/16', agents, (each) => each.origin)
    assert.equal(owner(), first?.agent.wireguardKey)
    const unwell = (state: 'connecting' | 'down') =>
      owner({ gatewayHealth: (id) => (id === first?.origin ? state : 'up') })
    assert.equal(unwell('down'), second?.agent.wireguardKey)
    assert.equal(unwell('connecting'), second?.agent.wireguardKey, 'nothing before its tunnel is up')
    assert.equal(owner({ gatewayHealth: () => 'connecting' }), first?.agent.wireguardKey)
    assert.equal(owner({ gatewayHealth: () => 'down' }), first?.agent.wireguardKey, 'fail static')
  })

  it('with several gateways gives each the prefix of its own node, as long as it lives or none does', () => {
    const agents = ['a', 'b'].map((id, index) =>
      agent(id, { nodePrefixes: [cidr(`10.2.${index + 1}.0/24`), cidr('10.2.9.0/24')] })
    )
    const carried = (more: Partial<DesiredInput> = {}) =>
      Object.fromEntries(
        desired(input([west, cluster(2, 'east', { agents })], more)).peers.map(
          ({ publicKey, allowedIps }) => [
            publicKey,
            allowedIps.filter((each) => each !== '10.2.0.0/16').join()
          ]
        )
      )
    const all = { 'key-a': '10.2.1.0/24,10.2.9.0/24', 'key-b': '10.2.2.0/24' }
    assert.deepEqual(carried(), all, 'one that two claim goes to one')
    const down = (id: string) => carried({ gatewayHealth: (each) => (each === id ? 'down' : 'up') })
    assert.deepEqual(down('a'), { 'key-a': '', 'key-b': '10.2.2.0/24,10.2.9.0/24' })
    assert.deepEqual(carried({ gatewayHealth: () => 'down' }), all, 'fail static')
    assert.deepEqual(
      carried({ gatewayHealth: () => 'connecting' }),
      all,
      'what no other can answer for does not wait'
    )
  })

  it('one prefix has one peer, even where nodes claim the whole cluster', () => {
    const agents = ['a', 'b'].map((id) => agent(id, { nodePrefixes: [cidr('10.2.0.0/16')] }))
    const { peers } = desired(input([west, cluster(2, 'east', { agents })]))
    assert.deepEqual(
      peers.flatMap(({ allowedIps }) => allowedIps),
      ['10.2.0.0/16']
    )
  })

  it('peers with gateways only, once per key, never with itself', () => {
    const agents = [
      agent('a'),
      agent('b', { role: 'node' }),
      agent('c', { wireguardKey: key('key-a') }),
      agent('d', { wireguardKey: key('key-west') })
    ]
    const { peers } = desired(input([west, cluster(2, 'east', { agents })]))
    assert.deepEqual(
      peers.map(({ publicKey }) => publicKey),
      ['key-a']
    )
  })

  it('gives the peer of a key that two have proved to the one that held it before', () => {
    const shared = { wireguardKey: key('key-s') }
    const clusters = [
      cluster(2, 'east', { agents: [agent('a', shared)] }),
      cluster(3, 'south', { agents: [agent('b', shared)] })
    ]
    for (const [holder, prefix] of [
      ['a', '10.2.0.0/16'],
      ['b', '10.3.0.0/16']
    ] as const) {
      const keyHolders = new Map([[key('key-s'), origin(holder)]])
      const { peers } = desired(input([west, ...clusters], { keyHolders }))
      assert.deepEqual(
        peers.map(({ allowedIps }) => allowedIps),
        [[prefix]]
      )
    }
  })

  it('leaves the address open for a peer that only dials in', () => {
    const agents = [agent('a', { wireguardAddresses: [] })]
    assert.equal(desired(input([west, cluster(2, 'east', { agents })])).peers[0]?.peerAddress, undefined)
  })
})

describe('the endpoints of a service', () => {
  const ready = endpoint('10.2.0.1')
  const leaving = endpoint('10.2.0.2', { ready: false, terminating: true })
  const dead = endpoint('10.2.0.3', { ready: false, serving: false, terminating: true })
  const starting = endpoint('10.2.0.4', { ready: false, serving: false })
  const chosen = (given: readonly Endpoint[], more: Partial<ServiceValue> = {}) => {
    const { amount, servers } = serviceServers({ service: service(more), slices: [slice(given)] }, 'rr')
    const ips = servers.flatMap(({ realServers }) => realServers.map((real) => real.ip))
    assert.equal(amount.realServers, ips.length)
    return ips
  }
  const rows = [
    { title: 'are the ready ones', given: [ready, leaving, starting], expected: ['10.2.0.1'] },
    {
      title: 'are those that serve while they terminate when none is ready',
      given: [leaving, dead, starting],
      expected: ['10.2.0.2']
    },
    { title: 'are none when none serves', given: [dead, starting], expected: [] }
  ]
  for (const { title, given, expected } of rows) it(title, () => assert.deepEqual(chosen(given), expected))

  it('are all of them when it publishes addresses that are not ready', () => {
    assert.deepEqual(chosen([ready, starting], { publishNotReady: true }), ['10.2.0.1', '10.2.0.4'])
  })
})

describe('rendezvous order', () => {
  it('moves only what belonged to the candidate that left, and spreads evenly', () => {
    const names = ['a', 'b', 'c', 'd']
    const keys = Array.from({ length: 4000 }, (_, index) => `10.${index >> 8}.${index & 255}.0/24`)
    const first = (key: string, among: readonly string[]) => rendezvous(key, among, (each) => each)[0]
    const counts = Map.groupBy(keys, (key) => first(key, names))
    for (const each of names) assert.ok(Math.abs((counts.get(each)?.length ?? 0) - 1000) < 150)
    for (const key of keys) {
      if (first(key, names) !== 'c') assert.equal(first(key, ['a', 'b', 'd']), first(key, names))
    }
  })
})
