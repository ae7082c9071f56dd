import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { createLibp2p } from 'libp2p'
import type { Libp2p } from 'libp2p'
import { noise } from '@chainsafe/libp2p-noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import type { Origin } from '../../../src/core/model/values.ts'
import { DATAGRAM_PROTOCOL, type DatagramOutcome } from '../../../src/io/p2p/datagrams.ts'
import { frameHeader } from '../../../src/io/p2p/frame-reader.ts'
import { createTransport, MESH_PROTOCOL, type Transport } from '../../../src/io/p2p/transport.ts'
import { eventually } from '../../eventually.ts'

const BYTES_MAX = 2000

describe('datagrams beside the control frames', () => {
  const stops: (() => unknown)[] = []
  afterEach(async () => {
    await Promise.all(stops.splice(0).map((stop) => stop()))
  })

  /** A transport. `trusts`: it authenticates each neighbour at once. */
  async function node({ trusts = true, carries = true } = {}) {
    const got: { peer: Origin; datagram: Uint8Array }[] = []
    const ups: Origin[] = []
    const downs: Origin[] = []
    const transport: Transport = createTransport({
      seed: randomBytes(32),
      listen: ['/ip4/127.0.0.1/tcp/0'],
      handlers: {
        neighbourUp(peer) {
          if (trusts) transport.setAuthenticated(peer)
          ups.push(peer)
        },
        frame() {},
        neighbourDown: (peer) => downs.push(peer)
      },
      datagrams: carries
        ? { bytesMax: BYTES_MAX, receive: (peer, datagram) => got.push({ peer, datagram }) }
        : undefined
    })
    await transport.start()
    stops.push(() => transport.stop())
    return { transport, got, ups, downs }
  }

  async function joined(a: Transport, b: Transport): Promise<void> {
    a.setTargets([{ origin: b.origin, addresses: b.listenAddresses() }])
    await eventually(() => a.neighbours().length === 1 && b.neighbours().length === 1)
  }

  /** Sends until the stream is open; the first ones are dropped. */
  async function sent(from: Transport, to: Origin, datagram: Uint8Array): Promise<void> {
    await eventually(() => from.sendDatagram(to, datagram) === 'sent')
  }

  it('arrive whole and in their order, in both directions', async () => {
    const [a, b] = await Promise.all([node(), node()])
    await joined(a.transport, b.transport)
    for (const [from, to] of [
      [a, b],
      [b, a]
    ] as const) {
      const all = Array.from({ length: 20 }, (_, index) => new Uint8Array(100 * index + 1).fill(index))
      await sent(from.transport, to.transport.origin, new Uint8Array([99]))
      for (const datagram of all)
        assert.equal(from.transport.sendDatagram(to.transport.origin, datagram), 'sent')
      await eventually(() => to.got.length === all.length + 1)
      assert.deepEqual(
        to.got.slice(1).map(({ datagram }) => datagram),
        all
      )
      assert.ok(to.got.every(({ peer }) => peer === from.transport.origin))
    }
  })

  it('are dropped, and said to be, when more wait than the queue holds', async () => {
    const [a, b] = await Promise.all([node(), node()])
    await joined(a.transport, b.transport)
    await sent(a.transport, b.transport.origin, new Uint8Array(1))
    const outcomes = Array.from({ length: 400 }, () =>
      a.transport.sendDatagram(b.transport.origin, new Uint8Array(1000))
    )
    const of = (outcome: DatagramOutcome) => outcomes.filter((each) => each === outcome).length
    assert.ok(of('sent') > 200 && of('sent') < 270, String(of('sent')))
    assert.equal(of('full'), 400 - of('sent'))
    await eventually(() => b.got.length === of('sent') + 1)
  })

  it('are not taken from a peer that is not authenticated', async () => {
    const [a, b] = await Promise.all([node(), node({ trusts: false })])
    await joined(a.transport, b.transport)
    let tries = 0
    await eventually(() => {
      a.transport.sendDatagram(b.transport.origin, new Uint8Array(1))
      return ++tries > 50
    })
    assert.deepEqual([b.got, b.downs], [[], []])
  })

  it('a peer that carries none says so, and nothing else of the connection changes', async () => {
    const [a, b] = await Promise.all([node(), node({ carries: false })])
    await joined(a.transport, b.transport)
    await eventually(() => a.transport.sendDatagram(b.transport.origin, new Uint8Array(1)) === 'unsupported')
    assert.equal(b.transport.sendDatagram(a.transport.origin, new Uint8Array(1)), 'unsupported')
    assert.deepEqual([a.downs, b.downs], [[], []])
  })

  it('a hostile peer with bad lengths, or with further streams, ends its stream and no more', async () => {
    const b = await node()
    const attacker: Libp2p = await createLibp2p({
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()]
    })
    stops.push(() => attacker.stop())
    const [address = ''] = b.transport.listenAddresses()
    const connection = await attacker.dial(multiaddr(address))
    const mesh = await connection.newStream(MESH_PROTOCOL)
    mesh.addEventListener('message', () => undefined)
    // Where the attacker has the smaller PeerId it elects the stream with an empty frame; else the node does.
    if (attacker.peerId.toString() < b.transport.origin) mesh.send(frameHeader(0))
    await eventually(() => b.ups.length === 1)
    const good = await connection.newStream(DATAGRAM_PROTOCOL)
    good.send(new Uint8Array([...frameHeader(3), 1, 2, 3]))
    await eventually(() => b.got.length === 1)
    for (const bytes of [frameHeader(BYTES_MAX + 1), frameHeader(0xffffffff), randomBytes(64)]) {
      const bad = await connection.newStream(DATAGRAM_PROTOCOL)
      try {
        bad.send(Uint8Array.from(bytes))
        await eventually(() => bad.status !== 'open')
      } catch {
        // It was reset before the bytes left.
      }
    }
    good.send(new Uint8Array([...frameHeader(1), 7]))
    await eventually(() => b.got.length === 2)
    assert.deepEqual(b.downs, [])
  })
})
