// One client, however greedy, leaves the others their shares of upstream questions and of TCP connections.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

import { decode } from '@dnsquery/dns-packet'
import fc from 'fast-check'

import { frame } from '../../../src/io/dns/framing.ts'
import { shareOf } from '../../../src/core/model/client-share.ts'
import { Shares } from '../../../src/io/dns/shares.ts'
import { TCP_LIMITS } from '../../../src/io/dns/tcp-connection.ts'
import { createSocket } from 'node:dgram'
import { addressReply, DEADLINE_MS, eventually, query, startServer, startUpstream } from './harness.ts'

describe('shares of places', () => {
  it('a client with fewer places than its fair share always gets one more', () => {
    const clients = fc.constantFrom('a', 'b', 'c', 'd')
    const step = fc.record({ client: clients, act: fc.constantFrom('take', 'take', 'take', 'release') })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 4, max: 12 }), (steps, placesMax) => {
        const held = new Map<string, Set<object>>()
        const sizeOf = (client: string) => held.get(client)?.size ?? 0
        const shares = new Shares<{ readonly client: string }>({
          placesMax,
          onEvicted: (item) => held.get(item.client)?.delete(item)
        })
        for (const { client, act } of steps) {
          const own = held.get(client) ?? new Set()
          held.set(client, own)
          if (act === 'release') {
            const [item] = own as Set<{ readonly client: string }>
            if (item !== undefined) shares.release(client, item)
            if (item !== undefined) own.delete(item)
            continue
          }
          const before = [...held.values()].map(({ size }) => size)
          const most = Math.max(...before)
          const total = before.reduce((sum, size) => sum + size, 0)
          const mine = own.size
          const item = { client }
          const isTaken = shares.take(client, item)
          if (isTaken) own.add(item)
          assert.equal(isTaken, total < placesMax || most > mine + 1)
          assert.ok(shares.size <= placesMax)
          assert.equal(
            shares.size,
            [...held.keys()].reduce((sum, name) => sum + sizeOf(name), 0)
          )
        }
      })
    )
  })

  for (const [address, share] of [
    ['10.1.0.7', '10.1.0.7'],
    ['2001:db8:0:1::5', '2001:db8:0:1::/64'],
    ['2001:db8:0:1:ffff:ffff:ffff:ffff', '2001:db8:0:1::/64'],
    ['2001:db8::5', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64']
  ] as const) {
    it(`${address} counts to ${share}`, () => assert.equal(shareOf(address), share))
  }
})

describe('DNS for many clients', () => {
  it('one client with thousands of slow questions does not hurt another, over UDP and for ExternalName', async () => {
    const upstream = await startUpstream((message) =>
      decode(message).questions?.[0]?.name.startsWith('slow') === true
        ? undefined
        : addressReply(message, ['192.0.2.7'])
    )
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    const greedy = createSocket('udp4').bind(0, '127.0.0.9')
    await once(greedy, 'listening')
    let refused = 0
    greedy.on('message', () => refused++)
    try {
      for (let id = 0; id < 3000; id++) {
        greedy.send(query(`slow-${id}.example.com`, 'A', { id }), port, '127.0.0.1')
        if (id % 100 === 99) await new Promise((resolve) => setImmediate(resolve))
      }
      await eventually(() => refused > 100, 'the greedy client has its share')
      for (const name of ['www.example.com', 'pay.shop.svc.cluster.east']) {
        const socket = createSocket('udp4').bind(0, '127.0.0.8')
        await once(socket, 'listening')
        socket.send(query(name, 'A'), port, '127.0.0.1')
        const [reply]: unknown[] = await once(socket, 'message', { signal: AbortSignal.timeout(DEADLINE_MS) })
        assert.equal(decode(reply as Uint8Array).answers?.at(-1)?.data, '192.0.2.7')
        socket.close()
      }
    } finally {
      greedy.close()
      await server.stop()
      upstream.stop()
    }
  })

  it('idle connections of one client go first when another one connects', async () => {
    const { server, port } = await startServer()
    const closed: number[] = []
    const open = (localAddress: string, index: number): Promise<Socket> => {
      const socket = connect({ port, host: '127.0.0.1', localAddress })
      socket.on('error', () => undefined)
      socket.on('close', () => closed.push(index))
      return once(socket, 'connect', { signal: AbortSignal.timeout(DEADLINE_MS) }).then(() => socket)
    }
    const sockets: Socket[] = []
    try {
      for (let index = 0; index < TCP_LIMITS.connectionsMax; index++)
        sockets.push(await open('127.0.0.9', index))
      for (let other = 0; other < 10; other++) {
        const socket = await open('127.0.0.8', 1000 + other)
        sockets.push(socket)
        socket.write(frame(query('web.shop.svc.cluster.east', 'A')))
        await once(socket, 'data', { signal: AbortSignal.timeout(DEADLINE_MS) })
      }
      await eventually(() => closed.length === 10, 'as many of the greedy client are closed')
      assert.deepEqual(
        [...closed].sort((a, b) => a - b),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
      )
    } finally {
      for (const socket of sockets) socket.destroy()
      await server.stop()
    }
  })

  it('connections with single bytes of a question are idle, and a client replaces its own', async () => {
    const { server, port } = await startServer()
    const sockets: Socket[] = []
    const isClosed = new Set<Socket>()
    try {
      for (let index = 0; index < TCP_LIMITS.connectionsMax + 5; index++) {
        const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.9' })
        socket.on('error', () => undefined)
        socket.on('close', () => isClosed.add(socket))
        socket.write(Buffer.from([0]))
        sockets.push(socket)
      }
      await eventually(() => isClosed.size === 5, 'the excess is closed')
      const last = sockets.find((socket) => !isClosed.has(socket))
      last?.write(frame(query('web.shop.svc.cluster.east', 'A')).subarray(1))
      assert.ok(last !== undefined)
      await once(last, 'data', { signal: AbortSignal.timeout(DEADLINE_MS) })
    } finally {
      for (const socket of sockets) socket.destroy()
      await server.stop()
    }
  })
})
