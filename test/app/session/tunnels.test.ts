import assert from 'node:assert/strict'
import { Tunnels } from '../../../src/app/session/tunnels.ts'
import type { PeerStats } from '../../../src/core/host/host-state.ts'
import type { Cidr, ClusterName, Ip, Origin, WireguardKey } from '../../../src/core/model/values.ts'
import type { AgentView, ClusterView, MeshView } from '../../../src/core/view/view.ts'
import type { ProbeResult } from '../../../src/io/probe/probe.ts'

const [WEST, EAST] = ['west' as Origin, 'east' as Origin]
const KEY = 'key of east' as WireguardKey

describe('tunnels, looked at once a second', () => {
  // What comes back from east each second, and whether the cluster is down after so many seconds.
  const rows: readonly (Now & { what: string; seconds: number; down: boolean })[] = [
    { what: 'all is well', seconds: 60, bytes: true, reply: true, down: false },
    { what: 'its agent is dead, its kernel refuses', seconds: 60, bytes: true, refusal: true, down: false },
    { what: 'a refusal that did not come out of the tunnel', seconds: 60, refusal: true, down: true },
    { what: 'bytes come in, and no answer', seconds: 10, bytes: true, down: true },
    { what: 'it is gone for 4 s', seconds: 4, down: false },
    { what: 'it is gone for 6 s', seconds: 6, down: true }
  ]
  for (const { what, seconds, down, ...now } of rows) {
    it(`${what}: ${down ? 'down' : 'in use'}`, () => {
      const east = new Observed()
      for (let second = 0; second < 10; second++) east.look({ bytes: true, reply: true })
      for (let second = 0; second < seconds; second++) east.look(now)
      assert.equal(east.down, down)
    })
  }

  it('a cluster that comes back is taken back at once', () => {
    const east = new Observed()
    for (let second = 0; second < 3; second++) east.look({ bytes: true, reply: true })
    for (let second = 0; second < 30; second++) east.look({})
    assert.equal(east.down, true)
    east.look({ bytes: true, reply: true })
    assert.equal(east.down, false)
  })

  it('a tunnel with two outages has four changes', () => {
    const east = new Observed()
    for (let outage = 0; outage < 2; outage++) {
      for (let second = 0; second < 3; second++) east.look({ bytes: true, reply: true })
      for (let second = 0; second < 10; second++) east.look({})
    }
    assert.equal(east.changes, 3)
    east.look({ bytes: true, reply: true })
    assert.equal(east.changes, 4)
  })

  it('a look that WireGuard does not answer proves nothing either way', () => {
    const east = new Observed()
    for (let second = 0; second < 30; second++)
      east.look({ bytes: true, reply: true, answered: second % 2 === 0 })
    assert.equal(east.down, false)
    for (let second = 0; second < 30; second++) east.look({ answered: second % 2 === 0 })
    assert.equal(east.down, true)
  })

  it('a dead agent on a host whose kernel refuses stays in use, however seldom this host can look', () => {
    for (const [stepMs, everySecond] of [
      [1000, true],
      [4500, false],
      [9000, false]
    ] as const) {
      const east = new Observed()
      for (let second = 0; second < 3; second++) east.look({ bytes: true, reply: true })
      for (let look = 0; look < 20; look++) {
        const answered = everySecond ? look % 2 === 0 : true
        // The kernel answers all the time; the look sees the bytes of it only at its end.
        east.look({ bytes: true, refusal: true, refusedAgoMs: stepMs * 0.9, answered, stepMs })
      }
      assert.equal(east.down, false, `a look every ${stepMs} ms`)
    }
  })

  it('a cluster whose gateway is not known yet is not called down right after a join', () => {
    const bare: MeshView = {
      ...VIEW,
      clusters: new Map([['east' as ClusterName, { ...clusterOf('east', EAST), agents: [] }]])
    }
    const tunnels = new Tunnels(25)
    const look = (second: number) =>
      tunnels.update({ view: bare, stats: [], nowMs: second * 1000, probe: undefined })
    look(100)
    assert.equal(tunnels.down.size, 0)
    look(115)
    assert.equal(tunnels.down.size, 0)
    look(116)
    assert.equal(tunnels.down.size, 1, 'it announces none')
  })

  it('a peer whose tunnel address is its outer address is not probed, since the answers would not come through the tunnel', () => {
    const east = clusterOf('east', EAST)
    const [member = assert.fail()] = east.agents
    const flat = { ...member, agent: { ...member.agent, multiaddrs: ['/ip4/10.2.0.1/tcp/7946'] } }
    const view = { ...VIEW, clusters: new Map([['east' as ClusterName, { ...east, agents: [flat] }]]) }
    const tunnels = new Tunnels(25)
    tunnels.update({ view, stats: [], nowMs: 1000, probe: () => assert.fail('probed') })
    assert.equal(tunnels.health(EAST), 'connecting')
  })
})

describe('gateways of one cluster', () => {
  const [one, two] = ['one' as Origin, 'two' as Origin]
  const keys = new Map([
    [one, 'key of one' as WireguardKey],
    [two, 'key of two' as WireguardKey]
  ])
  const gateway = (origin: Origin, address: string): AgentView => {
    const [found] = clusterOf('east', origin).agents
    const agent = found?.agent ?? assert.fail('no agent')
    return {
      origin,
      agent: { ...agent, wireguardKey: keys.get(origin) ?? KEY, tunnelAddress: address as Ip }
    }
  }
  const viewOf = (...agents: readonly AgentView[]): MeshView => ({
    self: 'west' as ClusterName,
    clusters: new Map([
      ['west' as ClusterName, clusterOf('west', WEST)],
      ['east' as ClusterName, { ...clusterOf('east', one), agents }]
    ])
  })
  /** Both had a handshake a moment ago; only the address that `answers` answers. */
  const look = (view: MeshView, answers: string): Tunnels => {
    const tunnels = new Tunnels(25)
    tunnels.update({
      view,
      stats: [...keys.values()].map((publicKey) => ({
        publicKey,
        peerAddress: undefined,
        lastHandshakeMs: Date.now() - 1000,
        rxBytes: 1,
        txBytes: 1
      })),
      nowMs: 1_000_000,
      probe: (address) =>
        address === answers ? { ...SILENT, lastReplyMs: 1_000_000, rttMs: 1, unanswered: 0 } : undefined
    })
    return tunnels
  }

  it('one that has not answered yet is not preferred for a handshake from before this agent started', () => {
    const tunnels = look(viewOf(gateway(one, '10.2.0.1'), gateway(two, '10.2.0.2')), '10.2.0.2')
    assert.deepEqual([tunnels.health(one), tunnels.health(two)], ['connecting', 'up'])
  })

  it('one that falls silent is the second choice, though its tunnel is up', () => {
    const view = viewOf(gateway(one, '10.2.0.1'), gateway(two, '10.2.0.2'))
    const tunnels = new Tunnels(25)
    const at = (nowMs: number, unanswered: number, lastReplyMs: number) =>
      tunnels.update({
        view,
        stats: [],
        nowMs,
        probe: (address) =>
          address === '10.2.0.1'
            ? { ...SILENT, lastReplyMs, rttMs: 1, unanswered }
            : { ...SILENT, lastReplyMs: nowMs, rttMs: 1, unanswered: 0 }
      })
    const states = () => [tunnels.health(one), tunnels.choice(one), tunnels.choice(two)]
    at(1000, 0, 1000)
    assert.deepEqual(states(), ['up', 'up', 'up'])
    at(1800, 4, 1000)
    assert.deepEqual(states(), ['up', 'silent', 'up'])
    at(2000, 0, 2000)
    assert.deepEqual(states(), ['up', 'silent', 'up'], 'not yet')
    at(4900, 0, 4900)
    assert.deepEqual(states(), ['up', 'up', 'up'])
  })

  it('with one address for two, its answers prove neither', () => {
    const tunnels = look(viewOf(gateway(one, '10.2.0.1'), gateway(two, '10.2.0.1')), '10.2.0.1')
    assert.deepEqual([tunnels.of(one)?.rttMs, tunnels.of(two)?.rttMs], [undefined, undefined])
    assert.deepEqual([tunnels.health(one), tunnels.health(two)], ['up', 'up'], 'as far as handshakes tell')
  })

  it('the other gateways of the own cluster have no tunnel that could be dead', () => {
    const fellows = {
      ...viewOf(gateway(one, '10.2.0.1'), gateway(two, '10.2.0.2')),
      self: 'east' as ClusterName
    }
    assert.equal(look(fellows, '').of(two), undefined)
  })
})

interface Now {
  readonly bytes?: boolean
  readonly reply?: boolean
  readonly refusal?: boolean
  /** By WireGuard; default true. */
  readonly answered?: boolean
  /** How long before the look the refusal came; default 0. */
  readonly refusedAgoMs?: number
  /** Since the look before; default 1000. */
  readonly stepMs?: number
}

const SILENT: ProbeResult = {
  lastReplyMs: undefined,
  lastRefusalMs: undefined,
  rttMs: undefined,
  medianRttMs: undefined,
  unanswered: 20,
  path: undefined
}

/** East as west sees it. */
class Observed {
  readonly #tunnels = new Tunnels(25)
  #nowMs = 1_000_000
  #rxBytes = 100
  #replyMs: number | undefined
  #refusalMs: number | undefined

  look({ bytes = false, reply = false, refusal = false, ...more }: Now): void {
    const { answered = true, refusedAgoMs = 0, stepMs = 1000 } = more
    this.#nowMs += stepMs
    if (bytes) this.#rxBytes += 92
    if (reply) this.#replyMs = this.#nowMs
    if (refusal) this.#refusalMs = this.#nowMs - refusedAgoMs
    const stats: PeerStats = {
      publicKey: KEY,
      peerAddress: undefined,
      lastHandshakeMs: Date.now() - 1000,
      rxBytes: this.#rxBytes,
      txBytes: 0
    }
    const result = {
      ...SILENT,
      lastReplyMs: this.#replyMs,
      lastRefusalMs: this.#refusalMs,
      unanswered: reply || refusal ? 0 : 20
    }
    this.#tunnels.update({
      view: VIEW,
      stats: answered ? [stats] : [],
      nowMs: this.#nowMs,
      probe: () => result
    })
  }

  get changes(): number | undefined {
    return this.#tunnels.of(EAST)?.changes
  }

  get down(): boolean {
    return this.#tunnels.down.has('east' as ClusterName)
  }
}

function clusterOf(name: string, origin: Origin): ClusterView {
  return {
    name: name as ClusterName,
    podPrefixes: ['10.2.0.0/16' as Cidr],
    servicePrefixes: [],
    agents: [
      {
        origin,
        agent: {
          kind: 'agent',
          wireguardKey: KEY,
          wireguardAddresses: [],
          multiaddrs: [],
          tunnelAddress: '10.2.0.1' as Ip,
          node: `${name}-gw`,
          role: 'gateway',
          version: '0',
          probePort: 7947
        }
      }
    ],
    services: new Map(),
    complete: true,
    conflicts: [],
    refusals: []
  }
}

const VIEW: MeshView = {
  self: 'west' as ClusterName,
  clusters: new Map([clusterOf('west', WEST), clusterOf('east', EAST)].map((each) => [each.name, each]))
}
