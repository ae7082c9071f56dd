// Strangers that take all places, and a neighbour that floods, over real sockets on loopback.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import net from 'node:net'
import type { Origin } from '../../../src/core/model/values.ts'
import type { TransportLimits } from '../../../src/io/p2p/limits.ts'
import { createTransport, type Transport, type TransportHandlers } from '../../../src/io/p2p/transport.ts'
import { eventually, slowness } from '../../eventually.ts'

const stops: (() => Promise<unknown>)[] = []

interface NodeOptions extends Partial<TransportHandlers> {
  readonly seed?: Uint8Array
  readonly isMember?: (peer: Origin) => boolean
  readonly limits?: Partial<TransportLimits>
}

async function node(options: NodeOptions = {}): Promise<Transport> {
  const { seed = randomBytes(32), isMember = () => false } = options
  const transport = createTransport({
    seed,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    isMember,
    limits: options.limits ?? {},
    handlers: {
      neighbourUp: (peer) => transport.setAuthenticated(peer),
      frame: (peer, frame) => options.frame?.(peer, frame),
      neighbourDown: (peer, reason) => options.neighbourDown?.(peer, reason)
    }
  })
  await transport.start()
  stops.push(() => transport.stop())
  return transport
}

const target = (of: Transport) => ({ origin: of.origin, addresses: of.listenAddresses() })
const portOf = (of: Transport) => Number(/tcp\/(\d+)/.exec(of.listenAddresses()[0] ?? '')?.[1])
const isUp = (from: Transport, to: Transport) => from.neighbours().some(({ origin }) => origin === to.origin)

/** Keeps this many silent sockets open, each from the address of its number, until the test ends. */
function crowd(
  port: number,
  count: number,
  addressOf: (index: number) => string
): { readonly opened: () => number } {
  let [isOn, opened] = [true, 0]
  const sockets = new Map<number, net.Socket>()
  const open = (index: number) => {
    if (!isOn) return
    const socket = net.connect({ port, host: '127.0.0.1', localAddress: addressOf(index) })
    sockets.set(index, socket)
    socket.on('connect', () => opened++)
    socket.on('error', () => undefined)
    socket.on('close', () => setTimeout(() => open(index), 100))
  }
  for (let index = 0; index < count; index++) open(index)
  stops.push(async () => {
    isOn = false
    for (const socket of sockets.values()) socket.destroy()
  })
  return { opened: () => opened }
}

describe('under pressure', () => {
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop()
  })

  it('a newcomer comes in within 3 s and a member that restarts within 5 s, with 320 silent sockets of 80 hosts', async () => {
    const seed = randomBytes(32)
    const first = await node({ seed })
    const member = first.origin
    const door = await node({ isMember: (peer) => peer === member })
    first.setTargets([target(door)])
    await eventually(() => isUp(door, first))
    await first.stop()
    const { opened } = crowd(portOf(door), 320, (index) => `127.0.1.${1 + (index % 80)}`)
    await eventually(() => opened() >= 320)
    assert.ok(door.strangers() <= 256)
    const newcomer = await node()
    newcomer.setTargets([target(door)])
    await eventually(() => isUp(door, newcomer), 3000)
    const again = await node({ seed })
    again.setTargets([target(door)])
    await eventually(() => isUp(door, again), 5000)
  })

  it('a socket that says nothing ends after 2 s, also one that is half closed', async () => {
    const door = await node()
    const ended: number[] = []
    const startMs = performance.now()
    for (const half of [false, true]) {
      const socket = net.connect({ port: portOf(door), host: '127.0.0.1', allowHalfOpen: true })
      socket.on('error', () => undefined)
      socket.on('close', () => ended.push(performance.now() - startMs))
      socket.on('end', () => socket.end())
      socket.resume()
      if (half) socket.end()
    }
    await eventually(() => ended.length === 2, 4000)
    assert.equal(door.strangers(), 0)
  })

  it('a neighbour that takes nothing is reset, also when its queue is not full', async () => {
    const reasons: string[] = []
    const writer = await node({
      limits: { stalledMs: 500 },
      neighbourDown: (_peer, reason) => reasons.push(reason)
    })
    const reader = await node()
    reader.setTargets([target(writer)])
    await eventually(() => isUp(writer, reader) && isUp(reader, writer))
    reader.pause(writer.origin)
    for (let index = 0; index < 100; index++) writer.send(reader.origin, new Uint8Array(64 * 1024).fill(1))
    const pings = setInterval(() => writer.send(reader.origin, new Uint8Array(8)), 50)
    stops.push(async () => clearInterval(pings))
    await eventually(() => reasons.length > 0)
    assert.match(reasons[0] ?? '', /has taken no byte for 500 ms/)
  })

  it('a neighbour whose frames cost much does not keep the loop, and others are answered meanwhile', async () => {
    let costMs = 0
    const victim: Transport = await node({
      frame(peer, frame) {
        if (peer === quiet.origin) {
          victim.send(peer, frame)
          return
        }
        const untilMs = performance.now() + costMs
        while (performance.now() < untilMs);
        taken++
      }
    })
    let [taken, answeredMs, askedMs] = [0, 0, 0]
    let longestMs = 0
    const quiet = await node({
      frame() {
        longestMs = Math.max(longestMs, performance.now() - askedMs)
        answeredMs = performance.now()
      }
    })
    const flooder = await node()
    for (const each of [quiet, flooder]) each.setTargets([target(victim)])
    await eventually(() => isUp(victim, quiet) && isUp(victim, flooder))
    await eventually(() => isUp(quiet, victim) && isUp(flooder, victim))
    costMs = 2
    // In one write: thousands of frames lie in one chunk.
    for (let index = 0; index < 5000; index++) flooder.send(victim.origin, new Uint8Array(4).fill(1))
    await eventually(() => taken > 0)
    for (let ask = 0; ask < 10; ask++) {
      askedMs = performance.now()
      quiet.send(victim.origin, new Uint8Array(8))
      await eventually(() => answeredMs >= askedMs, 5000)
    }
    assert.ok(taken < 5000, 'the flood was over before the questions were')
    assert.ok(longestMs < 300 * slowness(), `an answer took ${Math.round(longestMs)} ms`)
    await eventually(() => taken === 5000)
  })
})
