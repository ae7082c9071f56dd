import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { ping } from '../../../src/io/probe/ping.ts'
import { startProber } from '../../../src/io/probe/probe.ts'
import type { Ip } from '../../../src/core/model/values.ts'

const A = '127.0.0.75' as Ip
const B = '127.0.0.76' as Ip
const PORT = 17949

describe('ping', () => {
  const sockets: Socket[] = []
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.close()
  })
  /** A peer that does this with each packet; it gets the number of the packet. */
  const peer = async (
    act: (socket: Socket, index: number, reply: Buffer, port: number) => void
  ): Promise<void> => {
    const socket = createSocket('udp4')
    sockets.push(socket)
    let index = 0
    socket.on('message', (packet, from) => {
      const reply = Buffer.from(packet)
      reply[4] = 1
      act(socket, index++, reply, from.port)
    })
    await new Promise<void>((resolve) => socket.bind(PORT, B, () => resolve()))
  }
  const to = { address: B, port: PORT }

  it('measures each packet to the prober of another agent, and ends with the last reply', async () => {
    const prober = await startProber({ address: B, port: PORT, intervalMs: 1000 })
    try {
      const { rttsMs, refused, error } = await ping({ from: A, to, count: 5, intervalMs: 5, waitMs: 600_000 })
      assert.equal(rttsMs.length, 5)
      assert.ok(rttsMs.every((rtt) => rtt !== undefined && rtt > 0))
      assert.deepEqual([refused, error], [0, undefined])
    } finally {
      await prober.stop()
    }
  })

  it('counts a lost packet as lost, takes replies in any order, and each only once', async () => {
    const late: [Buffer, number][] = []
    await peer((socket, index, reply, port) => {
      if (index === 1) return // lost
      if (index === 0) {
        late.push([reply, port])
        return
      }
      socket.send(reply, port, A)
      socket.send(reply, port, A)
      for (const [packet, at] of late.splice(0)) socket.send(packet, at, A)
    })
    const { rttsMs, refused } = await ping({ from: A, to, count: 3, intervalMs: 20, waitMs: 200 })
    assert.deepEqual(
      rttsMs.map((rtt) => rtt !== undefined),
      [true, false, true]
    )
    assert.ok((rttsMs[0] ?? 0) > (rttsMs[2] ?? 0))
    assert.equal(refused, 0)
  })

  it('takes no reply that it did not ask for', async () => {
    await peer((socket, _, reply, port) => {
      const forged = Buffer.from(reply)
      forged[12] = (forged[12] ?? 0) ^ 1
      socket.send(forged, port, A)
      socket.send(Buffer.from('hello'), port, A)
    })
    assert.deepEqual(await ping({ from: A, to, count: 2, intervalMs: 5, waitMs: 100 }), {
      rttsMs: [undefined, undefined],
      refused: 0
    })
  })

  it('counts packets that the kernel behind refuses, and does not wait for them', async () => {
    const found = await ping({
      from: A,
      to: { address: B, port: 9 },
      count: 3,
      intervalMs: 20,
      waitMs: 600_000
    })
    assert.deepEqual(found, { rttsMs: [undefined, undefined, undefined], refused: 3 })
  })

  it('names the error of this host, and loses all packets', async () => {
    const far = { address: '192.0.2.1' as Ip, port: PORT }
    // A source on the loopback device cannot leave it.
    const unsendable = await ping({ from: A, to: far, count: 2, intervalMs: 5, waitMs: 50 })
    assert.deepEqual(unsendable.rttsMs, [undefined, undefined])
    assert.notEqual(unsendable.error, undefined)
    const stranger = await ping({ from: '203.0.113.1' as Ip, to, count: 2, intervalMs: 5, waitMs: 50 })
    assert.deepEqual(stranger, { rttsMs: [undefined, undefined], refused: 0, error: 'EADDRNOTAVAIL' })
  })
})
