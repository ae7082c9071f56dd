import assert from 'node:assert/strict'
import { Tunnels } from '../../src/app/tunnels.ts'
import type { PeerStats } from '../../src/core/host.ts'
import type { Cidr, ClusterName, Ip, Origin, WireguardKey } from '../../src/core/model.ts'
import type { AgentView, ClusterView, MeshView } from '../../src/core/view.ts'

const [WEST, EAST] = ['west' as Origin, 'east' as Origin]
const KEY = 'key of east' as WireguardKey

describe('tunnels, looked at once a second', () => {
  // What comes back from east each second, and whether the cluster is withdrawn after so many seconds.
  const rows: readonly {
    what: string
    seconds: number
    bytes: boolean
    probe: boolean
    gossip: boolean
    withdrawn: boolean
  }[] = [
    { what: 'all is well', seconds: 60, bytes: true, probe: true, gossip: true, withdrawn: false },
    { what: 'gossip is lost', seconds: 60, bytes: true, probe: true, gossip: false, withdrawn: false },
    { what: 'its agent is dead', seconds: 60, bytes: true, probe: false, gossip: false, withdrawn: false },
    { what: 'the tunnel is lost', seconds: 60, bytes: false, probe: false, gossip: true, withdrawn: false },
    { what: 'it is gone for 14 s', seconds: 14, bytes: false, probe: false, gossip: false, withdrawn: false },
    { what: 'it is gone for 17 s', seconds: 17, bytes: false, probe: false, gossip: false, withdrawn: true }
  ]
  for (const { what, seconds, bytes, probe, gossip, withdrawn } of rows) {
    it(`${what}: ${withdrawn ? 'withdrawn' : 'kept'}`, () => {
      const east = new Observed()
      for (let second = 0; second < 10; second++) east.look({ bytes: true, probe: true, gossip: true })
      for (let second = 0; second < seconds; second++) east.look({ bytes, probe, gossip })
      assert.equal(east.withdrawn, withdrawn)
    })
  }

  it('a cluster that comes back is taken back at once', () => {
    const east = new Observed()
    for (let second = 0; second < 3; second++) east.look({ bytes: true, probe: true, gossip: true })
    for (let second = 0; second < 30; second++) east.look({ bytes: false, probe: false, gossip: false })
    assert.equal(east.withdrawn, true)
    east.look({ bytes: true, probe: true, gossip: false })
    assert.equal(east.withdrawn, false)
  })

  it('a look that WireGuard does not answer proves nothing either way', () => {
    const east = new Observed()
    for (let second = 0; second < 3; second++) east.look({ bytes: true, probe: true, gossip: true })
    for (let second = 0; second < 30; second++) {
      east.look({ bytes: false, probe: false, gossip: false, answered: second % 2 === 0 })
    }
    assert.equal(east.withdrawn, true)
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
        address === answers ? { lastReplyMs: 1_000_000, rttMs: 1, unanswered: 0 } : undefined,
      silentMs: () => 0
    })
    return tunnels
  }

  it('one that has not answered yet is not preferred for a handshake from before this agent started', () => {
    const tunnels = look(viewOf(gateway(one, '10.2.0.1'), gateway(two, '10.2.0.2')), '10.2.0.2')
    assert.deepEqual([tunnels.health(one), tunnels.health(two)], ['connecting', 'up'])
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

/** East as west sees it. */
class Observed {
  readonly #tunnels = new Tunnels(25)
  #nowMs = 1_000_000
  #rxBytes = 100
  #replyMs: number | undefined
  #heardMs = 1_000_000

  look(now: { bytes: boolean; probe: boolean; gossip: boolean; answered?: boolean }): void {
    this.#nowMs += 1000
    if (now.bytes) this.#rxBytes += 92
    if (now.probe) this.#replyMs = this.#nowMs
    if (now.gossip) this.#heardMs = this.#nowMs
    const stats: PeerStats = {
      publicKey: KEY,
      peerAddress: undefined,
      lastHandshakeMs: Date.now() - 1000,
      rxBytes: this.#rxBytes,
      txBytes: 0
    }
    this.#tunnels.update({
      view: VIEW,
      stats: now.answered === false ? [] : [stats],
      nowMs: this.#nowMs,
      probe: () => ({ lastReplyMs: this.#replyMs, rttMs: undefined, unanswered: 0 }),
      silentMs: () => this.#nowMs - this.#heardMs
    })
  }

  get withdrawn(): boolean {
    return this.#tunnels.withdrawn(VIEW).has('east' as ClusterName)
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
