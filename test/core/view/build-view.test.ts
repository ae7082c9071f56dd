import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { ViewRecord } from '../../../src/core/view/authorise.ts'
import { createViewBuilder, type ViewInput } from '../../../src/core/view/build-view.ts'
import { cidrContains, cidrOverlaps } from '../../../src/core/model/cidr.ts'
import { encodeValue } from '../../../src/core/wire/value-codec.ts'
import {
  keyOf,
  type AgentValue,
  type Cidr,
  type ClusterName,
  type ClusterValue,
  type EndpointSliceValue,
  type ExportTo,
  type Ip,
  type Origin,
  type PeerAddress,
  type ServiceValue,
  type TunnelKey,
  type Value
} from '../../../src/core/model/values.ts'
import { SortedMap } from '../../../src/core/model/sorted-map.ts'
import { barBySeat } from '../../../src/core/trust/author/command.ts'
import { tunnelKeyOf, wireguardKeyOfEd25519 } from '../../../src/core/trust/tunnel-key.ts'
import type { MeshView } from '../../../src/core/view/view.ts'
import {
  agentOf,
  cidr,
  clusterName,
  crypto,
  EAST,
  join,
  makeMesh,
  membersOf,
  type TestAgent
} from '../trust/fixtures.ts'

const mesh = makeMesh()
const west = agentOf(mesh.founder, 'west-1')
const eastCluster = join(mesh, EAST)
const east = agentOf(eastCluster, 'east-1')
const east2 = agentOf(eastCluster, 'east-2')
const usurper = agentOf(join(mesh, EAST, 2), 'east-x')
const south = agentOf(
  join(mesh, { cluster: 'south', pods: ['10.2.128.0/17', '10.4.0.0/16'], services: ['10.104.0.0/16'] }, 3)
)

const [WEST, EAST_NAME, SOUTH] = [clusterName('west'), clusterName('east'), clusterName('south')]

function agentValue(over: Partial<AgentValue> = {}): AgentValue {
  return {
    kind: 'agent',
    tunnelKeys: [claimed(1)],
    wireguardAddresses: [],
    multiaddrs: [],
    tunnelAddress: undefined,
    node: 'n',
    role: 'gateway',
    version: '0.1.0',
    probePort: 0,
    ...over
  }
}

/** The tunnel key of a seed without its proof, which `say` adds: only then the agent is known. */
function claimed(seed: number): TunnelKey {
  return { edKey: base64(crypto.publicKeyOf(seedOf(seed))), proof: '' }
}

const seedOf = (number: number) => new Uint8Array(32).fill(number)
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')
const wireguardKey = (seed: number) => wireguardKeyOfEd25519(crypto.publicKeyOf(seedOf(seed)))

/** The tunnel key of a seed with the proof that an agent makes. */
function proved({ seed }: TestAgent, number: number): TunnelKey {
  const of = { crypto, meshId: mesh.meshId, agentKey: crypto.publicKeyOf(seed) }
  return tunnelKeyOf({ ...of, seed: seedOf(number) })
}

/** A record as the agent publishes it, with the proofs that were left open. */
function recordOf(agent: TestAgent, value: Value): ViewRecord {
  if (value.kind !== 'agent') return { key: keyOf(value), value: encodeValue(value) }
  const tunnelKeys = value.tunnelKeys.map((key) =>
    key.proof === ''
      ? ([1, 2, 3].map((seed) => proved(agent, seed)).find(({ edKey }) => edKey === key.edKey) ?? key)
      : key
  )
  return { key: 'agent', value: encodeValue({ ...value, tunnelKeys }) }
}

function claim(
  pods: readonly string[],
  services: readonly string[],
  over: Partial<ClusterValue> = {}
): ClusterValue {
  const prefixes = { podPrefixes: pods.map(cidr), servicePrefixes: services.map(cidr) }
  return { kind: 'cluster', ...prefixes, term: 1, complete: true, ...over }
}

const eastClaim = (over: Partial<ClusterValue> = {}) => claim(['10.2.0.0/16'], ['10.102.0.0/16'], over)

function service(name: string, ips: readonly string[]): ServiceValue {
  return {
    kind: 'service',
    namespace: 'shop',
    name,
    clusterIps: ips as readonly Ip[],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
    headless: ips.length === 0,
    externalName: '',
    affinitySeconds: 0,
    publishNotReady: false
  }
}

function slice(of: string, name: string, ips: readonly string[]): EndpointSliceValue {
  return {
    kind: 'endpointSlice',
    namespace: 'shop',
    name,
    service: of,
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: ips.map((ip) => ({
      addresses: [ip as Ip],
      ready: true,
      serving: true,
      terminating: false,
      hostname: '',
      node: ''
    }))
  }
}

type Said = readonly (readonly [TestAgent, readonly (Value | ViewRecord)[]])[]

function inputOf(
  said: Said,
  self: { readonly name: ClusterName; readonly agent: TestAgent } = { name: WEST, agent: west }
) {
  const records = new Map<Origin, readonly ViewRecord[]>()
  for (const [agent, values] of said) {
    const list = values.map((value) => ('kind' in value ? recordOf(agent, value) : value))
    records.set(agent.credential.origin, list)
  }
  return {
    self: self.name,
    selfOrigin: self.agent.credential.origin,
    members: membersOf(mesh, [...said.map(([agent]) => agent), self.agent]),
    origins: [...records.keys()],
    records: (origin: Origin) => records.get(origin) ?? []
  }
}

/** The view of a builder that has built none before. */
function buildView(input: ViewInput): MeshView {
  return createViewBuilder({ crypto, meshId: mesh.meshId }).build(input)
}

function clusterOf(view: MeshView, name: ClusterName) {
  const cluster = view.clusters.get(name)
  assert.ok(cluster, `no cluster ${name}`)
  return cluster
}

describe('view', () => {
  it('shows what a cluster announces within its prefixes, and the own cluster beside it', () => {
    const web = service('web', ['10.102.0.10'])
    const pods = slice('web', 'web-1', ['10.2.0.1', '10.2.0.2'])
    const agent = agentValue({ tunnelAddress: '10.2.255.1' as Ip })
    const { tunnelKeys: _, ...announced } = agent
    const view = buildView(inputOf([[east, [agent, eastClaim(), web, pods]]]))
    assert.deepEqual([...view.clusters.keys()], ['east', 'west'])
    assert.deepEqual(clusterOf(view, EAST_NAME), {
      name: 'east',
      podPrefixes: ['10.2.0.0/16'],
      servicePrefixes: ['10.102.0.0/16'],
      agents: [
        { origin: east.credential.origin, agent: { ...announced, wireguardKey: wireguardKey(1) }, term: 1 }
      ],
      services: SortedMap.from([['shop/web', { service: web, slices: [pods] }]]),
      complete: true,
      conflicts: [],
      refusals: []
    })
    assert.equal(clusterOf(view, WEST).complete, false)
  })

  it('cuts a claim to the prefixes of the cluster and tells', () => {
    const wide = claim(['10.0.0.0/8', '10.9.0.0/16'], ['10.102.4.0/24'])
    const { podPrefixes, servicePrefixes, refusals } = clusterOf(
      buildView(inputOf([[east, [wide]]])),
      EAST_NAME
    )
    assert.deepEqual(podPrefixes, ['10.2.0.0/16'])
    assert.deepEqual(servicePrefixes, ['10.102.4.0/24'])
    assert.deepEqual(
      refusals.map((refusal) => refusal.reason),
      [
        'the pod prefix 10.0.0.0/8 is outside the prefixes of its cluster',
        'the pod prefix 10.9.0.0/16 is outside the prefixes of its cluster'
      ]
    )
  })

  it('refuses the objects of a namespace that the invite of their cluster does not name', () => {
    const one = agentOf(join(mesh, { ...EAST, namespaces: ['shop'] }))
    const web = service('web', ['10.102.0.10'])
    const other = { ...service('web', ['10.102.0.11']), namespace: 'bank' }
    const pods = { ...slice('web', 'web-1', ['10.2.0.1']), namespace: 'bank' }
    const cluster = clusterOf(buildView(inputOf([[one, [eastClaim(), web, other, pods]]])), EAST_NAME)
    assert.deepEqual([...cluster.services.keys()], ['shop/web'])
    assert.deepEqual(
      cluster.refusals.map(({ key, reason }) => [key, reason]),
      ['eps/bank/web-1', 'svc/bank/web'].map((key) => [
        key,
        'the invite of its cluster does not name the namespace bank'
      ])
    )
  })

  it('has a service for named clusters in the views of these only, and refuses nothing', () => {
    const pods = slice('web', 'web-1', ['10.2.0.1'])
    const seen = (exportTo: ExportTo): readonly string[] => {
      const records = [eastClaim(), { ...service('web', ['10.102.0.10']), exportTo }, pods]
      const { services, refusals } = clusterOf(buildView(inputOf([[east, records]])), EAST_NAME)
      assert.deepEqual(refusals, [])
      return [...services.keys()]
    }
    const edge = clusterName('edge')
    assert.deepEqual(seen([clusterName('west')]), ['shop/web'])
    assert.deepEqual(seen([edge]), [])
    assert.deepEqual(seen([edge, clusterName('west')]), ['shop/web'])
  })

  it('refuses an endpoint outside the pod prefixes, not its slice', () => {
    const pods = slice('web', 'web-1', ['10.2.0.1', '192.168.7.7', '10.1.0.9'])
    const view = buildView(inputOf([[east, [eastClaim(), service('web', ['10.102.0.10']), pods]]]))
    const { services, refusals } = clusterOf(view, EAST_NAME)
    assert.deepEqual(
      services.get('shop/web')?.slices[0]?.endpoints.flatMap((one) => one.addresses),
      ['10.2.0.1']
    )
    assert.deepEqual(refusals, [
      {
        origin: east.credential.origin,
        key: 'eps/shop/web-1',
        reason: '2 of 3 endpoints are outside the pod prefixes, for example 192.168.7.7'
      }
    ])
  })

  it('refuses a service whose cluster IP is another’s, and keeps the authorised IP of two', () => {
    const records = [eastClaim(), service('bad', ['10.101.0.1']), service('dual', ['10.102.0.2', 'fd00::2'])]
    const { services, refusals } = clusterOf(buildView(inputOf([[east, records]])), EAST_NAME)
    assert.deepEqual([...services.keys()], ['shop/dual'])
    assert.deepEqual(services.get('shop/dual')?.service.clusterIps, ['10.102.0.2'])
    assert.deepEqual(
      refusals.map((refusal) => refusal.key),
      ['svc/shop/bad', 'svc/shop/dual']
    )
  })

  it('keeps an agent without a tunnel address that is not its cluster’s', () => {
    const view = buildView(inputOf([[east, [eastClaim(), agentValue({ tunnelAddress: '10.1.0.1' as Ip })]]]))
    const { agents, refusals } = clusterOf(view, EAST_NAME)
    assert.deepEqual(
      agents.map(({ agent }) => agent.tunnelAddress),
      [undefined]
    )
    assert.match(refusals[0]?.reason ?? '', /tunnel address 10\.1\.0\.1 is outside the pod prefixes of east/)
  })

  it('keeps an agent without outer addresses of this host, or inside a prefix of another cluster', () => {
    const free = ['/ip4/203.0.113.7/tcp/7946', '/ip4/10.2.0.9/tcp/7946']
    const said = agentValue({
      multiaddrs: [...free, '/ip4/10.1.0.9/tcp/1', '/ip4/192.0.2.1/tcp/1'],
      wireguardAddresses: ['10.101.0.1:53', '203.0.113.7:51820'] as PeerAddress[]
    })
    const input = inputOf([[east, [eastClaim(), said]]])
    const { agents, refusals } = clusterOf(
      buildView({ ...input, hostAddresses: new Set(['192.0.2.1' as Ip]) }),
      EAST_NAME
    )
    // In a flat network the gateways of a cluster have addresses inside its own pod prefixes.
    assert.deepEqual(
      agents.map(({ agent }) => [agent.multiaddrs, agent.wireguardAddresses]),
      [[free, ['203.0.113.7:51820']]]
    )
    assert.deepEqual(
      refusals.map(({ origin, key, reason }) => [origin, key, reason]),
      [
        'are addresses of this host (/ip4/192.0.2.1/tcp/1)',
        'are inside a prefix of cluster west (/ip4/10.1.0.9/tcp/1)'
      ].map((reason) => [
        agents[0]?.origin,
        'agent',
        `${reason.includes('west') ? 2 : 1} outer addresses ${reason}`
      ])
    )
  })

  it('follows the rules for outer addresses when an address of this host comes, and keeps members that they do not affect', () => {
    const builder = createViewBuilder({ crypto, meshId: mesh.meshId })
    const said = agentValue({
      multiaddrs: ['/ip4/192.0.2.1/tcp/1', '/ip4/127.0.0.1/tcp/1'],
      wireguardAddresses: []
    })
    const input = inputOf([[east, [eastClaim(), said]]])
    const multiaddrs = (more: Partial<ViewInput>) =>
      clusterOf(builder.build({ ...input, version: () => input, ...more }), EAST_NAME).agents[0]?.agent
        .multiaddrs
    assert.deepEqual(multiaddrs({}), ['/ip4/192.0.2.1/tcp/1'])
    assert.deepEqual(multiaddrs({ hostAddresses: new Set(['192.0.2.1' as Ip]) }), [])
    assert.deepEqual(multiaddrs({ allowsLoopback: true }), said.multiaddrs)
  })

  it('keeps an agent without outer addresses to which no agent may send', () => {
    const multiaddrs = ['/ip4/203.0.113.7/tcp/7946', '/ip6/2001:db8::7/tcp/7946/p2p/x']
    const wireguardAddresses = ['203.0.113.7:51820', '[2001:db8::7]:51820'] as PeerAddress[]
    const others = [
      '/ip4/169.254.169.254/tcp/80',
      '/ip6/fe80::1/tcp/1',
      '/ip4/255.255.255.255/tcp/1',
      '/ip4/127.0.0.1/tcp/1',
      '/ip6/::ffff:7f00:1/tcp/1'
    ]
    const names = ['/dns4/metadata.internal/tcp/80', '/ip4/203.0.113.7/udp/53', '/ip4/224.0.0.1/tcp/1']
    const peers = ['169.254.169.254:53', '[ff02::1]:51820', '0.0.0.0:53'] as PeerAddress[]
    const said = agentValue({
      multiaddrs: [...others, ...multiaddrs, ...names],
      wireguardAddresses: [...peers, ...wireguardAddresses]
    })
    const { agents, refusals } = clusterOf(buildView(inputOf([[east, [eastClaim(), said]]])), EAST_NAME)
    assert.deepEqual(
      agents.map(({ agent }) => [agent.multiaddrs, agent.wireguardAddresses]),
      [[multiaddrs, wireguardAddresses]]
    )
    assert.deepEqual(
      refusals.map(({ key, reason }) => `${key}: ${reason}`),
      [`agent: 11 outer addresses are none at which other hosts reach an agent (${others[0]})`]
    )
  })

  it('keeps an agent without the prefixes of its node that are not its cluster’s', () => {
    const nodesOf = (...nodePrefixes: readonly string[]) => {
      const said = [eastClaim(), agentValue({ nodePrefixes: nodePrefixes as Cidr[] })]
      const { agents, refusals } = clusterOf(buildView(inputOf([[east, said]])), EAST_NAME)
      return [agents[0]?.agent.nodePrefixes, refusals.map(({ reason }) => reason).join()]
    }
    assert.deepEqual(nodesOf('10.2.7.0/24'), [['10.2.7.0/24'], ''])
    const reason = 'the prefix 10.1.7.0/24 of its node is outside the pod prefixes of east'
    assert.deepEqual(nodesOf('10.1.7.0/24', '10.2.7.0/24'), [['10.2.7.0/24'], reason])
    assert.deepEqual(nodesOf('10.1.7.0/24'), [undefined, reason])
    assert.match(String(nodesOf('0.0.0.0/0')[1]), /0\.0\.0\.0\/0/, 'nor one that contains them')
  })

  it('has no node in a cluster of another key, whatever the agent says', () => {
    const said = [eastClaim(), agentValue({ role: 'node', nodePrefixes: ['10.2.7.0/24' as Cidr] })]
    const view = buildView(inputOf([[east, said]]))
    assert.deepEqual(
      clusterOf(view, EAST_NAME).agents.map(({ agent }) => agent.role),
      ['node']
    )
    for (const { name, agents } of view.clusters.values())
      if (name !== EAST_NAME) assert.ok(agents.every(({ origin }) => origin !== east.credential.origin))
  })

  it('refuses what is not decodable, under another key, or of an unknown kind', () => {
    const noise: ViewRecord = { key: 'svc/shop/noise', value: new Uint8Array([255, 255]) }
    const moved: ViewRecord = { key: 'svc/shop/moved', value: encodeValue(service('web', ['10.102.0.9'])) }
    const unknown: ViewRecord = { key: 'gateway/x', value: new Uint8Array([0x7a, 0x00]) }
    const { services, refusals } = clusterOf(
      buildView(inputOf([[east, [eastClaim(), noise, moved, unknown]]])),
      EAST_NAME
    )
    assert.equal(services.size, 0)
    assert.deepEqual(
      refusals.map((refusal) => refusal.key),
      ['gateway/x', 'svc/shop/moved', 'svc/shop/noise']
    )
  })

  it('passes over an origin that is not admitted', () => {
    const said: Said = [[east, [eastClaim(), agentValue()]]]
    const unknown = { ...inputOf(said), members: membersOf(mesh, [west, east2]) }
    assert.deepEqual(clusterOf(buildView(unknown), EAST_NAME).agents, [])
    assert.equal(clusterOf(buildView(unknown), EAST_NAME).complete, false)
    const input = inputOf(said)
    const builder = createViewBuilder({ crypto, meshId: mesh.meshId })
    assert.equal(clusterOf(builder.build(input), EAST_NAME).agents.length, 1)
    const { item } = barBySeat(mesh, mesh, { target: { cluster: east.credential.clusterKey } })
    input.members.set.add(item)
    assert.deepEqual([...builder.build(input).clusters.keys()], ['west'], 'its cluster is removed')
  })

  describe('speaker', () => {
    const first = (over: Partial<ClusterValue>, name: string): Said[number] => [
      east,
      [eastClaim(over), service(name, ['10.102.0.1'])]
    ]
    const second = (over: Partial<ClusterValue>, name: string): Said[number] => [
      east2,
      [eastClaim(over), service(name, ['10.102.0.2'])]
    ]
    const shown = (...said: Said): readonly [readonly string[], boolean] => {
      const cluster = clusterOf(buildView(inputOf(said)), EAST_NAME)
      return [[...cluster.services.keys()], cluster.complete]
    }

    it('is the highest term', () => {
      assert.deepEqual(shown(first({ term: 4 }, 'old'), second({ term: 5 }, 'new')), [['shop/new'], true])
    })

    it('stays the old one until the catalogue of the new one is complete', () => {
      assert.deepEqual(shown(first({ term: 4 }, 'old'), second({ term: 5, complete: false }, 'new')), [
        ['shop/old'],
        true
      ])
    })

    it('is the highest term when none is complete, and says so', () => {
      const said = [
        first({ term: 4, complete: false }, 'old'),
        second({ term: 5, complete: false }, 'new')
      ] as const
      assert.deepEqual(shown(...said), [['shop/new'], false])
    })
  })

  describe('conflicts', () => {
    it('give an overlapping prefix to the cluster that was admitted first; the loser’s endpoints in it are refused', () => {
      const southRecords = [
        claim(['10.2.128.0/17', '10.4.0.0/16'], ['10.104.0.0/16']),
        service('web', ['10.104.0.1']),
        slice('web', 'web-1', ['10.2.128.5', '10.4.0.5'])
      ]
      const view = buildView(
        inputOf([
          [south, southRecords],
          [east, [eastClaim()]]
        ])
      )
      assert.deepEqual(clusterOf(view, EAST_NAME).podPrefixes, ['10.2.0.0/16'])
      const { podPrefixes, conflicts, services } = clusterOf(view, SOUTH)
      assert.deepEqual(podPrefixes, ['10.4.0.0/16'])
      assert.deepEqual(conflicts, [{ what: 'podPrefix', value: '10.2.128.0/17', winner: 'east' }])
      assert.deepEqual(
        services.get('shop/web')?.slices[0]?.endpoints.map((one) => one.addresses[0]),
        ['10.4.0.5']
      )
    })

    it('leave out the cluster that comes second for a name', () => {
      const view = buildView(
        inputOf([
          [usurper, [eastClaim(), agentValue()]],
          [east, [eastClaim()]]
        ])
      )
      const cluster = clusterOf(view, EAST_NAME)
      assert.deepEqual(cluster.agents, [])
      assert.deepEqual(cluster.conflicts, [{ what: 'name', value: 'east', winner: 'east' }])
    })

    it('never take the winner for the own cluster when the own name is lost', () => {
      const said: Said = [
        [usurper, [eastClaim(), agentValue()]],
        [east, [eastClaim(), agentValue(), service('web', ['10.102.0.1'])]]
      ]
      const own = clusterOf(buildView(inputOf(said, { name: EAST_NAME, agent: usurper })), EAST_NAME)
      assert.deepEqual([own.podPrefixes, own.agents, own.services.size, own.complete], [[], [], 0, false])
      assert.deepEqual(own.conflicts, [{ what: 'name', value: 'east', winner: 'east' }])
    })
  })

  describe('WireGuard keys', () => {
    it('are taken from no agent by a claim, whatever an older cluster copies of its record', () => {
      const honest = proved(south, 1)
      const negative = Buffer.from(honest.edKey, 'base64')
      negative[31] = (negative[31] ?? 0) ^ 0x80
      const claims = [
        honest,
        { ...honest, proof: proved(west, 2).proof },
        { edKey: base64(negative), proof: honest.proof },
        { edKey: base64(negative), proof: proved(west, 2).proof }
      ]
      for (const claim of claims) {
        const tunnelKeys = [proved(west, 2), claim]
        const view = buildView(
          inputOf([
            [west, [agentValue({ tunnelKeys })]],
            [south, [agentValue({ tunnelKeys: [honest] })]]
          ])
        )
        const [agent] = clusterOf(view, SOUTH).agents
        assert.deepEqual([agent?.agent.wireguardKey, agent?.clones], [wireguardKey(1), undefined])
        assert.deepEqual(clusterOf(view, WEST).agents, [])
        assert.deepEqual(
          clusterOf(view, WEST).refusals.map(({ key, reason }) => `${key}: ${reason}`),
          ['agent: tunnelKeys has a key of which the agent has not proved that it holds the seed']
        )
      }
    })

    it('that two agents have proved leave both in the view, and name them to each other', () => {
      const view = buildView(
        inputOf([
          [south, [agentValue()]],
          [east, [agentValue()]],
          [west, [agentValue({ tunnelKeys: [claimed(2)] })]]
        ])
      )
      const clones = [SOUTH, EAST_NAME, WEST].map((name) =>
        clusterOf(view, name).agents.map((each) => [each.agent.wireguardKey, each.clones])
      )
      assert.deepEqual(clones, [
        [[wireguardKey(1), [east.credential.origin]]],
        [[wireguardKey(1), [south.credential.origin]]],
        [[wireguardKey(2), undefined]]
      ])
    })
  })

  describe('properties', () => {
    const agents = [west, east, east2, usurper, south]
    const ip = fc.constantFrom(
      '10.1.0.1',
      '10.2.0.1',
      '10.2.129.1',
      '10.4.0.1',
      '10.101.0.1',
      '10.102.0.1',
      '10.104.0.1',
      '192.168.0.1',
      'fd00::1'
    )
    const prefix = fc.constantFrom(
      '10.0.0.0/8',
      '10.1.0.0/16',
      '10.2.0.0/16',
      '10.2.128.0/17',
      '10.2.129.0/24',
      '10.4.0.0/15',
      '10.101.0.0/16',
      '10.102.0.0/15',
      '10.104.0.0/24',
      'fd00::/64'
    )
    const records = fc.tuple(
      fc
        .record({ tunnel: ip, key: fc.integer({ min: 1, max: 3 }) })
        .map((one) => agentValue({ tunnelAddress: one.tunnel as Ip, tunnelKeys: [claimed(one.key)] })),
      fc
        .record({
          pods: fc.array(prefix, { maxLength: 3 }),
          services: fc.array(prefix, { maxLength: 3 }),
          term: fc.integer({ min: 1, max: 3 }),
          complete: fc.boolean()
        })
        .map(({ pods, services, term, complete }) => claim(pods, services, { term, complete })),
      fc.array(ip, { maxLength: 2 }).map((ips) => service('web', [...new Set(ips)])),
      fc.array(ip, { maxLength: 4 }).map((ips) => slice('web', 'web-1', ips)),
      fc.array(ip, { maxLength: 4 }).map((ips) => slice('web', 'web-0', ips))
    )
    const said = fc.tuple(...agents.map((agent) => records.map((list): Said[number] => [agent, list])))

    it('nothing outside the prefixes of a cluster ever appears, and no two prefixes of two clusters overlap', () => {
      fc.assert(
        fc.property(said, (list) => {
          const view = buildView(inputOf(list))
          const held: { readonly cluster: string; readonly prefix: Cidr }[] = []
          for (const cluster of view.clusters.values()) {
            const certified = [west, east, south].find((agent) => agent.credential.cluster === cluster.name)
            assert.ok(certified)
            const [pods, services] = claimedBy(certified)
            for (const one of cluster.podPrefixes) inside(one, pods)
            for (const one of cluster.servicePrefixes) inside(one, services)
            for (const { agent } of cluster.agents)
              if (agent.tunnelAddress) inside(agent.tunnelAddress, cluster.podPrefixes)
            for (const { service, slices } of cluster.services.values()) {
              for (const one of service.clusterIps) inside(one, cluster.servicePrefixes)
              for (const one of slices.flatMap((each) => each.endpoints).flatMap((each) => each.addresses))
                inside(one, cluster.podPrefixes)
            }
            for (const prefix of [...cluster.podPrefixes, ...cluster.servicePrefixes])
              held.push({ cluster: cluster.name, prefix })
          }
          for (const left of held) {
            for (const right of held) {
              if (left.cluster !== right.cluster)
                assert.ok(!cidrOverlaps(left.prefix, right.prefix), `${left.prefix} ${right.prefix}`)
            }
          }
          const present = [...view.clusters.values()].flatMap((cluster) => cluster.agents)
          for (const { origin, agent, clones = [] } of present)
            assert.deepEqual(
              clones,
              present
                .filter((other) => other.origin !== origin && other.agent.wireguardKey === agent.wireguardKey)
                .map((other) => other.origin)
                .sort()
            )
        }),
        { numRuns: 300 }
      )
    })

    it('the order of arrival, of origins and of records changes nothing', () => {
      fc.assert(
        fc.property(said, fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: 5 }), (list, order) => {
          const shuffled = order.map((index) => list[index]).filter((one) => one !== undefined)
          const backwards = shuffled.map(([agent, values]): Said[number] => [agent, values.toReversed()])
          const view = buildView(inputOf(list))
          const other = buildView(inputOf(backwards))
          assert.deepEqual(other, view)
          assert.deepEqual(flat(other), flat(view)) // maps compare without order; a reader sees the order
        }),
        { numRuns: 200 }
      )
    })

    it('a kept builder says the same as a fresh one after any change', () => {
      const builder = createViewBuilder({ crypto, meshId: mesh.meshId })
      fc.assert(
        fc.property(said, (list) => {
          const input = inputOf(list)
          assert.deepEqual(builder.build(input), buildView(input))
        }),
        { numRuns: 100 }
      )
    })
  })

  it('looks at no cluster in which nothing changed', () => {
    const builder = createViewBuilder({ crypto, meshId: mesh.meshId })
    const lists = new Map<Origin, readonly (Value | ViewRecord)[]>()
    const asked: Origin[] = []
    const members = membersOf(mesh, [west])
    const say = (agent: TestAgent, values: readonly Value[]): MeshView => {
      members.addCredential(agent.credential)
      const records = values.map((value) => recordOf(agent, value))
      lists.set(agent.credential.origin, records)
      return look()
    }
    const look = (): MeshView => {
      asked.length = 0
      const input = {
        ...inputOf([]),
        members,
        origins: [...lists.keys()],
        version: (origin: Origin) => lists.get(origin),
        records: (origin: Origin) => {
          asked.push(origin)
          return (lists.get(origin) ?? []) as ViewRecord[]
        }
      }
      const view = builder.build(input)
      const reads = [...asked]
      assert.deepEqual(view, buildView(input))
      asked.splice(0, Infinity, ...reads)
      return view
    }
    say(west, [agentValue(), claim(['10.1.0.0/16'], ['10.101.0.0/16'])])
    say(east, [agentValue({ tunnelKeys: [claimed(2)] }), eastClaim()])
    const before = say(south, [agentValue({ tunnelKeys: [claimed(3)] }), claim(['10.4.0.0/16'], [])])
    assert.deepEqual(look(), before)
    assert.deepEqual(asked, [])
    const named = say(east, [agentValue({ tunnelKeys: [claimed(2)], node: 'other' }), eastClaim()])
    assert.deepEqual([...new Set(asked)], [east.credential.origin])
    assert.equal(named.clusters.get(SOUTH), before.clusters.get(SOUTH))
    // An agent of another cluster has the same key: this cluster is another one although its records are the same.
    const taken = say(west, [agentValue({ tunnelKeys: [claimed(3)] }), claim(['10.1.0.0/16'], [])])
    assert.notEqual(taken.clusters.get(SOUTH), before.clusters.get(SOUTH))
    const ofSouth = clusterOf(taken, SOUTH).agents
    assert.deepEqual(
      ofSouth.map(({ clones }) => clones),
      [[west.credential.origin]]
    )
  })

  it('judges kept records anew when the prefixes of their cluster change', () => {
    const kept = [service('web', ['10.102.9.1']), slice('web', 'web-1', ['10.2.9.1', '10.2.1.1'])].map(
      (value) => ({
        key: keyOf(value),
        value: encodeValue(value)
      })
    )
    const builder = createViewBuilder({ crypto, meshId: mesh.meshId })
    const shown = (pods: string, services: string): readonly string[] => {
      const said: Said = [[east, [claim([pods], [services]), ...kept]]]
      const views = [...clusterOf(builder.build(inputOf(said)), EAST_NAME).services.values()]
      return views.flatMap(({ slices }) =>
        slices.flatMap((one) => one.endpoints.flatMap((each) => each.addresses))
      )
    }
    assert.deepEqual(shown('10.2.0.0/16', '10.102.0.0/16'), ['10.2.9.1', '10.2.1.1'])
    assert.deepEqual(shown('10.2.0.0/20', '10.102.0.0/16'), ['10.2.9.1', '10.2.1.1'])
    assert.deepEqual(shown('10.2.8.0/21', '10.102.0.0/16'), ['10.2.9.1'])
    assert.deepEqual(shown('10.2.8.0/21', '10.102.0.0/21'), [])
    assert.deepEqual(shown('10.2.0.0/16', '10.102.0.0/16'), ['10.2.9.1', '10.2.1.1'])
  })

  it('decodes and authorises only what changed, and keeps the rest as it was', () => {
    const count = 10_000
    const values: Value[] = [eastClaim()]
    for (let index = 0; index < count; index++) {
      const [high, low] = [index >> 8, index & 255]
      values.push(
        service(`s${index}`, [`10.102.${high}.${low}`]),
        slice(`s${index}`, `s${index}-a`, [`10.2.${high}.${low}`])
      )
    }
    const encoded = values.map((value) => ({ key: keyOf(value), value: encodeValue(value) }))
    const builder = createViewBuilder({ crypto, meshId: mesh.meshId })
    const before = clusterOf(builder.build(inputOf([[east, encoded]])), EAST_NAME)
    const changed = slice('s7', 's7-a', ['10.2.9.9'])
    const next = encoded.map((record) =>
      record.key === 'eps/shop/s7-a' ? { key: record.key, value: encodeValue(changed) } : record
    )
    const after = clusterOf(builder.build(inputOf([[east, next]])), EAST_NAME)
    // A value that was decoded again would be another object.
    const moved = [...after.services]
      .filter(([key, view]) => before.services.get(key) !== view)
      .map(([key]) => key)
    assert.deepEqual(moved, ['shop/s7'])
    assert.deepEqual(after.services.get('shop/s7')?.slices, [changed])
    assert.equal(after.podPrefixes, before.podPrefixes)
    assert.equal(after.services.size, count)
  })
})

/** The prefixes that made the agent's cluster a member, in force or not. */
function claimedBy({ credential }: TestAgent): readonly [pods: readonly Cidr[], services: readonly Cidr[]] {
  const settled = membersOf(mesh, [{ seed: new Uint8Array(32), credential }])
    .settlement()
    .get(credential.cluster)
  assert.ok(settled)
  return [settled.podPrefixes, settled.servicePrefixes]
}

function inside(inner: Cidr | Ip, prefixes: readonly Cidr[]): void {
  assert.ok(
    prefixes.some((prefix) => cidrContains(prefix, inner)),
    `${inner} is not in ${prefixes.join(', ')}`
  )
}

function flat(view: MeshView): unknown {
  return [...view.clusters].map(([name, cluster]) => [name, { ...cluster, services: [...cluster.services] }])
}
