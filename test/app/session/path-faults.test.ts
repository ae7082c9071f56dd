import assert from 'node:assert/strict'
import { clashes, farPoints } from '../../../src/app/host/obstacles.ts'
import { pathFaults, type PathFacts } from '../../../src/app/session/path-faults.ts'
import type { Tunnel } from '../../../src/app/session/tunnels.ts'
import type {
  Cidr,
  ClusterName,
  Ip,
  Origin,
  PeerAddress,
  WireguardKey
} from '../../../src/core/model/values.ts'
import { NO_SURROUNDINGS } from '../../../src/core/host/surroundings.ts'
import type { ClusterView, MeshView, ProvedAgent } from '../../../src/core/view/view.ts'

const agent = (node: string, more: Partial<ProvedAgent> = {}): ProvedAgent => ({
  kind: 'agent',
  wireguardKey: `key of ${node}` as WireguardKey,
  wireguardAddresses: ['203.0.113.12:51820' as PeerAddress],
  multiaddrs: ['/ip4/203.0.113.12/tcp/7946'],
  tunnelAddress: '10.2.0.1' as Ip,
  node,
  role: 'gateway',
  version: '0',
  probePort: 7947,
  ...more
})

const cluster = (name: string, ...agents: readonly ProvedAgent[]): ClusterView => ({
  name: name as ClusterName,
  podPrefixes: [],
  servicePrefixes: [],
  agents: agents.map((value) => ({ origin: value.node as Origin, agent: value })),
  services: new Map(),
  complete: true,
  conflicts: [],
  refusals: []
})

const viewOf = (...others: readonly ClusterView[]): MeshView => ({
  self: 'west' as ClusterName,
  clusters: new Map([cluster('west', agent('west-gw')), ...others].map((each) => [each.name, each]))
})

const tunnel = (more: Partial<Tunnel>): Tunnel => ({
  ...({ state: 'up' } as const),
  rttMs: undefined,
  medianRttMs: undefined,
  stats: undefined,
  pathMtu: undefined,
  isBelowMtu: false,
  isUnprobed: false,
  changes: 0,
  ...(more as object)
})

interface World {
  readonly view?: MeshView
  readonly down?: readonly string[]
  readonly tunnels?: Readonly<Record<string, Partial<Tunnel>>>
  readonly control?: Partial<PathFacts['control']>
  readonly hasDevice?: boolean
}

/** Everything is well, but for what is given. */
const faultsOf = ({ view, down = [], tunnels = {}, control = {}, hasDevice = true }: World) =>
  pathFaults({
    view: view ?? viewOf(cluster('east', agent('east-gw'))),
    down: new Set(down as ClusterName[]),
    tunnel: (origin) => tunnel(tunnels[origin] ?? {}),
    control: {
      isConnected: () => true,
      isHeard: control.isConnected ?? (() => true),
      liveness: () => 'alive',
      refusal: () => undefined,
      isFrozen: () => false,
      aloneMs: 0,
      ownUnheldMs: 0,
      isCloned: false,
      ...control
    },
    hasDevice,
    device: 'rhizome0',
    mtu: 1420
  })

const told = (world: World) =>
  Object.entries(faultsOf(world)).flatMap(([code, list]) =>
    list.map(({ severity, message, fix }) => ({ code, severity, message, fix }))
  )

describe('what is wrong on the way to other clusters', () => {
  it('is nothing where all is well, also in a mesh of one', () => {
    assert.deepEqual(told({}), [])
    assert.deepEqual(told({ view: viewOf(), control: { aloneMs: 1e9 } }), [])
  })

  it('blames no firewall while the tunnel device of this host is not set up', () => {
    for (const control of [{}, { aloneMs: 20_000, isConnected: () => false }]) {
      const faults = faultsOf({ down: ['east'], control, hasDevice: false })
      const [east] = faults.CLUSTER_DOWN
      assert.equal(
        east?.message,
        'cluster east is down: the tunnel device rhizome0 of this host is not set up'
      )
      for (const { fix } of [...faults.CLUSTER_DOWN, ...faults.ALL_CLUSTERS_DOWN])
        assert.match(fix, /^first correct the fault of the WireGuard device\b/)
    }
  })

  const downAnd = (control: Partial<PathFacts['control']>): World => ({
    view: viewOf(cluster('east', agent('east-gw')), cluster('edge', agent('edge-gw'))),
    down: ['east'],
    tunnels: { 'east-gw': { state: 'down', reason: '' } },
    control
  })
  const refusal = { code: 'clock', detail: 'its clock is 3 h ahead', byPeer: true, atMs: 0 }
  const isFar = (origin: Origin) => origin !== 'east-gw'
  const isRefused = (origin: Origin) => (isFar(origin) ? undefined : refusal)
  const causes: readonly [what: string, world: World, message: RegExp, fix: RegExp][] = [
    [
      'UDP is blocked and TCP is open',
      downAnd({}),
      /^cluster east is down: UDP 51820 to 203\.0\.113\.12 gets no answer; TCP control works$/,
      /let UDP 51820 pass .* both directions.*; where UDP stays blocked, set tcp-path-rate above 0 on both hosts$/
    ],
    [
      'nothing comes here, and others hear of it',
      downAnd({ isConnected: isFar }),
      /203\.0\.113\.12 answers this host neither by UDP nor by TCP$/,
      /ip route get 203\.0\.113\.12/
    ],
    [
      'no member hears of it',
      downAnd({ isConnected: isFar, liveness: () => 'dead' }),
      /answers no member/,
      /systemctl status meshd/
    ],
    [
      'its connection is open and silent, and others hear it',
      downAnd({ isHeard: isFar }),
      /203\.0\.113\.12 answers this host neither by UDP nor by TCP$/,
      /ip route get/
    ],
    [
      'its handshakes are refused',
      downAnd({ isConnected: isFar, refusal: isRefused }),
      /control connection is refused \(its clock is 3 h ahead\)/,
      /timedatectl/
    ]
  ]
  for (const [what, world, message, fix] of causes) {
    it(`names cause and fix where ${what}`, () => {
      const [fault] = faultsOf(world).CLUSTER_DOWN
      assert.match(fault?.message ?? '', message)
      assert.match(fault?.fix ?? '', fix)
      assert.equal(faultsOf(world).ALL_CLUSTERS_DOWN.length, 0)
    })
  }

  it('is critical where all other clusters are down, and first says the uplink where control is lost, too', () => {
    const world: World = { down: ['east'], tunnels: { 'east-gw': { state: 'down', reason: '' } } }
    assert.equal(faultsOf(world).ALL_CLUSTERS_DOWN[0]?.severity, 'critical')
    const lost = faultsOf({ ...world, control: { aloneMs: 20_000, isConnected: () => false } })
    assert.match(lost.ALL_CLUSTERS_DOWN[0]?.message ?? '', /no control connection/)
    assert.match(lost.ALL_CLUSTERS_DOWN[0]?.fix ?? '', /uplink/)
  })

  describe('advises what follows from the cause that is known best', () => {
    const version = { ...refusal, code: 'version', detail: 'it speaks version 9' }
    const all: readonly [what: string, control: Partial<PathFacts['control']>, fix: RegExp][] = [
      [
        'the version of the one other cluster',
        { refusal: () => version, aloneMs: 20_000 },
        /^upgrade the agent with the lower version/
      ],
      [
        'the version, beside a connection',
        { refusal: () => version },
        /^upgrade the agent with the lower version/
      ],
      ['an agent that is gone', { liveness: () => 'dead' }, /systemctl status meshd/],
      ['no answer from any member', { liveness: () => 'dead', aloneMs: 20_000 }, /uplink/]
    ]
    for (const [what, control, fix] of all)
      it(`where all clusters are down: ${what}`, () => {
        const faults = faultsOf({
          down: ['east'],
          tunnels: { 'east-gw': { state: 'down', reason: '' } },
          control: { isConnected: () => false, ...control }
        })
        assert.match(faults.ALL_CLUSTERS_DOWN[0]?.fix ?? '', fix)
        for (const each of [...faults.ALL_CLUSTERS_DOWN, ...faults.CLUSTER_DOWN])
          assert.doesNotMatch(each.fix, /UDP/)
      })

    it('where the gateways of a cluster have several causes', () => {
      const [fault] = faultsOf({
        view: viewOf(cluster('east', agent('east-a'), agent('east-b')), cluster('edge', agent('edge-gw'))),
        down: ['east'],
        control: {
          isConnected: (origin) => origin !== 'east-b',
          refusal: (origin) => (origin === 'east-b' ? version : undefined)
        }
      }).CLUSTER_DOWN
      assert.match(fault?.message ?? '', /is refused \(it speaks version 9\); UDP 51820 .* gets no answer/)
      assert.match(fault?.fix ?? '', /^upgrade the agent with the lower version/)
    })
  })

  const single: readonly [what: string, world: World, code: string, message: RegExp][] = [
    [
      'all control connections lost',
      { control: { aloneMs: 11_000 } },
      'CONTROL_LOST',
      /no control connection to any member/
    ],
    [
      'own records taken by no neighbour',
      { control: { ownUnheldMs: 61_000 } },
      'RECORDS_NOT_TAKEN',
      /no neighbour has taken/
    ],
    [
      'this agent’s state copied',
      { control: { isCloned: true } },
      'IDENTITY_CLONED',
      /two agents use the identity of this agent/
    ],
    [
      'another’s state copied',
      { control: { isFrozen: (origin) => origin === 'east-gw' } },
      'IDENTITY_CLONED',
      /identity of east-gw of cluster east/
    ],
    [
      'one tunnel key of two agents',
      {
        view: viewOf(
          ...['east', 'south'].map((name) => {
            const one = cluster(name, agent(`${name}-gw`, { wireguardKey: 'key' as WireguardKey }))
            return { ...one, agents: one.agents.map((each) => ({ ...each, clones: ['x' as Origin] })) }
          })
        )
      },
      'IDENTITY_CLONED',
      /^east-gw of cluster east and south-gw of cluster south have one tunnel key/
    ],
    [
      'a refused handshake beside a tunnel that works',
      {
        control: {
          isConnected: () => false,
          refusal: (origin) => (origin === 'east-gw' ? refusal : undefined)
        }
      },
      'HANDSHAKE_REFUSED',
      /refuses our control connection: its clock is 3 h ahead \(east-gw of cluster east\)/
    ],
    [
      'a narrow path',
      { tunnels: { 'east-gw': { pathMtu: 1328 } } },
      'PATH_MTU',
      /packets of 1328 bytes .* not 1420/
    ],
    [
      'a path below every MTU',
      { tunnels: { 'east-gw': { pathMtu: 1280, isBelowMtu: true } } },
      'PATH_MTU',
      /not even 1280 bytes/
    ],
    [
      'probes that are never answered',
      { tunnels: { 'east-gw': { state: 'connecting', reason: '', isUnprobed: true } } },
      'PROBES_UNANSWERED',
      /no probe through the tunnel is answered/
    ],
    [
      'a tunnel that goes up and down',
      { tunnels: { 'east-gw': { changes: 4 } } },
      'PATH_FLAPPING',
      /the tunnel to east-gw of cluster east flaps/
    ],
    [
      'one of two gateways down',
      {
        view: viewOf(cluster('east', agent('east-a'), agent('east-b'))),
        tunnels: { 'east-a': { state: 'down', reason: '' } }
      },
      'GATEWAY_DOWN',
      /gateway east-a of cluster east is down: UDP 51820/
    ],
    [
      'a tunnel address that is an outer address',
      { view: viewOf(cluster('east', agent('east-gw', { tunnelAddress: '203.0.113.12' as Ip }))) },
      'FLAT_TUNNEL_ADDRESS',
      /cannot be probed/
    ]
  ]
  for (const [what, world, code, message] of single) {
    it(`says of ${what}: ${code}, and nothing else`, () => {
      const all = told(world)
      assert.deepEqual(
        all.map((fault) => fault.code),
        [code]
      )
      assert.match(all[0]?.message ?? '', message)
      assert.ok((all[0]?.fix.length ?? 0) > 20)
    })
  }

  it('never puts an age into a text, since each change of a text is a line of the log', () => {
    const down = (ms: number): World => ({
      down: ['east'],
      tunnels: { 'east-gw': { state: 'down', reason: `no answer for ${ms}`, changes: ms / 10_000 } },
      control: { aloneMs: ms, ownUnheldMs: ms }
    })
    assert.deepEqual(told(down(100_000)), told(down(200_000)))
  })
})

describe('two services with one address and port', () => {
  const east = (...services: readonly (readonly [key: string, ip: string, port: number])[]) => ({
    ...cluster('east', agent('east-gw')),
    services: new Map(
      services.map(([key, ip, port]) => [
        key,
        {
          service: {
            kind: 'service' as const,
            namespace: 'shop',
            name: key,
            clusterIps: [ip as Ip],
            ports: [{ name: '', protocol: 'TCP' as const, port, appProtocol: '' }],
            headless: false,
            externalName: '',
            affinitySeconds: 0,
            publishNotReady: false
          },
          slices: []
        }
      ])
    )
  })

  it('are named, with the one that is reached; another port, address or cluster is no clash', () => {
    const [clash, ...more] = clashes(
      viewOf(
        east(
          ['b', '10.102.0.1', 80],
          ['a', '10.102.0.1', 80],
          ['c', '10.102.0.1', 81],
          ['d', '10.102.0.2', 80]
        )
      )
    )
    assert.match(clash?.message ?? '', /services a and b of cluster east .* only a is reached/)
    assert.deepEqual(more, [])
  })
})

describe('where packets of the mesh go is asked', () => {
  const east = { ...cluster('east', agent('east-gw')), podPrefixes: ['10.2.0.0/16', '10.5.0.0/16'] as Cidr[] }
  const asked = (...destinations: readonly string[]) =>
    farPoints({
      view: viewOf(east),
      down: new Set(),
      surroundings: {
        ...NO_SURROUNDINGS,
        networks: destinations.map((destination) => ({
          destination: destination as Cidr,
          device: 'eth0',
          onLink: true
        }))
      }
    }).map(({ ip }) => ip)

  it('of an address that this host does not keep out of the tunnel, as that is said as an overlap', () => {
    assert.deepEqual(asked(), ['10.2.0.1'])
    assert.deepEqual(asked('10.2.0.0/24'), ['10.5.0.0'])
    assert.deepEqual(asked('10.2.0.0/16', '10.5.0.0/24'), [])
    assert.deepEqual(asked('10.3.0.0/16'), ['10.2.0.1'])
  })
})
