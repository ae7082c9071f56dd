import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server } from 'node:net'
import { ownAddressOfConnections, parseLine } from '../../../src/io/p2p/own-sockets.ts'
import { hostPortOf, reachableFirst } from '../../../src/io/p2p/reach.ts'

describe('which address answers', () => {
  const servers: Server[] = []
  afterEach(() => {
    for (const server of servers.splice(0)) server.close()
  })

  async function listening(): Promise<string> {
    const server = createServer((socket) => socket.on('error', () => undefined))
    servers.push(server)
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}`
  }

  const options = { deadlineMs: 3000, signal: new AbortController().signal }

  it('the one that answers comes first, behind any number that do not', async () => {
    const living = await listening()
    const dead = Array.from({ length: 8 }, (_, index) => `/ip4/192.0.2.${index + 1}/tcp/7946`)
    const [first, ...rest] = await reachableFirst([...dead, '/ip4/127.0.0.1/tcp/1', living], options)
    assert.equal(first, living)
    assert.deepEqual(rest, [...dead, '/ip4/127.0.0.1/tcp/1'])
  })

  it('where none answers within the deadline, or the attempt is given up, the order stays', async () => {
    const dead = ['/ip4/127.0.0.1/tcp/1', '/ip4/127.0.0.1/tcp/2', 'nonsense', '/ip4/127.0.0.1/udp/3']
    assert.deepEqual(await reachableFirst(dead, { ...options, deadlineMs: 500 }), dead)
    const given = new AbortController()
    const waiting = reachableFirst(dead, { deadlineMs: 60_000, signal: given.signal })
    given.abort()
    assert.deepEqual(await waiting, dead)
    assert.deepEqual(await reachableFirst([], { ...options, deadlineMs: 50 }), [])
  })

  const addresses: readonly (readonly [address: string, expected: string | undefined])[] = [
    ['/ip4/203.0.113.7/tcp/7946', '203.0.113.7 7946'],
    ['/ip6/2001:db8::7/tcp/1/p2p/12D3KooW', '2001:db8::7 1'],
    ['/dns4/gw.example.com/tcp/7946', 'gw.example.com 7946'],
    ['/ip4/203.0.113.7/udp/7946', undefined],
    ['/ip4/203.0.113.7/tcp/0', undefined],
    ['/ip4/203.0.113.7/tcp/70000', undefined]
  ]
  for (const [address, expected] of addresses) {
    it(`${address} is ${expected ?? 'no address to connect to'}`, () => {
      const found = hostPortOf(address)
      assert.equal(found && `${found.host} ${found.port}`, expected)
    })
  }
})

describe('own addresses of connections', () => {
  const lines: readonly (readonly [line: string, own: string | undefined, remote: string | undefined])[] = [
    [
      '   1: 0B7100CB:1F0A 0C7100CB:8D2E 01 00000000:00000000 00:00000000 00000000',
      '203.0.113.11',
      '203.0.113.12 36142'
    ],
    [
      '   0: B80D0120000000000000000001000000:1F0A B80D0120000000000000000002000000:0050 01 0',
      '2001:db8::1',
      '2001:db8::2 80'
    ],
    [
      '   0: 0000000000000000FFFF00000B7100CB:1F0A 0000000000000000FFFF00000C7100CB:0050 01 0',
      '203.0.113.11',
      '203.0.113.12 80'
    ],
    ['   0: 0100007F:1F0A 00000000:0000 0A 00000000:00000000', undefined, undefined],
    ['  sl  local_address rem_address   st tx_queue', undefined, undefined]
  ]
  for (const [line, own, remote] of lines) {
    it(`reads ${line.slice(0, 60)}`, () => {
      assert.deepEqual(parseLine(line), own === undefined ? undefined : { own, remote })
    })
  }

  it('finds a real connection', async () => {
    const server = createServer((socket) => socket.on('error', () => undefined))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' })
    await once(socket, 'connect')
    assert.equal((await ownAddressOfConnections()).get(`127.0.0.1 ${port}`), '127.0.0.2')
    socket.destroy()
    server.close()
  })
})
