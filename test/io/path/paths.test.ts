// The socket that stands for a carried peer, and the try of direct, beside sockets that play WireGuard.
import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import type { PeerAddress } from '../../../src/core/model/values.ts'
import { CarrierSocket } from '../../../src/io/path/carrier-socket.ts'
import { tryDirect } from '../../../src/io/path/direct-try.ts'
import { eventually } from '../../eventually.ts'

interface Heard {
  readonly text: string
  readonly from: { readonly address: string; readonly port: number }
}

describe('the sockets of paths', () => {
  const open: { close(): unknown }[] = []
  afterEach(() => {
    for (const each of open.splice(0)) each.close()
  })

  async function udp(address: string): Promise<{ socket: Socket; port: number; heard: Heard[] }> {
    const socket = createSocket('udp4')
    open.push(socket)
    const heard: Heard[] = []
    socket.on('message', (bytes, from) => heard.push({ text: String(bytes), from }))
    socket.bind(0, address)
    await once(socket, 'listening')
    return { socket, port: socket.address().port, heard }
  }

  it('a carrier socket hands datagrams to WireGuard, takes its answers, and hears no other program', async () => {
    const wireguard = await udp('127.0.0.1')
    const other = await udp('127.0.0.1')
    const got: string[] = []
    const carrier = new CarrierSocket({
      wireguardPort: wireguard.port,
      onDatagram: (datagram) => got.push(String(Buffer.from(datagram))),
      onChange: (error) => assert.equal(error, undefined)
    })
    open.push(carrier)
    carrier.deliver(Buffer.from('before it is bound'))
    await eventually(() => wireguard.heard.length === 1 && carrier.address !== undefined)
    const [first] = wireguard.heard
    assert.equal(`${first?.from.address}:${first?.from.port}`, carrier.address)
    other.socket.send('of another program', first?.from.port, first?.from.address)
    wireguard.socket.send('of WireGuard', first?.from.port, first?.from.address)
    await eventually(() => got.length > 0)
    assert.deepEqual(got, ['of WireGuard'])
    carrier.close()
    carrier.deliver(Buffer.from('after the end'))
    assert.equal(carrier.address, undefined)
  })

  it('a try ends with the address that answered, and ignores what is no answer', async () => {
    const [deaf, good, liar] = await Promise.all([udp('127.0.0.1'), udp('127.0.0.1'), udp('127.0.0.1')])
    good.socket.on('message', (_, { port, address }) => {
      liar.socket.send('answer', port, address)
      good.socket.send('no answer', port, address)
      good.socket.send('answer', port, address)
    })
    const address = ({ port }: { port: number }) => `127.0.0.1:${port}` as PeerAddress
    const ended = await new Promise<{ address: PeerAddress; datagram: Uint8Array } | undefined>((resolve) =>
      tryDirect({
        addresses: [address(deaf), address(good), 'no address' as PeerAddress],
        datagram: Buffer.from('data'),
        waitMs: 60_000,
        isAnswer: (datagram) => String(Buffer.from(datagram)) === 'answer',
        onEnd: resolve
      })
    )
    assert.equal(ended?.address, address(good))
    assert.deepEqual(
      [deaf, good].map(({ heard }) => heard.map(({ text }) => text)),
      [['data'], ['data']]
    )
  })

  it('a try without an answer ends in time, and one that is ended says nothing', async () => {
    const options = {
      addresses: ['127.0.0.1:9' as PeerAddress],
      datagram: Buffer.from('data'),
      isAnswer: () => true
    }
    assert.equal(
      await new Promise((resolve) => tryDirect({ ...options, waitMs: 20, onEnd: resolve })),
      undefined
    )
    const end = tryDirect({ ...options, waitMs: 10, onEnd: () => assert.fail('it was ended') })
    end()
    await new Promise((resolve) => setTimeout(resolve, 30))
  })
})
