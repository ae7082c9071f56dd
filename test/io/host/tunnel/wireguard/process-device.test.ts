// The socket of wireguard-go: what is read of it, and that no answer keeps the agent waiting.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readProcessDevice } from '../../../../../src/io/host/tunnel/wireguard/process-device.ts'

const PRIVATE = '77076d0a7318a57d3c16c17251b26645d6a0b8c4b1d2a1e1b8d7f2c5c3d7a52a'
const PEER = 'de'.repeat(32)

describe('the socket of wireguard-go', () => {
  let folder: string
  let path: string
  let server: Server | undefined

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'rhizome-uapi-'))
    path = join(folder, 'wg.sock')
  })

  afterEach(() => {
    server?.close()
    rmSync(folder, { recursive: true })
  })

  /** Answers each connection with the chunks, and keeps it open. */
  function answer(...chunks: readonly string[]): Promise<void> {
    server = createServer((socket) => {
      socket.on('error', () => undefined)
      for (const chunk of chunks) socket.write(chunk)
    })
    server.unref()
    return new Promise((resolve) => server?.listen(path, resolve))
  }

  it('gives the device and its peers, also when the answer comes in pieces', async () => {
    await answer(
      `private_key=${PRIVATE}\nlisten_port=51820\nfwmark=8192\npublic_key=${PEER}\npreshared_key=${'0'.repeat(64)}\n`,
      'protocol_version=1\nendpoint=[2001:db8::7]:99\nlast_handshake_time_sec=17\nlast_handshake_time_nsec=5\n',
      'tx_bytes=3\nrx_bytes=4\npersistent_keepalive_interval=25\nallowed_ip=10.2.0.0/16\nallowed_ip=10.1.0.0/16\nerrno=0\n',
      '\n'
    )
    const { publicKey, ...device } = await readProcessDevice(path)
    assert.match(publicKey ?? '', /^[A-Za-z0-9+/]{43}=$/)
    assert.deepEqual(device, {
      listenPort: 51820,
      fwmark: 8192,
      peers: [
        {
          publicKey: Buffer.from(PEER, 'hex').toString('base64'),
          peerAddress: '[2001:db8::7]:99',
          allowedIps: ['10.1.0.0/16', '10.2.0.0/16'],
          lastHandshakeSeconds: 17,
          rxBytes: 4,
          txBytes: 3,
          keepaliveSeconds: 25
        }
      ]
    })
  })

  it('gives a new device, which has no key', async () => {
    await answer('listen_port=0\nerrno=0\n\n')
    assert.deepEqual(await readProcessDevice(path), {
      publicKey: undefined,
      listenPort: 0,
      fwmark: 0,
      peers: []
    })
  })

  for (const [what, text] of [
    ['an error', 'errno=5\n\n'],
    ['no end', 'listen_port=1\n'],
    ['nothing', ''],
    ['a number that is none', 'listen_port=many\nerrno=0\n\n'],
    ['a key that is none', `private_key=${PRIVATE.slice(1)}\nerrno=0\n\n`],
    ['a peer with a prefix that is none', `public_key=${PEER}\nallowed_ip=10.0.0.0/99\nerrno=0\n\n`],
    ['other bytes', '\u0000\uFFFD\n\n']
  ] as const)
    it(`is left to wg where it answers with ${what}, and the error has no key`, async () => {
      await answer(text)
      await assert.rejects(
        readProcessDevice(path),
        (error: Error) => !error.message.includes(PRIVATE.slice(4)) && !error.message.includes(PEER)
      )
    })

  it('is left to wg where there is none', async () => {
    await assert.rejects(readProcessDevice(path), { code: 'ENOENT' })
  })
})
