import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { startProber, ProbeError, type Prober } from '../../../src/io/probe/probe.ts'
import { seenIn, seenPacket } from '../../../src/io/probe/packet.ts'
import type { Ip, PeerAddress } from '../../../src/core/model/values.ts'
import { eventually } from '../../eventually.ts'

const A = '127.0.0.71' as Ip
const B = '127.0.0.72' as Ip

/** Sockets that read and do not answer. Resolves to what closes them. */
async function silence(address: Ip, ports: readonly number[], heard?: () => void): Promise<() => void> {
  const sockets = await Promise.all(
    ports.map(async (port) => {
      const socket = createSocket('udp4')
      if (heard !== undefined && port === ports[0]) socket.on('message', heard)
      await new Promise<void>((resolve) => socket.bind(port, address, () => resolve()))
      return socket
    })
  )
  return () => {
    for (const socket of sockets) socket.close()
  }
}

describe('probe', () => {
  const running: Prober[] = []
  const start = async (address: Ip, port: number, onSilent?: (from: Ip) => void): Promise<Prober> => {
    const prober = await startProber({ address, port, intervalMs: 20, ...(onSilent && { onSilent }) })
    running.push(prober)
    return prober
  }
  afterEach(async () => {
    await Promise.all(running.splice(0).map((prober) => prober.stop()))
  })

  it('measures a round trip to a peer that answers, and counts what a dead one leaves open', async () => {
    const a = await start(A, 17947)
    await start(B, 17947)
    const dead = '127.0.0.73' as Ip
    a.setTargets([
      { address: B, port: 17947 },
      { address: dead, port: 17947 }
    ])
    await eventually(() => a.result(B)?.rttMs !== undefined)
    assert.ok((a.result(B)?.lastReplyMs ?? 0) > 0)
    await eventually(() => a.result(dead)?.lastRefusalMs !== undefined)
    assert.equal(a.result(dead)?.lastReplyMs, undefined)
    assert.equal(a.result(B)?.lastRefusalMs, undefined)
  })

  it('tells a target that this host has moved, in small and in padded probes, and keeps the latest word of targets only', async () => {
    let moved = false
    const a = await startProber({
      address: A,
      port: 17947,
      intervalMs: 20,
      hasMoved: (to) => moved && to === B
    })
    running.push(a)
    const b = await start(B, 17947)
    a.setTargets([{ address: B, port: 17947 }], 1400)
    await eventually(() => a.result(B)?.lastReplyMs !== undefined)
    moved = true
    assert.equal(b.saysMoved(A, 0), false, 'A is no target of B yet')
    b.setTargets([{ address: A, port: 17947 }])
    await eventually(() => b.saysMoved(A, 0))
    assert.equal(b.saysMoved(A, performance.now() + 600_000), false, 'it was said before')
    moved = false
    await eventually(() => !b.saysMoved(A, 0))
    assert.ok((a.result(B)?.rttMs ?? 0) > 0)
  })

  it('tells a target where its host is seen, once it answers, and takes the word of targets only', async () => {
    const told: string[] = []
    const seen = '198.51.100.1:51820' as PeerAddress
    const b = await startProber({
      address: B,
      port: 17947,
      intervalMs: 20,
      onTold: (from, address) => told.push(`${from} ${address}`)
    })
    running.push(b)
    let asked = 0
    const look = () => {
      asked++
      return seen
    }
    const a = await startProber({ address: A, port: 17947, intervalMs: 20, seen: look })
    running.push(a)
    a.setTargets([{ address: B, port: 17947 }])
    await eventually(() => asked > 3) // it was told at the first of them
    assert.deepEqual(told, [], 'A is no target of B yet')
    b.setTargets([{ address: A, port: 17947 }])
    a.setTargets([])
    a.setTargets([{ address: B, port: 17947 }])
    await eventually(() => told.length > 0)
    assert.equal(told[0], `${A} ${seen}`)
    assert.deepEqual(
      ['1.2.3.4:0', '1.2.3.4:70000', '1.2.3.4', 'a.b:1', '[::1', `1.2.3.4:${'0'.repeat(99)}1`].map((text) =>
        seenIn(seenPacket(text as PeerAddress))
      ),
      Array.from({ length: 6 }, () => undefined)
    )
    assert.equal(seenIn(seenPacket('[2001:DB8::1]:7' as PeerAddress)), '[2001:db8::1]:7')
  })

  it('counts what a peer that is silent leaves open, and asks it more often for a while', async () => {
    const a = await start(A, 17947)
    const times: number[] = []
    const close = await silence(B, [17947, 33434], () => times.push(performance.now()))
    a.setTargets([{ address: B, port: 17947 }])
    await eventually(() => (a.result(B)?.unanswered ?? 0) > 2)
    assert.deepEqual(
      [a.result(B)?.lastReplyMs, a.result(B)?.lastRefusalMs, a.result(B)?.rttMs],
      [undefined, undefined, undefined]
    )
    await eventually(() => times.length > 8)
    close()
  })

  it('asks the kernel where an agent is stopped, and hears that the host is there', async () => {
    const a = await start(A, 17947)
    const close = await silence(B, [17947])
    a.setTargets([{ address: B, port: 17947 }])
    await eventually(() => a.result(B)?.lastRefusalMs !== undefined)
    assert.equal(a.result(B)?.lastReplyMs, undefined)
    close()
  })

  it('tells at once that a fast target is silent, and not of another', async () => {
    const told: Ip[] = []
    const a = await start(A, 17947, (address) => told.push(address))
    const other = '127.0.0.73' as Ip
    const closers = await Promise.all([B, other].map((address) => silence(address, [17947, 33434])))
    a.setTargets([
      { address: B, port: 17947, isFast: true },
      { address: other, port: 17947 }
    ])
    await eventually(() => (a.result(B)?.unanswered ?? 0) > 6 && (a.result(other)?.unanswered ?? 0) > 6)
    assert.deepEqual(told, [B])
    for (const close of closers) close()
  })

  it('tells a round trip by the least of the last ones, whatever else this process does', async () => {
    const a = await start(A, 17947)
    const peer = createSocket('udp4')
    const delays = [30, 0, 45, 60, 25, 0, 80]
    const waiting = new Set<NodeJS.Timeout>()
    let count = 0
    peer.on('message', (packet, from) => {
      const reply = Buffer.from(packet)
      reply[4] = 1
      const late = setTimeout(
        () => {
          waiting.delete(late)
          peer.send(reply, from.port, from.address)
        },
        delays[count++ % delays.length]
      )
      waiting.add(late)
    })
    await new Promise<void>((resolve) => peer.bind(17947, B, () => resolve()))
    a.setTargets([{ address: B, port: 17947 }])
    await eventually(() => count > 14)
    assert.ok((a.result(B)?.rttMs ?? Infinity) < 20, `${a.result(B)?.rttMs}`)
    for (const late of waiting) clearTimeout(late)
    peer.close()
  })

  it('finds how large a packet comes back, and nothing of a peer that answers none with padding', async () => {
    const a = await start(A, 17947)
    const narrow = async (address: Ip, bytesMax: number): Promise<() => void> => {
      const socket = createSocket('udp4')
      socket.on('message', (packet, from) => {
        const reply = Buffer.from(packet)
        reply[4] = 1
        if (packet.length <= bytesMax) socket.send(reply, from.port, from.address)
      })
      await new Promise<void>((resolve) => socket.bind(17947, address, () => resolve()))
      return () => socket.close()
    }
    const old = '127.0.0.74' as Ip
    // 28 bytes are the headers of IPv4 and UDP.
    const closers = await Promise.all([narrow(B, 1340 - 28), narrow(old, 13)])
    a.setTargets(
      [B, old].map((address) => ({ address, port: 17947 })),
      1420
    )
    await eventually(() => a.result(B)?.path?.verdict === 'narrow', 60_000)
    assert.ok((a.result(B)?.path?.found ?? 0) > 1320 && (a.result(B)?.path?.found ?? 9999) <= 1340)
    await eventually(() => a.result(old)?.path?.verdict === 'unsupported', 60_000)
    assert.equal(a.result(old)?.path?.found, undefined)
    for (const close of closers) close()
  })

  it('takes no reply that it did not ask for, and echoes nothing that is not a request', async () => {
    const a = await start(A, 17948)
    a.setTargets([{ address: B, port: 9 }])
    const stranger = createSocket('udp4')
    const heard: Buffer[] = []
    stranger.on('message', (packet) => heard.push(packet))
    await new Promise<void>((resolve) => stranger.bind(0, B, () => resolve()))
    const forged = Buffer.concat([Buffer.from('rzp1'), Buffer.of(1), Buffer.alloc(8)])
    stranger.send(forged, 17948, A)
    stranger.send(Buffer.from('hello, anybody there?'), 17948, A)
    stranger.send(Buffer.concat([Buffer.from('rzp1'), Buffer.of(0), Buffer.alloc(8, 7)]), 17948, A)
    await eventually(() => heard.length > 0)
    assert.equal(heard.length, 1)
    assert.equal(heard[0]?.length, 13)
    assert.equal(a.result(B)?.lastReplyMs, undefined)
    stranger.close()
  })

  it('takes no reply of its peer whose nonce it did not send, and then the right one', async () => {
    const peer = createSocket('udp4')
    let [isForger, forged] = [true, 0]
    peer.on('message', (packet, from) => {
      const reply = Buffer.from(packet)
      reply[4] = 1
      if (isForger) {
        reply[5] = (reply[5] ?? 0) ^ 1
        forged++
      }
      peer.send(reply, from.port, from.address)
    })
    await new Promise<void>((resolve) => peer.bind(17957, B, () => resolve()))
    const a = await start(A, 17956)
    a.setTargets([{ address: B, port: 17957 }])
    await eventually(() => forged > 2)
    assert.equal(a.result(B)?.lastReplyMs, undefined)
    isForger = false
    await eventually(() => a.result(B)?.lastReplyMs !== undefined)
    peer.close()
  })

  it('says which setting to change when the port is taken', async () => {
    await start(A, 17949)
    await assert.rejects(
      start(A, 17949),
      (error: unknown) => error instanceof ProbeError && /probe-port/.test(error.fix)
    )
  })

  it('says what to do about an address that the host has not, and about a port that is taken', async () => {
    const fixOf = async (address: Ip, port: number): Promise<string> => {
      const error = await start(address, port).then(
        () => assert.fail('it listens'),
        (error: unknown) => error
      )
      assert.ok(error instanceof ProbeError)
      return error.fix
    }
    assert.match(await fixOf('192.0.2.77' as Ip, 17948), /set node-address/)
    await start(A, 17949)
    assert.match(await fixOf(A, 17949), /set probe-port/)
  })
})
