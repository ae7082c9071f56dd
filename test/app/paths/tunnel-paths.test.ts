// Which datagrams an agent carries for whom, beside a socket that plays its WireGuard.
import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import type { ClusterName, Origin, PeerAddress, WireguardKey } from '../../../src/core/model/values.ts'
import type { PeerStats } from '../../../src/core/host/host-state.ts'
import type { NewEvent } from '../../../src/app/control/events.ts'
import type { Control } from '../../../src/app/control/control.ts'
import type { PathPeer } from '../../../src/app/paths/member-path.ts'
import { TunnelPaths } from '../../../src/app/paths/tunnel-paths.ts'
import { eventually } from '../../eventually.ts'

const EAST = 'east-gw' as Origin
const EDGE = 'edge-gw' as Origin
const peerOf = (origin: Origin): PathPeer => ({
  origin,
  cluster: origin.slice(0, 4) as ClusterName,
  node: origin,
  key: `key of ${origin}` as WireguardKey,
  addresses: ['203.0.113.12:51820' as PeerAddress]
})
const SILENT = { lastAnswerMs: undefined, unanswered: 9, isProbed: true }

const datagram = (type: number, bytes: number): Uint8Array => {
  const made = new Uint8Array(bytes)
  made[0] = type
  return made
}
const DATA = datagram(4, 96)

describe('the paths of tunnels', () => {
  let wireguard: Socket
  let heard: { readonly bytes: number; readonly from: string }[]
  let paths: TunnelPaths
  let counts: Map<string, number>
  let events: NewEvent[]
  let sent: { readonly peer: Origin; readonly bytes: number }[]
  let outcome: 'sent' | 'unsupported'
  let heardMs: number
  let wanted: string[]

  beforeEach(async () => {
    heard = []
    counts = new Map()
    events = []
    sent = []
    outcome = 'sent'
    heardMs = 0
    wanted = []
    wireguard = createSocket('udp4')
    wireguard.on('message', (bytes, { address, port }) =>
      heard.push({ bytes: bytes.length, from: `${address}:${port}` })
    )
    wireguard.bind(0, '127.0.0.1')
    await once(wireguard, 'listening')
    const control = {
      neighbour: () => ({ rttMs: 1, heardMs }),
      events: { add: (event: NewEvent) => events.push(event) },
      transport: {
        sendDatagram(peer: Origin, { length }: Uint8Array) {
          if (outcome === 'sent') sent.push({ peer, bytes: length })
          return outcome
        }
      }
    }
    paths = new TunnelPaths({
      control: control as unknown as Control,
      metrics: {
        pathDatagrams: {
          inc({ direction, result }: Record<string, string>, more: number) {
            const key = `${direction} ${result}`
            counts.set(key, (counts.get(key) ?? 0) + more)
          }
        }
      } as never,
      log: { warn: () => undefined },
      wireguardPort: wireguard.address().port,
      rate: 8, // 1 MB a second, 250 KB at once
      relayRate: 0,
      keepaliveSeconds: 25,
      onAddress: () => undefined,
      onWanted: () => wanted.push([...paths.wanted].join(' '))
    })
  })
  afterEach(() => {
    paths.stop()
    wireguard.close()
  })

  /** Each second from 0 on, something comes over the control connections. */
  const look = (seconds: number, stats: readonly PeerStats[] = [], answers = SILENT) => {
    heardMs = seconds * 1000
    paths.update({
      nowMs: seconds * 1000,
      peers: [peerOf(EAST), peerOf(EDGE)],
      relays: [],
      stats,
      answers: () => answers
    })
  }
  const looks = (seconds: number) => {
    for (let second = 0; second <= seconds; second++) look(second)
  }
  const statsOf = (origin: Origin, peerAddress: string | undefined): PeerStats => ({
    publicKey: peerOf(origin).key,
    peerAddress: peerAddress as PeerAddress,
    lastHandshakeMs: 0,
    rxBytes: 0,
    txBytes: 0
  })

  it('carries datagrams of WireGuard for the members to which there is a tunnel, and counts what it drops', async () => {
    look(0)
    paths.received(EAST, DATA)
    await eventually(() => heard.length === 1)
    paths.received('stranger' as Origin, DATA)
    for (const bad of [datagram(5, 96), datagram(1, 96), new Uint8Array(0), datagram(4, 20_000)])
      paths.received(EAST, bad)
    for (let count = 0; count < 40; count++) paths.received(EDGE, datagram(1, 148))
    for (let count = 0; count < 40; count++) paths.received(EDGE, datagram(4, 9000))
    look(1)
    assert.equal(counts.get('in refused'), 1)
    assert.equal(counts.get('in malformed'), 4)
    // 10 of the 40 handshakes and 26 of the 40 large ones, and some more on a slow machine, as time passes.
    const carried = counts.get('in carried') ?? 0
    assert.ok(carried >= 1 + 10 + 26 && carried < 60, String(carried))
    assert.equal(counts.get('in rate'), 81 - carried)
    // The kernel drops some of a burst; each member has a socket of its own.
    await eventually(() => new Set(heard.map(({ from }) => from)).size === 2)
  })

  it('counts a short datagram for 1,000 bytes of the rate, as it costs no less processor time', () => {
    look(0)
    for (let count = 0; count < 2_000; count++) paths.received(EAST, datagram(4, 32))
    look(1)
    const carried = counts.get('in carried') ?? 0
    assert.ok(carried >= 250 && carried < 1_500, String(carried))
  })

  it('wants control connections for tunnels without an answer, to the other ends and to the relays of both', () => {
    const answered = { lastAnswerMs: 0, unanswered: 0, isProbed: true }
    const relay = { origin: EDGE, cluster: 'edge' as ClusterName, node: 'edge-gw' }
    const lookAt = (nowMs: number, east: typeof SILENT | typeof answered) =>
      paths.update({
        nowMs,
        peers: [peerOf(EAST), peerOf('west-gw' as Origin)],
        relays: [relay],
        stats: [],
        answers: (origin) => (origin === EAST ? east : { ...answered, lastAnswerMs: nowMs })
      })
    lookAt(0, SILENT)
    assert.deepEqual(wanted, [], 'WireGuard has just begun')
    for (const second of [2, 3]) lookAt(second * 1000, SILENT)
    assert.deepEqual(wanted, [`${EAST} ${EDGE}`], 'told once')
    lookAt(4000, { ...answered, lastAnswerMs: 4000 })
    assert.deepEqual(wanted, [`${EAST} ${EDGE}`, ''])
  })

  it('tries the next address that a member publishes, while none is answered and nothing carries the tunnel', () => {
    const [first, second] = ['198.51.100.1:51820', '192.168.1.2:51820'] as PeerAddress[]
    const peer = { ...peerOf(EAST), addresses: [first, second] as PeerAddress[] }
    const seen: (PeerAddress | undefined)[] = []
    for (let nowMs = 0; nowMs <= 12_000; nowMs += 1000) {
      paths.update({
        nowMs,
        peers: [peer],
        relays: [],
        stats: [statsOf(EAST, paths.address(EAST) ?? first)],
        answers: () => SILENT
      })
      seen.push(paths.address(EAST))
    }
    assert.deepEqual([...new Set(seen)], [undefined, second, first])
  })

  it('stays direct while nothing comes over the control connection either', () => {
    looks(2)
    const now = heardMs
    for (let second = 3; second < 60; second++) {
      paths.update({
        nowMs: second * 1000,
        peers: [peerOf(EAST)],
        relays: [],
        stats: [],
        answers: () => SILENT
      })
      assert.equal(heardMs, now)
    }
    assert.equal(paths.of(EAST)?.path, 'direct')
  })

  it('is carried while direct is silent: WireGuard gets the address of a socket, and what it sends there goes to the peer', async () => {
    look(0)
    assert.equal(paths.address(EAST), undefined)
    assert.equal(paths.of(EAST)?.path, 'direct')
    for (let second = 1; second <= 7; second++) look(second)
    await eventually(() => paths.address(EAST) !== undefined)
    assert.deepEqual(paths.of(EAST), { path: 'tcp', reason: 'UDP 51820 to 203.0.113.12 gets no answer' })
    const [host, port] = paths.address(EAST)?.split(':') ?? []
    wireguard.send(DATA, Number(port), host)
    await eventually(() => sent.length === 1)
    assert.deepEqual(sent, [{ peer: EAST, bytes: 96 }])
    assert.deepEqual(
      events.map(({ kind, cluster, reason }) => [kind, cluster, reason]),
      [EAST, EDGE].map((node) => [
        'path',
        node.slice(0, 4),
        `tcp: UDP 51820 to 203.0.113.12 gets no answer (${node})`
      ])
    )
  })

  it('goes back to direct when the other end carries nothing', async () => {
    looks(7)
    await eventually(() => paths.address(EAST) !== undefined)
    outcome = 'unsupported'
    const [host, port] = paths.address(EAST)?.split(':') ?? []
    wireguard.send(DATA, Number(port), host)
    const now = performance.now() / 1000
    await eventually(() => {
      look(now)
      return (counts.get('out unsupported') ?? 0) > 0
    })
    look(performance.now() / 1000)
    look(performance.now() / 1000 + 6)
    assert.equal(paths.of(EAST)?.path, 'direct')
  })

  it('blocks a member that carries the datagrams of another one', async () => {
    look(0)
    paths.received(EAST, DATA)
    await eventually(() => heard.length === 1)
    const now = performance.now() / 1000
    // WireGuard has heard a valid packet of edge by the socket of east.
    look(now, [statsOf(EDGE, heard[0]?.from)])
    look(now + 1, [statsOf(EDGE, heard[0]?.from)])
    assert.equal(events.filter(({ kind, peer }) => kind === 'refused' && peer === EAST).length, 1)
    paths.received(EAST, DATA)
    paths.received(EDGE, DATA)
    await eventually(() => heard.length === 2)
    assert.notEqual(heard[1]?.from, heard[0]?.from)
    look(now + 2)
    assert.equal(counts.get('in refused'), 1)
  })

  it('takes the keys before and after a rotation for those of one member', async () => {
    look(0)
    paths.received(EAST, DATA)
    await eventually(() => heard.length === 1)
    const rotated = { ...peerOf(EAST), key: 'its new key' as WireguardKey }
    paths.update({
      nowMs: performance.now(),
      peers: [rotated],
      relays: [],
      stats: [statsOf(EAST, heard[0]?.from)],
      answers: () => SILENT
    })
    assert.deepEqual(
      events.filter(({ kind }) => kind === 'refused'),
      []
    )
  })
})
