// Which gateway carries which node: claims that hostile nodes cannot turn against others, and a choice on which all agree.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { desired, type DesiredInput } from '../../../src/core/host/desired.ts'
import type { HostState } from '../../../src/core/host/host-state.ts'
import { nodeClaims, tunnelAgents } from '../../../src/core/host/nodes.ts'
import { EMPTY_HOST } from '../../../src/core/host/normalize.ts'
import { applyOps } from '../../../src/core/host/model-host.ts'
import { plan } from '../../../src/core/host/plan.ts'
import { NO_SURROUNDINGS } from '../../../src/core/host/surroundings.ts'
import { cidrContains, cidrOverlaps, hostCidr, parseCidr, parseIp } from '../../../src/core/model/cidr.ts'
import type { Cidr, ClusterName, Ip, Origin, Role, WireguardKey } from '../../../src/core/model/values.ts'
import type { AgentView, ClusterView, MeshView, ProvedAgent } from '../../../src/core/view/view.ts'

const ip = (text: string): Ip => parseIp(text) ?? assert.fail(text)
const cidr = (text: string): Cidr => {
  const parsed = parseCidr(text)
  return parsed.kind === 'cidr' ? parsed.cidr : assert.fail(parsed.reason)
}

const agent = (origin: string, role: Role, more: Partial<ProvedAgent> = {}): AgentView => ({
  origin: origin as Origin,
  agent: {
    kind: 'agent',
    wireguardKey: `key-${origin}` as WireguardKey,
    wireguardAddresses: [],
    multiaddrs: [],
    tunnelAddress: undefined,
    node: origin,
    role,
    version: '0',
    probePort: 7,
    ...more
  }
})

const cluster = (name: string, pods: string, agents: readonly AgentView[]): ClusterView => ({
  name: name as ClusterName,
  podPrefixes: [cidr(pods)],
  servicePrefixes: [],
  agents,
  services: new Map(),
  complete: true,
  conflicts: [],
  refusals: []
})

const gateway = (origin: string, address: string, ...nodePrefixes: readonly string[]) =>
  agent(origin, 'gateway', {
    tunnelAddress: ip(address),
    ...(nodePrefixes.length === 0 ? {} : { nodePrefixes: nodePrefixes.map(cidr) })
  })
const node = (origin: string, address: string, ...nodePrefixes: readonly string[]) =>
  agent(origin, 'node', {
    tunnelAddress: ip(address),
    ...(nodePrefixes.length === 0 ? {} : { nodePrefixes: nodePrefixes.map(cidr) })
  })

const EAST = [
  gateway('e1', '10.2.0.1', '10.2.0.0/24'),
  gateway('e2', '10.2.1.1', '10.2.1.0/24'),
  node('n1', '10.2.2.1', '10.2.2.0/24'),
  node('n2', '10.2.3.1', '10.2.3.0/24')
]
const west = cluster('west', '10.1.0.0/16', [
  gateway('w1', '10.1.0.1'),
  node('m1', '10.1.7.1', '10.1.7.0/24')
])
const east = (agents: readonly AgentView[] = EAST) => cluster('east', '10.2.0.0/16', agents)

interface Given {
  readonly agents?: readonly AgentView[]
  readonly down?: readonly string[]
  readonly turn?: number
  readonly more?: Partial<DesiredInput>
}

/** The desired state of one host of the two clusters. */
function hostOf(origin: string, { agents, down = [], turn = 0, more }: Given = {}): HostState {
  const clusters = [west, east(agents)]
  const self = clusters.find((each) => each.agents.some((other) => other.origin === origin)) ?? assert.fail()
  const own = self.agents.find((other) => other.origin === origin) ?? assert.fail()
  return desired({
    view: { self: self.name, clusters: new Map(clusters.map((each) => [each.name, each])) },
    self: { origin: own.origin, cluster: self.name },
    role: own.agent.role,
    turnOf: () => turn,
    local: { publicKey: own.agent.wireguardKey, nodeAddress: own.agent.tunnelAddress, probePort: 7 },
    health: () => 'up',
    gatewayHealth: (other) => (down.includes(other) ? 'down' : 'up'),
    settings: {
      device: 'rhizome0',
      listenPort: 51820,
      mtu: 1420,
      balanceLocal: false,
      keepaliveSeconds: 15,
      scheduler: 'rr'
    },
    ...more
  })
}

/** The peer that WireGuard takes for an address: the one with the longest prefix. */
function peerFor({ peers }: HostState, address: string): string | undefined {
  const found = peers.flatMap(({ publicKey, allowedIps }) =>
    allowedIps.filter((prefix) => cidrContains(prefix, ip(address))).map((prefix) => ({ publicKey, prefix }))
  )
  const length = ({ prefix }: { prefix: Cidr }): number => Number(prefix.split('/')[1])
  return found.sort((a, b) => length(b) - length(a))[0]?.publicKey
}

const allowed = (host: HostState, origin: string): readonly Cidr[] =>
  host.peers.find(({ publicKey }) => publicKey === `key-${origin}`)?.allowedIps ?? []

describe('the nodes of a cluster', () => {
  it('gateways translate addresses of their cluster, and nodes do not', () => {
    const more = { translated: [{ real: cidr('10.2.0.0/16'), virtual: cidr('10.128.0.0/16') }] }
    assert.deepEqual(hostOf('e1', { more }).filter?.translatedPods, ['10.2.0.0/16 10.128.0.0/16'])
    assert.equal(hostOf('n1', { more }).filter?.translatedPods, undefined)
    assert.equal(hostOf('e1').filter?.translatedPods, undefined)
  })

  it('are peers of the gateways of their cluster, with their prefixes, in routes that only the tunnel uses', () => {
    const host = hostOf('e1')
    assert.deepEqual(allowed(host, 'n1'), ['10.2.2.0/24'])
    assert.deepEqual(
      host.routes.filter(({ inner }) => inner).map(({ destination }) => destination),
      ['10.2.2.0/24', '10.2.3.0/24']
    )
    assert.deepEqual(host.filter?.nodeSources, ['10.2.2.0/24', '10.2.3.0/24'])
    // Traffic of the network plugin keeps its way.
    assert.ok(
      host.routes.every(({ destination, inner }) => inner || !cidrOverlaps(destination, cidr('10.2.0.0/16')))
    )
  })

  it('are no peers of other clusters, nor of each other', () => {
    assert.deepEqual(
      hostOf('w1').peers.map(({ publicKey }) => publicKey),
      ['key-e1', 'key-e2', 'key-m1']
    )
    assert.deepEqual(
      hostOf('n1').peers.map(({ publicKey }) => publicKey),
      ['key-e1', 'key-e2']
    )
  })

  it('give each other cluster to one gateway, and probe both', () => {
    const host = hostOf('n1')
    assert.deepEqual(
      host.routes.filter(({ inner }) => inner).map(({ destination }) => destination),
      ['10.2.0.1/32', '10.2.1.1/32']
    )
    assert.equal(host.peers.filter(({ allowedIps }) => allowedIps.includes(cidr('10.1.0.0/16'))).length, 1)
    assert.ok(host.routes.some(({ destination, inner }) => destination === '10.1.0.0/16' && !inner))
  })

  it('go on to another gateway with each turn', () => {
    const carriers = [0, 1, 2].map((turn) => peerFor(hostOf('n1', { turn }), '10.1.0.9'))
    assert.notEqual(carriers[0], carriers[1])
    assert.equal(carriers[0], carriers[2])
  })

  it('without a pod prefix refuse connections at once', () => {
    const agents = [EAST[0], node('n1', '10.2.9.1')] as readonly AgentView[]
    const kinds = hostOf('n1', { agents }).routes.flatMap(({ destination, kind }) =>
      destination === '10.1.0.0/16' ? [kind] : []
    )
    assert.deepEqual(kinds, ['unreachable'])
    assert.deepEqual(allowed(hostOf('e1', { agents }), 'n1'), ['10.2.9.1/32'], 'the node itself is probed')
  })

  it('are spread over the gateways', () => {
    const many = Array.from({ length: 200 }, (_, index) =>
      node(`n${index}`, `10.2.${50 + (index % 200)}.1`, `10.2.${50 + (index % 200)}.0/24`)
    )
    const host = hostOf('w1', { agents: [...EAST.slice(0, 2), ...many] })
    const shares = ['e1', 'e2'].map((origin) => allowed(host, origin).length)
    for (const share of shares) assert.ok(share > 70, shares.join())
  })

  it('a gateway keeps what it reaches on its own links, also if a node claims it', () => {
    const agents = [gateway('e1', '10.2.0.1'), node('n1', '10.2.9.1', '10.2.8.0/22')]
    const surroundings = {
      ...NO_SURROUNDINGS,
      networks: [
        { destination: cidr('10.2.8.0/24'), device: 'cni0', onLink: true },
        { destination: cidr('10.2.9.0/24'), device: 'eth0', onLink: false }
      ]
    }
    const inner = hostOf('e1', { agents, more: { surroundings } }).routes.filter((route) => route.inner)
    assert.deepEqual(
      inner.map(({ destination, kind }) => [destination, kind]),
      [
        ['10.2.8.0/22', undefined],
        ['10.2.8.0/24', 'throw']
      ]
    )
  })

  it('have tunnels with the gateways of their cluster, and are probed by these only', () => {
    const view = (self: string): MeshView => ({
      self: self as ClusterName,
      clusters: new Map([west, east()].map((each) => [each.name, each]))
    })
    const names = (self: string, origin: string, role: Role) =>
      tunnelAgents(view(self), origin as Origin, role).map((each) => each.origin)
    assert.deepEqual(names('east', 'e1', 'gateway'), ['n1', 'n2', 'w1'])
    assert.deepEqual(names('east', 'n1', 'node'), ['e1', 'e2', 'w1'])
    assert.deepEqual(names('west', 'w1', 'gateway'), ['m1', 'e1', 'e2'])
  })

  it('a role that changes is cleaned by an ordinary plan', () => {
    const asGateway = EAST.map((each) =>
      each.origin === 'n1' ? gateway('n1', '10.2.2.1', '10.2.2.0/24') : each
    )
    for (const origin of ['n1', 'e1', 'w1']) {
      const [before, after] = [hostOf(origin), hostOf(origin, { agents: asGateway })]
      assert.deepEqual(applyOps(before, plan(after, before)), after)
      assert.deepEqual(applyOps(after, plan(before, after)), before)
      assert.ok(!after.routes.some(({ destination, inner }) => inner && destination === '10.2.2.0/24'))
    }
    assert.deepEqual(plan(EMPTY_HOST, hostOf('n1')).at(-1)?.kind, 'removeTunnel')
  })
})

// A few prefixes that are equal, nested or disjoint, so that claims clash often.
const PREFIXES = [
  '10.2.0.0/16',
  '10.2.0.0/22',
  '10.2.0.0/24',
  '10.2.1.0/24',
  '10.2.2.0/24',
  '10.2.2.128/25'
].map(cidr)
const ADDRESSES = ['10.2.0.1', '10.2.1.1', '10.2.2.1', '10.2.2.200', '10.2.9.1'].map(ip)
const agents = fc
  .array(
    fc.record({
      role: fc.constantFrom<Role>('gateway', 'node'),
      tunnelAddress: fc.option(fc.constantFrom(...ADDRESSES), { nil: undefined }),
      nodePrefixes: fc.subarray(PREFIXES)
    }),
    { minLength: 1, maxLength: 7 }
  )
  .map((list) =>
    list.map(({ role, tunnelAddress, nodePrefixes }, index) =>
      agent(`a${index}`, role, { tunnelAddress, ...(nodePrefixes.length > 0 && { nodePrefixes }) })
    )
  )
const states = fc.array(fc.constantFrom('a0', 'a1', 'a2', 'a3', 'a4', 'a5', 'a6'))

describe('the claims of nodes', () => {
  it('take nothing that another agent of the cluster has', () => {
    fc.assert(
      fc.property(agents, (list) => {
        const claims = nodeClaims(east(list))
        const gateways = list.filter((each) => each.agent.role === 'gateway')
        const others = gateways.flatMap((each) => [
          ...(each.agent.nodePrefixes ?? []),
          ...(each.agent.tunnelAddress === undefined ? [] : [hostCidr(each.agent.tunnelAddress)])
        ])
        const all = claims.flatMap(({ sources }) => sources)
        for (const [index, prefix] of all.entries()) {
          assert.ok(!others.some((other) => cidrOverlaps(other, prefix)), `${prefix} of a gateway`)
          assert.ok(!all.some((other, at) => at !== index && cidrOverlaps(other, prefix)), `${prefix} twice`)
        }
        // The order in which the agents became known decides nothing.
        const sorted = (of: ReturnType<typeof nodeClaims>) =>
          of.map((each) => [each.node.origin, each.sources] as const)
        assert.deepEqual(sorted(nodeClaims(east(list.toReversed()))), sorted(claims))
      })
    )
  })

  it('lead all hosts to one choice: what leaves by a gateway comes back by it', () => {
    fc.assert(
      fc.property(agents, states, (list, down) => {
        for (const { node: of, pods } of nodeClaims(east(list))) {
          if (pods.length === 0) continue
          const [here, there] = [
            hostOf(of.origin, { agents: list, down }),
            hostOf('w1', { agents: list, down })
          ]
          const carrier = peerFor(here, '10.1.0.9')
          for (const prefix of pods) assert.equal(peerFor(there, prefix.split('/')[0] ?? ''), carrier)
          // And the carrier knows the node as the only peer with its pods.
          const by = list.find((each) => each.agent.wireguardKey === carrier)
          if (by === undefined) continue
          const middle = hostOf(by.origin, { agents: list, down })
          for (const prefix of pods)
            assert.equal(peerFor(middle, prefix.split('/')[0] ?? ''), of.agent.wireguardKey)
        }
      }),
      { numRuns: 300 }
    )
  })

  it('give each prefix one owner on every host, and every plan leads there', () => {
    fc.assert(
      fc.property(agents, states, agents, (list, down, later) => {
        for (const origin of ['w1', 'm1', ...list.map((each) => each.origin)]) {
          const host = hostOf(origin, { agents: list, down })
          const owned = host.peers.flatMap(({ allowedIps }) => allowedIps)
          assert.equal(new Set(owned).size, owned.length)
          assert.deepEqual(applyOps(EMPTY_HOST, plan(host, EMPTY_HOST)), host)
          if (!later.some((each) => each.origin === origin)) continue
          const next = hostOf(origin, { agents: later, down })
          assert.deepEqual(applyOps(host, plan(next, host)).routes, next.routes)
        }
      }),
      { numRuns: 60 }
    )
  })
})
