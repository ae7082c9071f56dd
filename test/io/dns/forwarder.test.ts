import assert from 'node:assert/strict'

import { decode, encode } from '@dnsquery/dns-packet'

import { createForwarder } from '../../../src/io/dns/forwarder.ts'
import { frame } from '../../../src/io/dns/framing.ts'
import { parseQuery } from '../../../src/io/dns/query.ts'
import { questionOf } from '../../../src/io/dns/upstream-message.ts'
import { findUpstreams, isOwnAddress, parseResolvConf } from '../../../src/io/dns/upstreams.ts'
import { addressReply, ask, askTcp, askUdp, dig, query, startServer, startUpstream } from './harness.ts'

/** A loopback address where nothing listens on this port: the kernel refuses at once. */
const DEAD = '127.0.0.1:9'

describe('DNS forwarding', () => {
  it('passes a reply on under the id of the client, without authority', async () => {
    const upstream = await startUpstream((message) => addressReply(message, ['192.0.2.7']))
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    try {
      for (const transport of ['+notcp', '+tcp']) {
        const reply = await dig(port, transport, 'www.example.com', 'A')
        assert.equal(reply.status, 'NOERROR')
        assert.deepEqual(reply.records, ['www.example.com. 60 IN A 192.0.2.7'])
        assert.ok(!reply.flags.includes('aa') && reply.flags.includes('ra'))
      }
    } finally {
      await server.stop()
      upstream.stop()
    }
  })

  it('asks under an id and a port of its own, that change', async () => {
    const upstream = await startUpstream((message) => addressReply(message, ['192.0.2.7']))
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    try {
      for (let i = 0; i < 5; i++) await askUdp(port, query('www.example.com', 'A', { id: 7 }))
      const ids = upstream.asked.map(({ message }) => decode(message).id)
      assert.ok(new Set(ids).size > 2, `ids ${ids.join()}`)
      assert.ok(new Set(upstream.asked.map((asked) => asked.port)).size > 2)
    } finally {
      await server.stop()
      upstream.stop()
    }
  })

  it('never forwards a name of the mesh', async () => {
    const upstream = await startUpstream((message) => addressReply(message, ['192.0.2.7']))
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    try {
      for (const name of [
        'nosuch.shop.svc.cluster.east',
        'web.shop.svc.cluster.nowhere',
        '9.9.2.10.in-addr.arpa'
      ]) {
        assert.equal((await ask(port, name, 'A')).rcode, 'NXDOMAIN')
      }
      assert.equal(upstream.asked.length, 0)
      await ask(port, 'kubernetes.default.svc.cluster.local', 'A')
      assert.equal(upstream.asked.length, 1)
    } finally {
      await server.stop()
      upstream.stop()
    }
  })

  it('goes on to the next upstream when one is dead or silent, and asks it last from then on', async () => {
    let silentAsked = 0
    const silent = await startUpstream(() => {
      silentAsked++
      return undefined
    })
    const upstream = await startUpstream((message) => addressReply(message, ['192.0.2.7']))
    const { server, port } = await startServer({
      upstreams: [DEAD, silent.address, upstream.address],
      upstreamTimeoutMs: 200
    })
    try {
      for (let i = 0; i < 3; i++) {
        const { answers = [] } = await ask(port, 'www.example.com', 'A')
        assert.deepEqual(
          answers.map(({ data }) => data),
          ['192.0.2.7']
        )
      }
      assert.equal(silentAsked, 1)
    } finally {
      await server.stop()
      upstream.stop()
      silent.stop()
    }
  })

  it('answers SERVFAIL when every upstream fails', async () => {
    const silent = await startUpstream(() => undefined)
    const { server, port } = await startServer({ upstreams: [DEAD, silent.address], upstreamTimeoutMs: 100 })
    try {
      assert.equal((await ask(port, 'www.example.com', 'A')).rcode, 'SERVFAIL')
      const [reply] = await askTcp(port, [frame(query('www.example.com', 'A'))], 1)
      assert.equal(decode(reply ?? new Uint8Array()).rcode, 'SERVFAIL')
    } finally {
      await server.stop()
      silent.stop()
    }
  })

  it('ignores replies with another id or another question', async () => {
    for (const forge of [
      (reply: Uint8Array) => reply.fill((reply[0] ?? 0) ^ 1, 0, 1),
      (reply: Uint8Array) => reply.fill(0x7a, 13, 14),
      (reply: Uint8Array) => reply.fill((reply[2] ?? 0) & 0x7f, 2, 3),
      (reply: Uint8Array) => reply.subarray(0, 5)
    ]) {
      const upstream = await startUpstream((message) => forge(addressReply(message, ['192.0.2.66'])))
      const { server, port } = await startServer({ upstreams: [upstream.address], upstreamTimeoutMs: 100 })
      try {
        assert.equal((await ask(port, 'www.example.com', 'A')).rcode, 'SERVFAIL')
      } finally {
        await server.stop()
        upstream.stop()
      }
    }
  })

  it('truncates a reply that is longer than the client takes, and gives all over TCP', async () => {
    const many = Array.from({ length: 60 }, (_, i) => `192.0.2.${i}`)
    const upstream = await startUpstream((message) => addressReply(message, many))
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    try {
      const reply = await dig(port, '+noedns', 'www.example.com', 'A')
      assert.equal(reply.records.length, 60)
      const cut = await dig(port, '+noedns', '+ignore', 'www.example.com', 'A')
      assert.ok(cut.flags.includes('tc'))
    } finally {
      await server.stop()
      upstream.stop()
    }
  })

  it('bounds the queries under way', async () => {
    const silent = await startUpstream(() => undefined)
    const { upstreams } = findUpstreams([silent.address])
    const forwarder = createForwarder({ upstreams, inFlightMax: 2 })
    const exchange = (name: string) => forwarder.exchange(asked(name), '192.0.2.50')
    const waiting = ['one.example.com', 'two.example.com'].map(exchange)
    try {
      assert.equal(await exchange('three.example.com'), undefined)
      assert.equal(forwarder.inFlight, 2)
    } finally {
      forwarder.stop()
      assert.deepEqual(await Promise.all(waiting), [undefined, undefined])
      assert.equal(forwarder.inFlight, 0)
      silent.stop()
    }
  })

  it('one TCP client cannot take every place', async () => {
    let most = 0
    const silent = await startUpstream((_, transport) => {
      if (transport === 'tcp') most++
      return undefined
    })
    const { server, port } = await startServer({ upstreams: [silent.address], upstreamTimeoutMs: 300 })
    try {
      const queries = Array.from({ length: 200 }, (_, id) => frame(query('www.example.com', 'A', { id })))
      const replies = await askTcp(port, queries, 32)
      assert.ok(replies.length >= 32 && replies.length < 200)
      assert.ok(most < 100, `${most} at once`)
    } finally {
      await server.stop()
      silent.stop()
    }
  })

  it('leaves out an upstream that is itself, and says so', async () => {
    const warnings: string[] = []
    const probe = await startServer()
    await probe.server.stop()
    const { server, port } = await startServer({
      listen: [{ address: '127.0.0.1', port: probe.port }],
      upstreams: [`127.0.0.1:${probe.port}`],
      onWarning: (text) => warnings.push(text)
    })
    try {
      assert.equal((await ask(port, 'www.example.com', 'A')).rcode, 'REFUSED')
      assert.match(warnings.join(), /itself/)
    } finally {
      await server.stop()
    }
  })
})

function asked(name: string, client: { readonly udpBytes?: number } = {}) {
  const parsed = parseQuery(query(name, 'A', client))
  assert.ok(parsed.kind === 'query')
  return questionOf(parsed.query, 'udp')
}

describe('ExternalName', () => {
  it('is resolved upstream and joined to the CNAME', async () => {
    const upstream = await startUpstream((message) => addressReply(message, ['192.0.2.7', '192.0.2.8']))
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    try {
      const { status, records, flags } = await dig(port, 'pay.shop.svc.cluster.east', 'A')
      assert.equal(status, 'NOERROR')
      assert.ok(flags.includes('aa'))
      assert.deepEqual(records, [
        'pay.shop.svc.cluster.east. 5 IN CNAME pay.example.com.',
        'pay.example.com. 60 IN A 192.0.2.7',
        'pay.example.com. 60 IN A 192.0.2.8'
      ])
    } finally {
      await server.stop()
      upstream.stop()
    }
  })

  it('comes over TCP when the upstream truncates', async () => {
    const upstream = await startUpstream((message, transport) =>
      transport === 'udp' ? addressReply(message, [], 0x380) : addressReply(message, ['192.0.2.9'])
    )
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    try {
      const { answers = [] } = await ask(port, 'pay.shop.svc.cluster.east', 'A')
      assert.deepEqual(
        answers.map(({ data }) => data),
        ['pay.example.com', '192.0.2.9']
      )
    } finally {
      await server.stop()
      upstream.stop()
    }
  })

  it('is the CNAME alone when no upstream answers, or with nonsense', async () => {
    const nonsense = await startUpstream((message) => {
      const reply = addressReply(message, ['192.0.2.7'])
      return reply.subarray(0, reply.length - 6)
    })
    for (const upstreams of [[DEAD], [nonsense.address]]) {
      const { server, port } = await startServer({ upstreams, upstreamTimeoutMs: 100 })
      try {
        const { rcode, answers = [] } = await ask(port, 'pay.shop.svc.cluster.east', 'A')
        assert.deepEqual([rcode, answers.map(({ data }) => data)], ['NOERROR', ['pay.example.com']])
      } finally {
        await server.stop()
      }
    }
    nonsense.stop()
  })

  it('is the CNAME alone when its target does not exist', async () => {
    const upstream = await startUpstream((message) => addressReply(message, [], 0x183))
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    try {
      const { status, records } = await dig(port, 'pay.shop.svc.cluster.east', 'A')
      assert.equal(status, 'NOERROR')
      assert.deepEqual(records, ['pay.shop.svc.cluster.east. 5 IN CNAME pay.example.com.'])
    } finally {
      await server.stop()
      upstream.stop()
    }
  })

  it('takes no records but addresses and aliases from an upstream', async () => {
    const upstream = await startUpstream((message) => {
      const { id = 0, questions = [] } = decode(message)
      return encode({
        type: 'response',
        id,
        flags: 0x180,
        questions,
        answers: [
          { name: 'pay.example.com', type: 'TXT', ttl: 60, data: 'x' },
          { name: 'pay.example.com', type: 'A', ttl: 60, data: '192.0.2.7' }
        ]
      })
    })
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    try {
      const { answers = [] } = await ask(port, 'pay.shop.svc.cluster.east', 'A')
      assert.deepEqual(
        answers.map(({ type }) => type),
        ['CNAME', 'A']
      )
    } finally {
      await server.stop()
      upstream.stop()
    }
  })
})

describe('upstreams', () => {
  it('are addresses, with or without a port', () => {
    assert.deepEqual(findUpstreams(['10.0.0.2', '10.0.0.3:5353', 'fd00::2', '[fd00::3]:54']).upstreams, [
      { address: '10.0.0.2', port: 53 },
      { address: '10.0.0.3', port: 5353 },
      { address: 'fd00::2', port: 53 },
      { address: 'fd00::3', port: 54 }
    ])
  })

  for (const bad of ['dns.example', '10.0.0.2:0', '10.0.0.2:99999', '[10.0.0.2]:53', '']) {
    it(`rejects ${JSON.stringify(bad)}`, () => {
      assert.throws(() => findUpstreams([bad]), { code: 'BAD_UPSTREAM' })
    })
  }

  it('come from resolv.conf, three at most', () => {
    const text =
      '# x\nsearch a.b\nnameserver 10.0.0.2\n nameserver fe80::1%eth0\nnameserver nonsense\noptions ndots:5\n'
    assert.deepEqual(
      parseResolvConf(text).map(({ address }) => address),
      ['10.0.0.2', 'fe80::1%eth0']
    )
    assert.equal(parseResolvConf('nameserver 10.0.0.2\n'.repeat(9)).length, 3)
  })

  it('are ourselves on the same address, or on any local one behind a wildcard', () => {
    const at = (address: string, port = 53) => ({ address, port })
    assert.ok(isOwnAddress(at('10.0.0.2'), [at('10.0.0.2')]))
    assert.ok(isOwnAddress(at('127.0.0.53'), [at('0.0.0.0')]))
    assert.ok(!isOwnAddress(at('127.0.0.53'), [at('127.0.0.1')]))
    assert.ok(!isOwnAddress(at('10.0.0.2', 5353), [at('10.0.0.2')]))
    assert.ok(!isOwnAddress(at('192.0.2.1'), [at('0.0.0.0')]))
  })
})
