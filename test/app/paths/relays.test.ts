// Three agents in one process, whose control connections carry frames of relays: west and east are not connected to each
// other, and edge relays between them. A socket plays the WireGuard of each end.
import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { originOf } from '../../../src/core/model/identity.ts'
import { askFrame, deliverFrame, keyTextOf, readyFrame } from '../../../src/core/host/relay-frame.ts'
import type { ClusterName, Origin, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import type { NewEvent } from '../../../src/app/control/events.ts'
import type { Control } from '../../../src/app/control/control.ts'
import { TunnelPaths } from '../../../src/app/paths/tunnel-paths.ts'
import { eventually } from '../../eventually.ts'

const NAMES = ['west', 'east', 'edge'] as const
type Name = (typeof NAMES)[number]
const origins = Object.fromEntries(
  NAMES.map((name, index) => [name, originOf(new Uint8Array(32).fill(index + 1))])
) as Record<Name, Origin>
const nameOf = (origin: Origin) => NAMES.find((name) => origins[name] === origin)
const peerOf = (name: Name) => ({
  origin: origins[name],
  cluster: name as string as ClusterName,
  node: `${name}-gw`,
  key: `key of ${name}` as WireguardKey,
  addresses: ['203.0.113.12:51820' as PeerAddress]
})
const SILENT = { lastAnswerMs: undefined, unanswered: 9, isProbed: true }
const DATA = Uint8Array.from({ length: 96 }, (_, index) => (index === 0 ? 4 : 0))
const OFFERED = [{ origin: origins.edge, cluster: 'edge' as ClusterName, node: 'edge-gw' }]

interface Agent {
  readonly paths: TunnelPaths
  readonly wireguard: Socket
  readonly heard: { readonly bytes: number; readonly from: string }[]
  readonly events: NewEvent[]
  readonly counts: Map<string, number>
}

describe('tunnels over a relay', () => {
  let agents: Record<Name, Agent>
  let secondsMs: number

  const agent = async (name: Name): Promise<Agent> => {
    const wireguard = createSocket('udp4')
    const heard: Agent['heard'] = []
    wireguard.on('message', (bytes, { address, port }) =>
      heard.push({ bytes: bytes.length, from: `${address}:${port}` })
    )
    wireguard.bind(0, '127.0.0.1')
    await once(wireguard, 'listening')
    const events: NewEvent[] = []
    const counts: Agent['counts'] = new Map()
    const isLinked = (other: Origin) =>
      nameOf(other) !== undefined && (name === 'edge') !== (other === origins.edge)
    const control = {
      origin: origins[name],
      neighbour: (other: Origin) => (isLinked(other) ? { rttMs: 3, heardMs: secondsMs } : undefined),
      members: { agentOf: (other: Origin) => nameOf(other) && { cluster: nameOf(other) } },
      events: { add: (event: NewEvent) => events.push(event) },
      transport: {
        sendDatagram: () => 'closed',
        sendRelayed(other: Origin, frame: Uint8Array) {
          const to = nameOf(other)
          if (to === undefined || !isLinked(other)) return 'closed'
          agents[to].paths.relays.received(origins[name], frame)
          return 'sent'
        }
      }
    }
    const paths = new TunnelPaths({
      control: control as unknown as Control,
      metrics: {
        pathDatagrams: {
          inc({ path, direction, result }: Record<string, string>, more: number) {
            const key = `${path} ${direction} ${result}`
            counts.set(key, (counts.get(key) ?? 0) + more)
          }
        }
      } as never,
      log: { warn: () => undefined },
      wireguardPort: wireguard.address().port,
      rate: 8,
      relayRate: name === 'edge' ? 8 : 0,
      keepaliveSeconds: 25,
      onAddress: () => undefined,
      onWanted: () => undefined
    })
    return { paths, wireguard, heard, events, counts }
  }

  beforeEach(async () => {
    // Frames are taken by the real clock, so the looks begin before it and end after it.
    secondsMs = performance.now() - 4_500
    const [west, east, edge] = await Promise.all([agent('west'), agent('east'), agent('edge')])
    agents = { west, east, edge }
  })
  afterEach(() => {
    for (const { paths, wireguard } of Object.values(agents)) {
      paths.stop()
      wireguard.close()
    }
  })

  const look = (name: Name, others: readonly Name[], relays = OFFERED, stats: readonly object[] = []) =>
    agents[name].paths.update({
      nowMs: secondsMs,
      peers: others.map(peerOf),
      relays,
      stats: stats as never,
      answers: () => SILENT
    })
  /** Both ends look once a second, on a clock that runs ahead. */
  const looks = (seconds: number, relays = OFFERED) => {
    for (let second = 0; second < seconds; second++) {
      look('west', ['east'], relays)
      look('east', ['west'], relays)
      look('edge', [])
      secondsMs += 1000
    }
  }

  it('carry the datagrams of both WireGuards, say the relay, and are told at both ends and at the relay', async () => {
    looks(8)
    const { west, east, edge } = agents
    assert.equal(west.paths.of(origins.east)?.path, 'relay:edge')
    assert.equal(east.paths.of(origins.west)?.path, 'relay:edge')
    await eventually(() => west.paths.address(origins.east) !== undefined)
    const [host, port] = west.paths.address(origins.east)?.split(':') ?? []
    west.wireguard.send(DATA, Number(port), host)
    await eventually(() => east.heard.length === 1)
    assert.equal(east.heard[0]?.bytes, DATA.length)
    look('west', ['east'])
    look('edge', [])
    assert.equal(west.counts.get('relay out carried'), 1)
    assert.equal(edge.counts.get('relayed out carried'), 1)
    assert.match(west.events.find(({ kind }) => kind === 'path')?.reason ?? '', /^relay:edge: neither UDP/)
    assert.match(
      edge.events[0]?.reason ?? '',
      /begins to relay the tunnel between clusters (west and east|east and west)/
    )
    assert.equal(edge.paths.relays.pairs().length, 1)
  })

  it('are not made over an agent that does not offer it, although it says that it is ready', () => {
    looks(8, [])
    const key = keyTextOf(origins.east)
    assert.ok(key)
    agents.west.paths.relays.received(origins.edge, readyFrame(key, 1))
    look('west', ['east'], [])
    assert.equal(agents.west.paths.of(origins.east)?.path, 'direct')
    assert.match(
      agents.west.events.at(-1)?.reason ?? '',
      /^relay frame refused because it is ready for a tunnel/
    )
  })

  it('take nothing from a relay that was not asked', async () => {
    look('west', ['east'])
    const key = keyTextOf(origins.east)
    assert.ok(key)
    const { west } = agents
    west.paths.relays.received(origins.edge, deliverFrame(key, DATA))
    assert.match(west.events.at(-1)?.reason ?? '', /^relay frame refused because it delivers datagrams/)
    look('west', ['east'])
    assert.equal(west.counts.get('relayed in refused'), 1)
  })

  it('block a relay that delivers the datagrams of another tunnel, and not the member in whose name it does', async () => {
    looks(8)
    const { west } = agents
    const key = keyTextOf(origins.east)
    assert.ok(key)
    west.paths.relays.received(origins.edge, deliverFrame(key, DATA))
    await eventually(() => west.heard.length === 1)
    secondsMs = performance.now()
    // WireGuard has heard a valid packet of another member by the socket of east.
    const stats = [
      {
        publicKey: 'key of edge',
        peerAddress: west.heard[0]?.from,
        lastHandshakeMs: 0,
        rxBytes: 0,
        txBytes: 0
      }
    ]
    look('west', ['east', 'edge'], OFFERED, stats)
    const refused = west.events.filter(({ kind }) => kind === 'refused')
    assert.deepEqual(
      refused.map(({ peer, reason }) => [nameOf(peer), reason]),
      [
        [
          'edge',
          'relay frame refused because it delivers the datagrams of another tunnel as those of east-gw'
        ]
      ]
    )
    west.paths.relays.received(origins.edge, deliverFrame(key, DATA))
    assert.equal(west.events.filter(({ kind }) => kind === 'refused').length, 2)
    assert.equal(west.heard.length, 1)
  })

  it('are relayed for neighbours that stand only, and for nobody where the setting is 0', () => {
    const key = keyTextOf(origins.east)
    assert.ok(key)
    agents.edge.paths.relays.received(originOf(new Uint8Array(32).fill(9)), askFrame(key))
    agents.west.paths.relays.received(origins.edge, askFrame(key))
    for (const name of ['edge', 'west'] as const)
      assert.match(agents[name].events.at(-1)?.reason ?? '', /^relay frame refused because it asks an agent/)
  })
})
