import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import * as fc from 'fast-check'
import { originOf } from '../../../src/core/model/identity.ts'
import { encodeCall, parseCall, startBeacon } from '../../../src/io/p2p/beacon.ts'
import { eventually } from '../../eventually.ts'
import { freePort } from '../../ports.ts'

const ORIGIN = originOf(new Uint8Array(32).fill(7))

describe('a call on the link', () => {
  it('names who and where, at most four addresses', () => {
    const addresses = Array.from({ length: 6 }, (_, index) => `/ip4/192.168.1.${index + 1}/tcp/7946`)
    assert.deepEqual(parseCall(encodeCall(ORIGIN, addresses)), {
      origin: ORIGIN,
      addresses: addresses.slice(0, 4)
    })
    assert.deepEqual(parseCall(encodeCall(ORIGIN, ['/ip6/2001:db8::1/tcp/1'])), {
      origin: ORIGIN,
      addresses: ['/ip6/2001:db8::1/tcp/1']
    })
  })

  const dropped: readonly (readonly [what: string, message: string, left: readonly string[] | undefined])[] =
    [
      ['nothing', '', undefined],
      ['another protocol', `M-SEARCH * HTTP/1.1\r\n`, undefined],
      ['a name that is no PeerId', `rhizome-here/1 nobody /ip4/192.168.1.1/tcp/7946\n`, undefined],
      [
        'too long a message',
        `rhizome-here/1 ${ORIGIN} ${'/ip4/192.168.1.1/tcp/7946 '.repeat(30)}`,
        undefined
      ],
      ['a name', `rhizome-here/1 ${ORIGIN} /dns4/evil.example.com/tcp/7946\n`, []],
      ['a port of 0', `rhizome-here/1 ${ORIGIN} /ip4/192.168.1.1/tcp/0\n`, []],
      ['a family that does not fit', `rhizome-here/1 ${ORIGIN} /ip6/192.168.1.1/tcp/7946\n`, []],
      ['a PeerId behind the address', `rhizome-here/1 ${ORIGIN} /ip4/192.168.1.1/tcp/7946/p2p/x\n`, []]
    ]
  for (const [what, message, left] of dropped) {
    it(`of ${what} is dropped`, () => {
      assert.deepEqual(parseCall(Buffer.from(message))?.addresses, left)
    })
  }

  it('is taken for addresses on a link of this host only, and never for loopback', async function () {
    const card = Object.values(networkInterfaces())
      .flatMap((list) => list ?? [])
      .find(({ internal, family }) => !internal && family === 'IPv4')
    if (card === undefined) this.skip()
    const own = `/ip4/${card?.address}/tcp/7946`
    const calls: string[] = []
    const port = await freePort()
    const beacon = startBeacon({
      origin: originOf(new Uint8Array(32).fill(8)),
      port,
      addresses: () => [own, '/ip4/127.0.0.1/tcp/7946'],
      isNeeded: () => false,
      onCall: (_, address) => calls.push(address),
      log: () => undefined
    })
    const sender = createSocket('udp4')
    try {
      const told = ['/ip4/127.0.0.1/tcp/22', '/ip4/169.254.169.254/tcp/80', '/ip4/203.0.113.9/tcp/1', own]
      await eventually(() => {
        sender.send(encodeCall(ORIGIN, told), port, '127.0.0.1')
        return calls.length > 0
      })
      assert.deepEqual([...new Set(calls)], [own])
    } finally {
      beacon.stop()
      sender.close()
    }
  })

  it('any bytes are read without an error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        const prefix = Buffer.from(`rhizome-here/1 ${ORIGIN} `)
        for (const message of [bytes, Buffer.concat([prefix, bytes])])
          for (const address of parseCall(message)?.addresses ?? [])
            assert.match(address, /^\/ip[46]\/[^/]+\/tcp\/\d+$/)
      })
    )
  })
})
