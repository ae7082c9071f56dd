import assert from 'node:assert/strict'
import fc from 'fast-check'
import { createNames } from '../../../src/core/dns/names.ts'
import { desired } from '../../../src/core/host/desired.ts'
import type { TunnelState } from '../../../src/core/host/tunnel-state.ts'
import { createTranslation, NO_TRANSLATION } from '../../../src/core/model/translation.ts'
import type { ClusterName, Ip, Origin, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import type { AgentView, MeshView } from '../../../src/core/view/view.ts'
import { explain } from '../../../src/core/why/explain.ts'
import { parseAsked } from '../../../src/core/why/question.ts'
import type { ProgrammedFacts, Stop, WhyFacts } from '../../../src/core/why/stop.ts'
import { cluster, endpoint, meshOf, port, service, slice } from '../dns/fixtures.ts'

/* oxlint-disable typescript/no-unsafe-type-assertion -- brands of values that the tests spell right */
const HTTP = [port('http', 80)]
const BEHIND = [port('http', 8080)]
const WEST = 'west' as ClusterName
const KEY = 'd2VzdA==' as WireguardKey

function mesh(): MeshView {
  const gateway: AgentView = {
    origin: '12D3west' as Origin,
    agent: {
      kind: 'agent',
      role: 'gateway',
      node: 'west-1',
      wireguardKey: KEY,
      wireguardAddresses: ['192.0.2.9:51820' as PeerAddress],
      multiaddrs: [],
      version: '1'
    } as unknown as AgentView['agent']
  }
  const west = cluster('west', {
    services: [
      service(
        'shop/web',
        ['10.12.0.1'],
        { ports: HTTP },
        slice([endpoint('10.11.0.5'), endpoint('10.11.0.6')], BEHIND)
      ),
      service('shop/two', ['10.12.0.2'], { ports: [port('a', 80), port('b', 53, 'UDP')] }),
      service(
        'shop/cold',
        ['10.12.0.3'],
        { ports: HTTP },
        slice([{ ...endpoint('10.11.0.9'), ready: false, serving: false }], BEHIND)
      ),
      service('shop/only-west', ['10.12.0.4'], { ports: HTTP }, slice([endpoint('10.11.0.7')], BEHIND))
    ]
  })
  const east = cluster('east', { services: [service('shop/web', ['10.2.0.1'], { ports: HTTP })] })
  return meshOf(east, { ...west, agents: [gateway] })
}

interface World {
  readonly view?: MeshView
  readonly tunnel?: TunnelState
  readonly host?: Partial<ProgrammedFacts> | { readonly off: string }
  readonly faults?: WhyFacts['faults']
  readonly translation?: WhyFacts['translation']
}

function factsOf({
  view = mesh(),
  tunnel = { state: 'up' },
  host = {},
  faults = [],
  translation = NO_TRANSLATION
}: World): WhyFacts {
  const withdrawn = new Set(tunnel.state === 'down' ? [WEST] : [])
  return {
    view,
    translation,
    names: createNames({ view, withdrawn: (name) => withdrawn.has(name) }),
    withdrawn,
    tunnel: () => tunnel,
    host: 'off' in host ? host : { ...programmed(view, withdrawn), ...host },
    balancesOwn: false,
    faults
  }
}

function programmed(view: MeshView, withdrawn: ReadonlySet<ClusterName> = new Set()): ProgrammedFacts {
  const have = desired({
    view,
    self: { origin: '12D3east' as Origin, cluster: 'east' as ClusterName },
    local: { publicKey: 'ZWFzdA==' as WireguardKey },
    health: (name) => (withdrawn.has(name) ? 'withdrawn' : 'up'),
    settings: {
      device: 'mesh0',
      listenPort: 51820,
      mtu: 1420,
      balanceLocal: false,
      keepaliveSeconds: 25,
      scheduler: 'rr'
    }
  })
  return { have, whyMissing: () => 'it is under way', overlap: () => undefined, loadBalancer: 'nftables' }
}

function stopsOf(target: string, world: World = {}, from?: string): readonly Stop[] {
  const asked = parseAsked(target)
  assert.ok(asked.kind !== 'invalid')
  const { stops, ways } = explain(asked, from as Ip | undefined, factsOf(world))
  return [...stops, ...ways.flatMap((way) => way.stops)]
}

function end(target: string, world: World = {}, from?: string): Stop {
  const stop = stopsOf(target, world, from).find(({ state }) => state === 'fault')
  assert.ok(stop, 'no stop is a fault')
  return stop
}

describe('why a connection passes', () => {
  it('names every stop from the name to the route', () => {
    const stops = stopsOf('web.shop.svc.cluster.west:80', {}, '10.1.0.7')
    assert.deepEqual(
      stops.map(({ stop, state }) => `${stop} ${state}`),
      ['name', 'source', 'prefix', 'service', 'port', 'endpoints', 'balancer', 'tunnel', 'route'].map(
        (stop) => `${stop} ok`
      )
    )
    assert.match(
      stops.find(({ stop }) => stop === 'endpoints')?.text ?? '',
      /10\.11\.0\.5:8080, 10\.11\.0\.6:8080/
    )
  })

  it('takes TCP where a port has both protocols and none is named', () => {
    const both = [port('dns', 53, 'UDP'), port('dns-tcp', 53, 'TCP')]
    const dns = service('shop/dns', ['10.12.0.9'], { ports: both }, slice([endpoint('10.11.0.5')], both))
    const view = meshOf(cluster('west', { services: [dns] }))
    for (const [target, says] of [
      ['10.12.0.9:53', /port 53 TCP/],
      ['10.12.0.9', /this answer is about port 53 TCP/],
      ['10.12.0.9:53/udp', /port 53 UDP/]
    ] as const)
      assert.match(stopsOf(target, { view }).find(({ stop }) => stop === 'port')?.text ?? '', says)
  })

  it('names the gateway of the own cluster that carries the packets of a node', () => {
    const { have } = programmed(mesh())
    const view = mesh()
    const near = {
      origin: '12D3near' as Origin,
      agent: {
        role: 'gateway',
        node: 'east-1',
        wireguardKey: 'bmVhcg==',
        wireguardAddresses: [],
        multiaddrs: []
      }
    }
    const east = view.clusters.get('east' as ClusterName) ?? assert.fail()
    const clusters = new Map(view.clusters).set(east.name, {
      ...east,
      agents: [near as unknown as AgentView]
    })
    const peers = have.peers.map((peer) => ({ ...peer, publicKey: 'bmVhcg==' as WireguardKey }))
    const stops = stopsOf('10.12.0.1:80', { view: { ...view, clusters }, host: { have: { ...have, peers } } })
    assert.match(
      stops.find(({ stop }) => stop === 'tunnel')?.text ?? '',
      /gateway east-1 of this cluster carries it, and its tunnel is up/
    )
  })

  it('follows each address of a merged name', () => {
    const asked = parseAsked('web.shop.svc.cluster.all')
    assert.ok(asked.kind !== 'invalid')
    const { ways } = explain(asked, undefined, factsOf({}))
    assert.deepEqual(ways.map(({ ip }) => ip).toSorted(), ['10.12.0.1', '10.2.0.1'])
  })
})

describe('why a connection ends', () => {
  const down: TunnelState = { state: 'down', reason: 'no WireGuard handshake in 20 s' }
  const drop = {
    code: 'FORWARD_DROPPED',
    subject: '',
    severity: 'error',
    message: 'rule 3 drops it',
    fix: 'delete it'
  } as const
  const unknown = meshOf(cluster('east', {}), cluster('west', { complete: false }))
  const cases: readonly (readonly [string, string, World, Stop['stop'], RegExp, RegExp?])[] = [
    [
      'the cluster is not in the mesh',
      'web.shop.svc.cluster.wets',
      {},
      'name',
      /no cluster of this mesh is named wets/,
      /did you mean cluster\.west/
    ],
    [
      'the service is not exported',
      'wbe.shop.svc.cluster.west',
      {},
      'name',
      /exports no service shop\/wbe/,
      /did you mean shop\/web/
    ],
    [
      'another cluster has the service',
      'only-west.shop.svc.cluster.east',
      {},
      'name',
      /but west does/,
      /only-west\.shop\.svc\.cluster\.west/
    ],
    [
      'the only cluster with it is down',
      'only-west.shop.svc.cluster.all',
      { tunnel: down },
      'name',
      /only west has service shop\/only-west/,
      /meshctl peers/
    ],
    ['the name is short', 'web.shop', {}, 'name', /not the whole name/, /web\.shop\.svc\.cluster\./],
    [
      'the services are not known yet',
      'web.shop.svc.cluster.west',
      { view: unknown },
      'name',
      /SERVFAIL.*west/,
      /LAG/
    ],
    ['the address is no service', '10.12.0.99', {}, 'service', /no service with the address/],
    ['the port is not that of the service', '10.12.0.1:81', {}, 'port', /no port 81/, /80 TCP \(http\)/],
    ['the protocol is not that of the port', '10.12.0.1:80/udp', {}, 'port', /no port 80 UDP/],
    [
      'no endpoint is ready',
      'cold.shop.svc.cluster.west:80',
      {},
      'endpoints',
      /none of the 1 endpoints/,
      /kubectl -n shop/
    ],
    ['no pod is selected', '10.12.0.2:53/udp', {}, 'endpoints', /no pod matches its selector/],
    ['nothing is programmed', '10.12.0.1:80', { host: { off: 'nft is missing' } }, 'host', /nft is missing/],
    ['the tunnel is down', '10.12.0.1:80', { tunnel: down }, 'tunnel', /west-1.*no WireGuard handshake/],
    [
      'a rule of another program drops it',
      '10.12.0.1:80',
      { faults: [drop] },
      'host',
      /rule 3 drops it/,
      /delete it/
    ]
  ]
  for (const [why, target, world, stop, text, fix] of cases)
    it(`says so where ${why}`, () => {
      const ended = end(target, world)
      assert.equal(ended.stop, stop)
      assert.match(ended.text, text)
      if (fix !== undefined) assert.match(ended.fix ?? '', fix)
    })

  it('says so where the source is no pod of this cluster', () => {
    assert.equal(end('10.12.0.1:80', {}, '172.17.0.2').stop, 'source')
  })

  it('knows the addresses by which other clusters know this one', () => {
    const [real, virtual] = ['10.1.0.0/16', '10.129.0.0/16'] as never[]
    const translation = createTranslation([{ kind: 'pod', real: real as never, virtual: virtual as never }])
    const to = end('10.129.0.7:80', { translation })
    assert.equal(to.stop, 'prefix')
    assert.match(to.text, /10\.129\.0\.7 stands for 10\.1\.0\.7 of this cluster/)
    assert.match(to.fix ?? '', /use 10\.1\.0\.7/)
    const from = end('10.12.0.1:80', { translation }, '10.129.0.7')
    assert.equal(from.stop, 'source')
    assert.match(from.fix ?? '', /--from 10\.1\.0\.7/)
    const source = stopsOf('10.12.0.1:80', { translation }, '10.1.0.7').find(({ stop }) => stop === 'source')
    assert.match(source?.text ?? '', /other clusters see it as 10\.129\.0\.7/)
  })

  it('says so where the host keeps a network of its own', () => {
    const { have } = programmed(mesh())
    const own = { destination: '10.11.0.0/24' as never, source: undefined, kind: 'throw' as const }
    const ended = end('10.12.0.1:80', {
      host: {
        have: { ...have, routes: [own, ...have.routes] },
        overlap: () => 'overlaps 10.11.0.0/24 on eth0'
      }
    })
    assert.equal(ended.stop, 'route')
    assert.match(ended.text, /reaches 10\.11\.0\.0\/24 by itself.*eth0/)
  })

  it('says so where the load balancer lacks the service', () => {
    const have = { ...programmed(mesh()).have, virtualServers: [] }
    const ended = end('10.12.0.1:80', { host: { have, whyMissing: (object) => `${object} is refused` } })
    assert.equal(ended.stop, 'balancer')
    assert.match(ended.text, /10\.12\.0\.1.* is refused/)
  })

  it('ends where a needed part is gone, and only there', () => {
    const parts = fc.record({
      tunnel: fc.boolean(),
      server: fc.boolean(),
      route: fc.boolean(),
      peer: fc.boolean()
    })
    fc.assert(
      fc.property(parts, (has) => {
        const { have } = programmed(mesh())
        const stops = stopsOf('10.12.0.1:80', {
          tunnel: has.tunnel ? { state: 'up' } : { state: 'connecting', reason: 'waiting' },
          host: {
            have: {
              ...have,
              virtualServers: has.server ? have.virtualServers : [],
              routes: has.route ? have.routes : [],
              peers: has.peer ? have.peers : []
            }
          }
        })
        assert.equal(
          stops.every(({ state }) => state !== 'fault'),
          Object.values(has).every(Boolean)
        )
      })
    )
  })
})
