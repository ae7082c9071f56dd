import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import type { Ip } from '../../src/core/model/values.ts'
import { FrameReader, frameHeader } from '../../src/io/p2p/frame-reader.ts'
import { startProber, type Prober } from '../../src/io/probe/probe.ts'
import { eventually } from '../eventually.ts'
import type { Random } from '../sim/random.ts'
import { budget, fuzz } from './fuzz.ts'
import { changeBytes, concat, noise } from './mutate.ts'

describe('hostile streams', () => {
  it('are cut into the same frames however they are chunked, up to the first that is too large', async function () {
    const { cases, timeoutMs } = budget(1500)
    this.timeout(timeoutMs)
    const most = 2000
    await fuzz('FrameReader', {
      cases,
      make: (random) => {
        const frames = Array.from({ length: random.below(8) }, () => noise(random, random.below(600)))
        const sound = concat(...frames.flatMap((frame) => [frameHeader(frame.length), frame]))
        const bytes = random.chance(0.7) ? changeBytes(random, sound, sound) : sound
        return { bytes, chunks: chunksOf(random, bytes) }
      },
      bytesOf: ({ bytes }) => [bytes],
      act: ({ bytes, chunks }) => {
        const wanted = framesIn(bytes, most)
        const reader = new FrameReader(most)
        const got: Uint8Array[] = []
        let tooLarge = false
        for (const chunk of chunks) {
          reader.push(chunk)
          for (let next = reader.next(); next.kind !== 'more'; next = reader.next()) {
            if (next.kind === 'frame') {
              assert.ok(!tooLarge, 'a frame after one that was too large')
              got.push(next.frame)
              continue
            }
            tooLarge = true
            break
          }
        }
        assert.deepEqual({ frames: got, tooLarge }, wanted)
      }
    })
  })
})

describe('hostile probe packets', () => {
  const A = '127.0.0.81' as Ip
  let prober: Prober | undefined
  let stranger: Socket | undefined
  afterEach(async () => {
    stranger?.close()
    await prober?.stop()
  })

  it('are answered only when they are requests, never with more than they brought, and prove no peer alive', async function () {
    const { cases, timeoutMs } = budget(600)
    this.timeout(timeoutMs)
    const socket = createSocket('udp4')
    stranger = socket
    socket.bind(0, '127.0.0.82')
    await once(socket, 'listening')
    prober = await startProber({ address: A, port: 17981, intervalMs: 50 })
    prober.setTargets([{ address: '127.0.0.82' as Ip, port: 9 }])
    const heard: string[] = []
    socket.on('message', (packet) => heard.push(packet.toString('hex')))
    const wanted: string[] = []
    await fuzz('probe', {
      cases,
      make: (random) => {
        const sound = concat(
          new TextEncoder().encode('rzp1'),
          Uint8Array.of(random.below(2)),
          noise(random, 8)
        )
        return random.chance(0.8) ? changeBytes(random, sound, sound) : sound
      },
      bytesOf: (packet) => [packet],
      act: async (packet) => {
        const hex = Buffer.from(packet).toString('hex')
        // Padding of a request comes back, up to the largest packet that measures a path.
        const isRequest = packet.length >= 13 && hex.startsWith('727a703100')
        if (isRequest) wanted.push(`727a703101${hex.slice(10)}`)
        await new Promise((resolve) => socket.send(packet, 17981, A, resolve))
        // One at a time: a full socket buffer would lose some.
        if (isRequest) await eventually(() => heard.length >= wanted.length)
      }
    })
    socket.send(Buffer.from('727a7031000000000000000000', 'hex'), 17981, A)
    await eventually(() => heard.at(-1) === '727a7031010000000000000000')
    assert.deepEqual(heard.slice(0, -1), wanted)
    assert.equal(prober.result('127.0.0.82' as Ip)?.lastReplyMs, undefined)
  })
})

function chunksOf(random: Random, bytes: Uint8Array): readonly Uint8Array[] {
  const chunks: Uint8Array[] = []
  const size = random.pick([1, 3, 50, 5000])
  for (let at = 0; at < bytes.length;) {
    const end = at + 1 + random.below(size)
    chunks.push(bytes.subarray(at, end))
    at = end
  }
  return chunks
}

/** The plain reading of the format. */
function framesIn(bytes: Uint8Array, most: number): { frames: readonly Uint8Array[]; tooLarge: boolean } {
  const frames: Uint8Array[] = []
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(0)
    if (length > most) return { frames, tooLarge: true }
    if (at + 4 + length > bytes.length) break
    frames.push(bytes.slice(at + 4, at + 4 + length))
    at += 4 + length
  }
  return { frames, tooLarge: false }
}
