import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import net from 'node:net'
import { noise } from '@chainsafe/libp2p-noise'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import type { Libp2p } from 'libp2p'
import type { Stream } from '../../../src/io/p2p/frame-stream.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import { TransportError } from '../../../src/io/p2p/errors.ts'
import type { TransportLimits } from '../../../src/io/p2p/limits.ts'
import { MESH_PROTOCOL, createTransport } from '../../../src/io/p2p/transport.ts'
import type { Transport, TransportHandlers } from '../../../src/io/p2p/transport.ts'

/** Waits for a condition; real sockets leave nothing else. */
async function until(what: string, condition: () => boolean, ms = 30_000): Promise<void> {
  const deadline = performance.now() + ms
  while (!condition()) {
    if (performance.now() > deadline) assert.fail(`not in time: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

interface Node {
  readonly transport: Transport
  readonly events: string[]
  readonly frames: Map<Origin, Uint8Array[]>
}

interface NodeOptions {
  readonly seed?: Uint8Array
  readonly listen?: readonly string[]
  readonly limits?: Partial<TransportLimits>
  readonly handlers?: Partial<TransportHandlers>
  /** Says setAuthenticated at once; default true. */
  readonly trust?: boolean
}

/** Two seeds, the one of the smaller PeerId first: that side elects the stream. */
function orderedSeeds(): [Uint8Array, Uint8Array] {
  const handlers = { neighbourUp() {}, frame() {}, neighbourDown() {} }
  const [a, b] = [randomBytes(32), randomBytes(32)]
  const [first, second] = [a, b].map((seed) => createTransport({ seed, listen: [], handlers }).origin)
  return (first ?? '') < (second ?? '') ? [a, b] : [b, a]
}

describe('transport', () => {
  const stops: (() => Promise<unknown>)[] = []

  afterEach(async () => {
    await Promise.all(stops.splice(0).map((stop) => stop()))
  })

  async function node(options: NodeOptions = {}): Promise<Node> {
    const events: string[] = []
    const frames = new Map<Origin, Uint8Array[]>()
    const transport = createTransport({
      seed: options.seed ?? randomBytes(32),
      listen: options.listen ?? ['/ip4/127.0.0.1/tcp/0'],
      ...(options.limits === undefined ? {} : { limits: options.limits }),
      handlers: {
        neighbourUp(peer, info) {
          events.push(`up ${peer}`)
          if (options.trust !== false) transport.setAuthenticated(peer)
          options.handlers?.neighbourUp?.(peer, info)
        },
        frame(peer, frame) {
          frames.set(peer, [...(frames.get(peer) ?? []), frame])
          options.handlers?.frame?.(peer, frame)
        },
        neighbourDown(peer, reason) {
          events.push(`down ${peer} ${reason}`)
          options.handlers?.neighbourDown?.(peer, reason)
        }
      }
    })
    await transport.start()
    stops.push(() => transport.stop())
    return { transport, events, frames }
  }

  function target(of: Node): { origin: Origin; addresses: string[] } {
    return { origin: of.transport.origin, addresses: of.transport.listenAddresses() }
  }

  function isUp(from: Node, to: Node): boolean {
    return from.transport.neighbours().some((neighbour) => neighbour.origin === to.transport.origin)
  }

  async function pair(a: NodeOptions = {}, b: NodeOptions = {}): Promise<[Node, Node]> {
    const [one, two] = [await node(a), await node(b)]
    one.transport.setTargets([target(two)])
    await until('both are neighbours', () => isUp(one, two) && isUp(two, one))
    return [one, two]
  }

  /** A peer that speaks libp2p but not our rules. */
  async function stranger(seed: Uint8Array = randomBytes(32)): Promise<Libp2p> {
    const libp2p = await createLibp2p({
      privateKey: await generateKeyPairFromSeed('Ed25519', seed),
      addresses: { listen: [] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      connectionMonitor: { enabled: false }
    })
    stops.push(async () => libp2p.stop())
    return libp2p
  }

  it('dials no address that is its own, and the others of the same member all the same', async () => {
    const [a, b] = [await node(), await node()]
    const own = a.transport.listenAddresses()
    a.transport.setTargets([{ origin: b.transport.origin, addresses: own }])
    await until('the reason', () =>
      /all its addresses are addresses of this host/.test(a.transport.dialState()[0]?.lastError ?? '')
    )
    assert.doesNotMatch(a.transport.dialState()[0]?.lastError ?? '', /identity key/)
    a.transport.setTargets([
      { origin: b.transport.origin, addresses: [...own, ...b.transport.listenAddresses()] }
    ])
    await until('the neighbour', () => isUp(a, b))
  })

  it('an address to listen on that this host does not have is missing, not an error', async () => {
    const { transport } = await node({ listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/192.0.2.77/tcp/7946'] })
    assert.deepEqual(transport.missingAddresses(), ['/ip4/192.0.2.77/tcp/7946'])
    assert.equal(transport.listenAddresses().length, 1)
    await transport.networkChanged([])
    assert.deepEqual(transport.missingAddresses(), ['/ip4/192.0.2.77/tcp/7946'])
  })

  it('a connection from an own address that has gone ends at once, and the others stay', async () => {
    const [a, b] = await pair()
    await a.transport.networkChanged(['192.0.2.77'])
    assert.ok(isUp(a, b))
    await a.transport.networkChanged(['127.0.0.1'])
    assert.match(a.events.join(), /down .* this host lost its address 127\.0\.0\.1/)
    await until('both again', () => isUp(a, b) && isUp(b, a)) // dialled again
  })

  it('carries 1,000 frames in order both ways, bundled or one by one, and leaves them unchanged', async () => {
    const [a, b] = await pair()
    const sent = Array.from({ length: 1_000 }, (_, i) => new Uint8Array(randomBytes(1 + ((i * 131) % 3_000))))
    const before = sent.map((frame) => frame.slice())
    for (const [i, frame] of sent.entries()) {
      assert.ok(a.transport.send(b.transport.origin, frame))
      assert.ok(b.transport.send(a.transport.origin, frame))
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await until('all frames', () =>
      [a.frames.get(b.transport.origin), b.frames.get(a.transport.origin)].every(
        (got) => got?.length === 1_000
      )
    )
    assert.deepEqual(a.frames.get(b.transport.origin), before)
    assert.deepEqual(b.frames.get(a.transport.origin), before)
    assert.deepEqual(sent, before)
    assert.equal(a.events.length, 1)
  })

  it('carries the largest frame, many times over the window', async () => {
    const [a, b] = await pair()
    const frame = new Uint8Array(randomBytes(256 * 1024))
    for (let i = 0; i < 20; i += 1) assert.ok(a.transport.send(b.transport.origin, frame))
    await until('20 large frames', () => b.frames.get(a.transport.origin)?.length === 20)
    assert.ok(b.frames.get(a.transport.origin)?.every((got) => Buffer.compare(got, frame) === 0))
    await until('nothing stays queued', () => a.transport.neighbours()[0]?.queuedBytes === 0)
  })

  it('delivers nothing while it is paused, holds no more than the window, and then all in order', async () => {
    const held: Uint8Array[] = []
    const [a, b] = await pair({ limits: { windowBytesMax: 1 << 20 } })
    const from = b.transport.origin
    const into = () => a.frames.get(from) ?? held
    b.transport.send(a.transport.origin, new Uint8Array([1]))
    await until('the first frame', () => into().length === 1)
    a.transport.pause(from)
    for (let i = 0; i < 60; i++) {
      const frame = new Uint8Array(100_000)
      frame[0] = i
      assert.ok(b.transport.send(a.transport.origin, frame))
    }
    const queued = () => b.transport.neighbours()[0]?.queuedBytes ?? 0
    await until('the window is used up', () => queued() > 0 && queued() < 6_000_000)
    assert.ok(queued() > 6_000_000 - (1 << 20) - 3 * 63 * 1024)
    assert.equal(into().length, 1)
    a.transport.resume(from)
    await until('all frames', () => into().length === 61)
    assert.deepEqual(
      into()
        .slice(1)
        .map(([first]) => first),
      Array.from({ length: 60 }, (_, i) => i)
    )
  })

  it('stops between two frames that came together', async () => {
    const a: Node = await node({ handlers: { frame: (peer) => a.transport.pause(peer) } })
    const b = await node()
    b.transport.setTargets([target(a)])
    await until('both are neighbours', () => isUp(a, b) && isUp(b, a))
    for (const byte of [1, 2, 3]) b.transport.send(a.transport.origin, new Uint8Array([byte]))
    for (const count of [1, 2, 3]) {
      await until(`frame ${count}`, () => a.frames.get(b.transport.origin)?.length === count)
      a.transport.resume(b.transport.origin)
    }
  })

  it('says once when hardly anything is queued any more', async () => {
    const [a, b] = await pair({ limits: { queueBytesMax: 1 << 23 } })
    b.transport.pause(a.transport.origin)
    let told = 0
    const tell = () => void told++
    for (let i = 0; i < 60; i++) assert.ok(a.transport.send(b.transport.origin, new Uint8Array(100_000)))
    a.transport.whenSent(b.transport.origin, tell)
    await until('the rest is queued', () => (a.transport.neighbours()[0]?.queuedBytes ?? 0) < 5_800_000)
    assert.equal(told, 0)
    b.transport.resume(a.transport.origin)
    await until('it says so', () => told === 1)
    assert.ok((a.transport.neighbours()[0]?.queuedBytes ?? 0) <= 63 * 1024)
    a.transport.whenSent(b.transport.origin, tell)
    await until('it says so at once', () => told === 2)
  })

  it('keeps one neighbour on each side, without a flap, when both dial at once', async () => {
    for (let round = 0; round < 5; round += 1) {
      const [a, b] = [await node(), await node()]
      a.transport.setTargets([target(b)])
      b.transport.setTargets([target(a)])
      await until('both up', () => isUp(a, b) && isUp(b, a))
      a.transport.send(b.transport.origin, Buffer.from('ping'))
      b.transport.send(a.transport.origin, Buffer.from('pong'))
      await until('frames both ways', () => a.frames.size === 1 && b.frames.size === 1)
      // Past the grace in which a second stream could still take over.
      const settled = performance.now() + 2_300
      if (round === 4) await until('grace', () => performance.now() > settled)
      assert.deepEqual(a.events, [`up ${b.transport.origin}`])
      assert.deepEqual(b.events, [`up ${a.transport.origin}`])
      assert.equal(a.transport.strangers() + b.transport.strangers(), 0)
    }
  })

  it('parks a second stream of a peer, and drops the first one only if the second is not given up', async () => {
    const [small, large] = orderedSeeds()
    const a = await node({ seed: small, limits: { duplicateGraceMs: 300 } })
    const peer = await stranger(large)
    const address = multiaddr(a.transport.listenAddresses()[0] ?? '')
    const openStream = async (): Promise<{ stream: Stream; bytes: () => number }> => {
      const stream = await (await peer.dial(address, { force: true })).newStream(MESH_PROTOCOL)
      let bytes = 0
      stream.addEventListener('message', (event) => (bytes += event.data.byteLength))
      return { stream, bytes: () => bytes }
    }
    const first = await openStream()
    await until('the first is elected', () => first.bytes() === 4)
    const second = await openStream()
    second.stream.abort(new Error('both sides dialled: I keep the first'))
    const third = await openStream()
    assert.equal(third.bytes(), 0)
    assert.deepEqual(a.events, [`up ${String(peer.peerId)}`])
    await until('the third takes over', () => third.bytes() === 4)
    assert.equal(second.bytes(), 0)
    assert.deepEqual(a.events, [
      `up ${String(peer.peerId)}`,
      `down ${String(peer.peerId)} replaced by a newer connection`,
      `up ${String(peer.peerId)}`
    ])
  })

  it('uses the stream that the electing peer accepts, and gives up its own', async () => {
    const [small, large] = orderedSeeds()
    const a = await node({ seed: large })
    const peer = await stranger(small)
    const address = multiaddr(a.transport.listenAddresses()[0] ?? '')
    const [first, second] = [
      await (await peer.dial(address, { force: true })).newStream(MESH_PROTOCOL),
      await (await peer.dial(address, { force: true })).newStream(MESH_PROTOCOL)
    ]
    await until('both arrived', () => a.transport.strangers() === 2)
    assert.deepEqual(a.events, [])
    second.send(new Uint8Array(4))
    await until('up', () => a.events.length === 1)
    await until('the other one is closed', () => first.status !== 'open')
    assert.equal(second.status, 'open')
    assert.equal(a.events.length, 1)
  })

  it('reconnects by itself to a peer that went away and came back on the same port', async () => {
    const seed = randomBytes(32)
    const [a, b] = await pair({}, { seed })
    const [address] = b.transport.listenAddresses()
    await b.transport.stop()
    await until('down', () => !isUp(a, b))
    await until('a failed dial shows', () => /ECONNREFUSED/.test(a.transport.dialState()[0]?.lastError ?? ''))
    const again = await node({ seed, listen: [address ?? ''] })
    await until('up again', () => isUp(a, again) && isUp(again, a))
    assert.equal(a.transport.dialState()[0]?.state, 'connected')
    const kinds = a.events.map((event) => event.split(' ')[0])
    assert.deepEqual(kinds, ['up', 'down', 'up'])
  })

  it('takes a new connection of a peer whose old one died without a word, whoever of the two elects', async () => {
    const limits = { duplicateGraceMs: 200 }
    for (const elects of ['holder of the stale stream', 'peer that came back']) {
      const [small, large] = orderedSeeds()
      const holder = elects === 'holder of the stale stream' ? small : large
      const seed = holder === small ? large : small
      const [a, b] = await pair({ seed: holder, limits }, { seed, limits })
      // A second process with the same identity: the old stream stays open, and nobody closes the new one.
      const twin = await node({ seed, limits })
      twin.transport.setTargets([target(a)])
      await until('twin is up', () => isUp(twin, a))
      await until('the old one is dropped', () => a.events.length >= 3)
      twin.transport.send(a.transport.origin, Buffer.from('twin'))
      await until('frame of the twin', () => a.frames.get(b.transport.origin)?.length === 1)
      a.transport.setTargets([])
    }
  })

  it('resets a slow reader at the bound of its queue and never grows past it', async () => {
    const a = await node({ limits: { queueBytesMax: 2 * 1024 * 1024 } })
    const slow = await stranger()
    const connection = await slow.dial(multiaddr(a.transport.listenAddresses()[0] ?? ''))
    const stream = await connection.newStream(MESH_PROTOCOL)
    // If we are not the chooser, the stranger has to accept; an empty frame does it.
    if (slow.peerId.toString() < a.transport.origin) stream.send(new Uint8Array(4))
    await until('up', () => a.transport.neighbours().length === 1)
    stream.pause()
    const peer = a.transport.neighbours()[0]?.origin ?? assert.fail()
    let accepted = 0
    let queued = 0
    while (a.transport.send(peer, new Uint8Array(200 * 1024))) {
      accepted += 200 * 1024
      queued = Math.max(queued, a.transport.neighbours()[0]?.queuedBytes ?? 0)
      await new Promise((resolve) => setImmediate(resolve))
      assert.ok(accepted < 64 * 1024 * 1024, 'the queue has no bound')
    }
    assert.ok(accepted > 1024 * 1024)
    assert.ok(queued <= 2 * 1024 * 1024)
    assert.match(a.events.at(-1) ?? '', /down .* the peer reads too slowly/)
    assert.equal(a.transport.send(peer, new Uint8Array(1)), false)
  })

  it('drops a peer that announces a frame over the limit', async () => {
    const a = await node()
    const hostile = await stranger()
    const connection = await hostile.dial(multiaddr(a.transport.listenAddresses()[0] ?? ''))
    const stream = await connection.newStream(MESH_PROTOCOL)
    if (hostile.peerId.toString() < a.transport.origin) stream.send(new Uint8Array(4))
    await until('up', () => a.transport.neighbours().length === 1)
    stream.send(Uint8Array.of(0, 4, 0, 1, 1, 2, 3))
    await until('down', () => a.transport.neighbours().length === 0)
    assert.match(a.events.at(-1) ?? '', /a frame has 262145 bytes, above the limit/)
    await until('connection closed', () => connection.status !== 'open')
  })

  it('cuts off a stranger that announces more in one yamux frame than anyone may send', async () => {
    const victim = await node({ limits: { authenticationMs: 60_000 } })
    const connections: { send(data: Uint8Array): boolean; readonly status: string }[] = []
    const hostile = await createLibp2p({
      addresses: { listen: [] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [
        () => {
          const factory = yamux()()
          const create = factory.createStreamMuxer.bind(factory)
          factory.createStreamMuxer = (connection) => {
            connections.push(connection)
            return create(connection)
          }
          return factory
        }
      ],
      connectionMonitor: { enabled: false }
    })
    stops.push(async () => hostile.stop())
    await hostile.dial(multiaddr(victim.transport.listenAddresses()[0]))
    const [connection] = connections
    assert.ok(connection)
    const header = Buffer.alloc(12)
    header.writeUInt32BE(1, 4)
    header.writeUInt32BE(64 * 1024 * 1024, 8)
    connection.send(new Uint8Array(header))
    await until('it is cut off', () => connection.status !== 'open' && victim.transport.strangers() === 0)
  })

  it('drops a peer that sends before its stream was accepted', async () => {
    const a = await node()
    const hostile = await stranger()
    const connection = await hostile.dial(multiaddr(a.transport.listenAddresses()[0] ?? ''))
    const stream = await connection.newStream(MESH_PROTOCOL)
    stream.send(Uint8Array.of(0, 0, 0, 1, 9, 0, 0, 0, 0))
    await until('connection closed', () => connection.status !== 'open')
  })

  it('survives a handler that throws: the neighbour ends, the others stay', async () => {
    const bad: { peer?: Origin } = {}
    const [a, b] = await pair({
      handlers: {
        frame(peer, frame) {
          if (peer === bad.peer && frame.byteLength === 3) throw new Error('boom')
        }
      }
    })
    bad.peer = b.transport.origin
    const c = await node()
    c.transport.setTargets([target(a)])
    await until('c is up', () => isUp(a, c))
    b.transport.send(a.transport.origin, Buffer.from('bad'))
    await until('b is down', () => a.events.some((event) => /^down .* handler failed: boom/.test(event)))
    assert.ok(isUp(a, c))
    assert.ok(!a.events.includes(`down ${c.transport.origin}`))
    await until('b comes back', () => isUp(a, b) && isUp(b, a))
  })

  it('survives a neighbourUp and a neighbourDown that throw', async () => {
    let calls = 0
    const [a, b] = [
      await node({
        handlers: {
          neighbourUp() {
            calls += 1
            if (calls === 1) throw new Error('boom up')
          },
          neighbourDown() {
            throw new Error('boom down')
          }
        }
      }),
      await node()
    ]
    a.transport.setTargets([target(b)])
    await until('up at the second try', () => calls === 2 && isUp(a, b) && isUp(b, a))
  })

  it('shows in dialState that another peer than the expected one answers', async () => {
    const [a, b, other] = [await node(), await node(), await node({ listen: [] })]
    a.transport.setTargets([{ origin: other.transport.origin, addresses: b.transport.listenAddresses() }])
    await until('error', () => a.transport.dialState()[0]?.lastError !== undefined)
    const [state] = a.transport.dialState()
    assert.match(state?.lastError ?? '', /identity|another peer/i)
    assert.ok((state?.attempts ?? 0) >= 1)
    assert.equal(a.transport.neighbours().length, 0)
  })

  it('names an address that is none, and one that names another peer', async () => {
    const [a, b] = [await node(), await node()]
    const elsewhere = `${b.transport.listenAddresses()[0] ?? ''}/p2p/${a.transport.origin}`
    a.transport.setTargets([{ origin: b.transport.origin, addresses: ['nonsense', elsewhere] }])
    await until('error', () => a.transport.dialState()[0]?.lastError !== undefined)
    assert.match(
      a.transport.dialState()[0]?.lastError ?? '',
      /nonsense is not a multiaddr; .* has another PeerId/
    )
  })

  it('dials a new address of a target at once, however long the backoff', async () => {
    const limits = { redialMinMs: 60_000, redialMaxMs: 60_000 }
    const [a, b] = [await node({ limits }), await node()]
    a.transport.setTargets([{ origin: b.transport.origin, addresses: ['/ip4/127.0.0.1/tcp/1'] }])
    await until('waiting', () => a.transport.dialState()[0]?.state === 'waiting')
    assert.ok((a.transport.dialState()[0]?.nextDialInMs ?? 0) > 20_000)
    a.transport.setTargets([target(b)])
    await until('up', () => isUp(a, b))
  })

  it('reaches a bootstrap address without a PeerId and learns who answers', async () => {
    const [a, b] = [await node(), await node()]
    a.transport.setTargets([{ addresses: b.transport.listenAddresses() }])
    await until('up', () => isUp(a, b) && a.transport.dialState()[0]?.state === 'connected')
  })

  it('sends what is queued before a disconnect', async () => {
    const [a, b] = await pair()
    a.transport.setTargets([])
    a.transport.send(b.transport.origin, Buffer.from('last words'))
    a.transport.disconnect(b.transport.origin, 'rejected')
    assert.equal(a.events.at(-1), `down ${b.transport.origin} rejected`)
    assert.equal(a.transport.send(b.transport.origin, Buffer.from('late')), false)
    await until('down at b', () => !isUp(b, a))
    assert.deepEqual(b.frames.get(a.transport.origin)?.map(String), [
      String(new Uint8Array(Buffer.from('last words')))
    ])
  })

  it('drops a neighbour that is not authenticated in time, on both sides of the dial', async () => {
    for (const lax of ['dialler', 'listener']) {
      const limits = { authenticationMs: 400 }
      const [a, b] = [
        await node({ limits, trust: lax !== 'dialler' }),
        await node({ limits, trust: lax !== 'listener' })
      ]
      a.transport.setTargets([target(b)])
      const strict = lax === 'dialler' ? a : b
      await until('dropped', () => strict.events.some((event) => event.includes('not authenticated in time')))
    }
  })

  it('bounds connections that never authenticate, and keeps its own members', async () => {
    const limits = { unauthenticatedPerAddressMax: 4, authenticationMs: 1_500 }
    const [a, b] = await pair({}, { limits })
    const port = Number(/tcp\/(\d+)/.exec(b.transport.listenAddresses()[0] ?? '')?.[1])
    const sockets = Array.from({ length: 10 }, () => net.connect(port, '127.0.0.1'))
    let closed = 0
    for (const socket of sockets) {
      socket.on('error', () => undefined)
      socket.on('close', () => (closed += 1))
    }
    stops.push(async () => sockets.forEach((socket) => socket.destroy()))
    await until('the surplus is refused', () => closed >= 6)
    assert.ok(b.transport.strangers() <= 4)
    await until('the rest runs out of time', () => closed === 10)
    assert.equal(b.transport.strangers(), 0)
    assert.ok(isUp(a, b))
  })

  it('does not care about garbage on its port', async () => {
    const [a, b] = await pair()
    const port = Number(/tcp\/(\d+)/.exec(b.transport.listenAddresses()[0] ?? '')?.[1])
    for (const garbage of [
      randomBytes(4_096),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      Buffer.alloc(100_000, 255)
    ]) {
      const socket = net.connect(port, '127.0.0.1')
      socket.on('error', () => undefined)
      let closed = false
      socket.on('close', () => (closed = true))
      socket.end(garbage)
      await until('closed', () => closed)
    }
    a.transport.send(b.transport.origin, Buffer.from('still here'))
    await until('frame', () => b.frames.get(a.transport.origin)?.length === 1)
  })

  it('says which setting to change when the port is in use', async () => {
    const a = await node()
    const second = createTransport({
      seed: randomBytes(32),
      listen: a.transport.listenAddresses(),
      handlers: { neighbourUp() {}, frame() {}, neighbourDown() {} }
    })
    await assert.rejects(second.start(), (error: unknown) => {
      assert.ok(error instanceof TransportError)
      assert.equal(error.code, 'PORT_IN_USE')
      assert.match(error.fix, /`listen`/)
      return true
    })
    await second.stop()
  })

  it('refuses a listen address that is none, and a seed of a wrong length', async () => {
    const handlers = { neighbourUp() {}, frame() {}, neighbourDown() {} }
    const transport = createTransport({ seed: randomBytes(32), listen: ['0.0.0.0:7946'], handlers })
    await assert.rejects(transport.start(), { code: 'LISTEN_INVALID' })
    assert.throws(() => createTransport({ seed: randomBytes(31), listen: [], handlers }), {
      code: 'SEED_INVALID'
    })
  })

  it('stops within two seconds, with neighbours, a slow reader and a stranger', async () => {
    const [a, b] = await pair()
    const port = Number(/tcp\/(\d+)/.exec(a.transport.listenAddresses()[0] ?? '')?.[1])
    const socket = net.connect(port, '127.0.0.1')
    socket.on('error', () => undefined)
    await until('stranger', () => a.transport.strangers() === 1)
    a.transport.setTargets([{ addresses: ['/ip4/127.0.0.1/tcp/1'] }])
    const started = performance.now()
    await a.transport.stop()
    assert.ok(performance.now() - started < 2_000)
    assert.match(a.events.at(-1) ?? '', /^down/)
    await until('b saw it', () => !isUp(b, a))
  })
})
