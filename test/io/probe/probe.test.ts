import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { startProber, ProbeError, type Prober } from '../../../src/io/probe/probe.ts'
import type { Ip } from '../../../src/core/model.ts'
import { eventually } from '../../eventually.ts'

const A = '127.0.0.71' as Ip
const B = '127.0.0.72' as Ip

describe('probe', () => {
  const running: Prober[] = []
  const start = async (address: Ip, port: number): Promise<Prober> => {
    const prober = await startProber({ address, port, intervalMs: 20 })
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
    await eventually(() => (a.result(dead)?.unanswered ?? 0) > 2)
    assert.equal(a.result(dead)?.lastReplyMs, undefined)
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
    assert.match(await fixOf('192.0.2.77' as Ip, 17948), /setting node-address/)
    await start(A, 17949)
    assert.match(await fixOf(A, 17949), /setting probe-port/)
  })
})
