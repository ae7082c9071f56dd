import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

import { decode } from '@dnsquery/dns-packet'
import * as fc from 'fast-check'

import { createNames } from '../../../src/core/dns/names.ts'
import { DnsError } from '../../../src/io/dns/errors.ts'
import { frame } from '../../../src/io/dns/framing.ts'
import type { QueryMetrics } from '../../../src/io/dns/query-handler.ts'
import { createDnsServer } from '../../../src/io/dns/server.ts'
import { cluster, endpoint, meshOf, port as portOf, service, slice } from '../../core/dns/fixtures.ts'
import {
  ask,
  askTcp,
  askUdp,
  DEADLINE_MS,
  dig,
  eventually,
  query,
  startServer,
  type Running
} from './harness.ts'

describe('DNS server, asked with dig', () => {
  let running: Running
  const many = Array.from({ length: 200 }, (_, i) => endpoint(`10.1.1.${i + 1}`))
  const names = createNames({
    view: meshOf(
      cluster('east', {
        services: [
          service('shop/web', ['10.2.0.1', '10.2.0.2'], { ports: [portOf('http', 80)] }),
          service('shop/six', ['fd00::6']),
          service('shop/many', [], { headless: true }, slice(many, [portOf('http', 80)])),
          service('shop/pay', [], { externalName: 'pay.example.com' })
        ]
      }),
      cluster('west', { complete: false })
    ),
    serverAddresses: [endpoint('10.1.0.2').addresses[0]!]
  })

  before(async () => {
    running = await startServer({ names: () => names })
  })
  after(() => running.server.stop())

  for (const transport of ['+notcp', '+tcp']) {
    it(`answers A with authority ${transport}`, async () => {
      const reply = await dig(running.port, transport, 'web.shop.svc.cluster.east', 'A')
      assert.equal(reply.status, 'NOERROR')
      assert.deepEqual(reply.flags, ['qr', 'aa', 'rd'])
      assert.deepEqual([...reply.records].sort(), [
        'web.shop.svc.cluster.east. 5 IN A 10.2.0.1',
        'web.shop.svc.cluster.east. 5 IN A 10.2.0.2'
      ])
      assert.match(reply.edns ?? '', /udp: 1232/)
    })

    it(`answers SRV with its addresses ${transport}`, async () => {
      const { records } = await dig(running.port, transport, '_http._tcp.web.shop.svc.cluster.east', 'SRV')
      assert.deepEqual([...records].sort(), [
        '_http._tcp.web.shop.svc.cluster.east. 5 IN SRV 0 50 80 web.shop.svc.cluster.east.',
        'web.shop.svc.cluster.east. 5 IN A 10.2.0.1',
        'web.shop.svc.cluster.east. 5 IN A 10.2.0.2'
      ])
    })

    it(`denies with the SOA ${transport}`, async () => {
      const { status, records } = await dig(running.port, transport, 'nosuch.shop.svc.cluster.east', 'A')
      assert.equal(status, 'NXDOMAIN')
      assert.deepEqual(records, [
        'cluster.east. 5 IN SOA ns.dns.cluster.east. hostmaster.cluster.east. 1 7200 1800 86400 5'
      ])
    })
  }

  for (const [args, records] of [
    [['six.shop.svc.cluster.east', 'AAAA'], ['six.shop.svc.cluster.east. 5 IN AAAA fd00::6']],
    [['dns-version.cluster.east', 'TXT'], ['dns-version.cluster.east. 28800 IN TXT "1.1.0"']],
    [['-x', '10.2.0.1'], ['1.0.2.10.in-addr.arpa. 5 IN PTR web.shop.svc.cluster.east.']],
    [['pay.shop.svc.cluster.east', 'A'], ['pay.shop.svc.cluster.east. 5 IN CNAME pay.example.com.']],
    [
      ['cluster.east', 'NS'],
      ['cluster.east. 5 IN NS ns.dns.cluster.east.', 'ns.dns.cluster.east. 5 IN A 10.1.0.2']
    ]
  ] as const) {
    it(`answers ${args.join(' ')}`, async () => {
      assert.deepEqual((await dig(running.port, ...args)).records, records)
    })
  }

  it('keeps the case of the question', async () => {
    const { records, text } = await dig(running.port, 'SiX.shop.SVC.cluster.EAST', 'AAAA')
    assert.deepEqual(records, ['SiX.shop.SVC.cluster.EAST. 5 IN AAAA fd00::6'])
    assert.match(text, /;SiX\.shop\.SVC\.cluster\.EAST\./)
  })

  it('answers SERVFAIL without authority before the first sync', async () => {
    const { status, flags } = await dig(running.port, 'web.shop.svc.cluster.west', 'A')
    assert.deepEqual([status, flags], ['SERVFAIL', ['qr', 'rd']])
  })

  it('refuses names that are not ours when it has no upstream', async () => {
    assert.equal((await dig(running.port, 'example.com', 'A')).status, 'REFUSED')
  })

  it('refuses other classes and zone transfers', async () => {
    assert.equal((await dig(running.port, '-c', 'CH', 'version.bind', 'TXT')).status, 'REFUSED')
    assert.match((await dig(running.port, 'cluster.east', 'AXFR')).text, /Transfer failed/)
  })

  it('answers BADVERS to a later EDNS version', async () => {
    assert.equal((await dig(running.port, '+edns=1', '+noednsneg', 'cluster.east', 'SOA')).status, 'BADVERS')
  })

  it('has the low bits of BADVERS in the header, and the high bits and version 0 in an OPT record, without records', async () => {
    for (const name of ['cluster.east', 'example.com', 'nowhere.cluster.east']) {
      const message = query(name, 'A', { udpBytes: 1232 })
      message[message.length - 5] = 1 // the version of the OPT record, which has no options
      const [overTcp] = await askTcp(running.port, [frame(message)], 1)
      for (const reply of [await askUdp(running.port, message), overTcp]) {
        assert.ok(reply)
        // Rcode 16 is 0 in the header (RFC 6891, 6.1.3): a reader that ignores the OPT record sees NOERROR.
        assert.equal((reply[3] ?? 0) & 15, 0, name)
        assert.deepEqual([...reply.subarray(6, 12)], [0, 0, 0, 0, 0, 1], 'only the OPT record')
        assert.deepEqual([...reply.subarray(-11)], [0, 0, 41, 1232 >> 8, 1232 & 255, 1, 0, 0, 0, 0, 0])
      }
    }
  })

  it('copies the DO bit and drops unknown options', async () => {
    const { edns } = await dig(running.port, '+dnssec', '+nsid', 'cluster.east', 'SOA')
    assert.match(edns ?? '', /flags: do; udp: 1232/)
  })

  for (const [args, most] of [
    [['+noedns'], 512],
    [['+bufsize=700'], 700],
    [['+bufsize=4096'], 1232]
  ] as const) {
    it(`truncates at ${most} bytes with ${args.join(' ')}, and gives all over TCP`, async () => {
      const name = 'many.shop.svc.cluster.east'
      const cut = await dig(running.port, ...args, '+ignore', name, 'A')
      assert.ok(cut.flags.includes('tc'))
      const size = Number(/MSG SIZE +rcvd: +(\d+)/.exec(cut.text)?.[1])
      assert.ok(size <= most && size > most - 60, `${size} of ${most} bytes`)
      const whole = await dig(running.port, ...args, name, 'A')
      assert.equal(whole.records.length, 200)
      assert.equal(new Set(whole.records).size, 200)
    })
  }

  it('leaves out addresses beside an SRV answer rather than truncate it', async () => {
    const question = ['+ignore', '10-1-1-1.many.shop.svc.cluster.east', 'SRV']
    assert.equal((await dig(running.port, '+noedns', ...question)).records.length, 2)
    const reply = await askUdp(running.port, query('many.shop.svc.cluster.east', 'SRV', { udpBytes: 1232 }))
    const { flag_tc, additionals = [] } = decode(reply ?? new Uint8Array())
    assert.equal(flag_tc, true)
    assert.deepEqual(
      additionals.map(({ type }) => type),
      ['OPT']
    )
  })

  it('puts each of several addresses first, now and then', async () => {
    const first = new Set<unknown>()
    for (let i = 0; i < 200 && first.size < 2; i++) {
      const { answers = [] } = await ask(running.port, 'web.shop.svc.cluster.east', 'A')
      assert.equal(new Set(answers.map(({ data }) => data)).size, 2)
      first.add(answers[0]?.data)
    }
    assert.equal(first.size, 2)
  })
})

describe('DNS server and its names', () => {
  it('answers from the latest names', async () => {
    const one = createNames({
      view: meshOf(cluster('east', { services: [service('shop/web', ['10.2.0.1'])] }))
    })
    const two = createNames({
      view: meshOf(cluster('east', { services: [service('shop/web', ['10.2.0.9'])] }))
    })
    let current = one
    const { server, port } = await startServer({ names: () => current })
    try {
      const web = async () =>
        (await ask(port, 'web.shop.svc.cluster.east', 'A')).answers?.map(({ data }) => data)
      assert.deepEqual(await web(), ['10.2.0.1'])
      assert.deepEqual(await web(), ['10.2.0.1'])
      current = two
      assert.deepEqual(await web(), ['10.2.0.9'])
    } finally {
      await server.stop()
    }
  })

  it('a name that cannot be encoded spoils itself alone', async () => {
    const broken = slice([endpoint('10.1.0.1', 'x'.repeat(64))], [portOf('http', 80)])
    const view = meshOf(
      cluster('east', {
        services: [service('shop/bad', [], { headless: true }, broken), service('shop/web', ['10.2.0.1'])]
      })
    )
    const names = createNames({ view })
    const warnings: string[] = []
    const { server, port } = await startServer({
      names: () => names,
      onWarning: (text) => warnings.push(text)
    })
    try {
      assert.equal((await ask(port, 'bad.shop.svc.cluster.east', 'SRV')).rcode, 'SERVFAIL')
      assert.equal((await ask(port, 'web.shop.svc.cluster.east', 'A')).rcode, 'NOERROR')
      assert.equal(warnings.length, 1)
    } finally {
      await server.stop()
    }
  })

  it('reports every query with labels from a bounded set', async () => {
    const seen: QueryMetrics[] = []
    const { server, port } = await startServer({ onQuery: (metrics) => seen.push(metrics) })
    try {
      await ask(port, 'web.shop.svc.cluster.east', 'A')
      await ask(port, 'web.shop.svc.cluster.nowhere', 'A')
      await ask(port, 'example.com', 'NAPTR')
      assert.deepEqual(
        seen.map(({ transport, zone, type, rcode, outcome }) =>
          [transport, zone, type, rcode, outcome].join(' ')
        ),
        [
          'udp cluster.east A NOERROR answered',
          'udp unknown A NXDOMAIN answered',
          'udp none other REFUSED rejected'
        ]
      )
    } finally {
      await server.stop()
    }
  })
})

describe('DNS server and hostile bytes', () => {
  let running: Running
  before(async () => {
    running = await startServer()
  })
  after(() => running.server.stop())

  const valid = query('web.shop.svc.cluster.east', 'A', { udpBytes: 1232 })
  const patched = (offset: number, ...bytes: readonly number[]) => {
    const copy = Uint8Array.from(valid)
    copy.set(bytes, offset)
    return copy
  }

  for (const [why, message, rcode] of [
    ['two questions', patched(4, 0, 2), 'FORMERR'],
    ['no question', patched(4, 0, 0), 'FORMERR'],
    ['a question cut short', valid.subarray(0, 20), 'FORMERR'],
    ['a header alone', patched(10, 0, 0).subarray(0, 12), 'FORMERR'],
    ['a compressed question', patched(12, 0xc0, 12), 'FORMERR'],
    ['a label of 64 bytes', patched(12, 64), 'FORMERR'],
    ['an OPT cut short', valid.subarray(0, valid.length - 3), 'FORMERR'],
    ['65535 additional records', patched(10, 0xff, 0xff), 'FORMERR'],
    ['opcode STATUS', patched(2, 0x10), 'NOTIMP'],
    ['opcode UPDATE', patched(2, 0x28), 'NOTIMP']
  ] as const) {
    it(`answers ${rcode} to ${why}`, async () => {
      const reply = await askUdp(running.port, message)
      assert.ok(reply !== undefined, 'no answer')
      assert.equal(decode(reply).rcode, rcode)
      assert.equal(decode(reply).id, 7)
    })
  }

  for (const [why, message] of [
    ['a response', patched(2, 0x81)],
    ['less than a header', valid.subarray(0, 11)],
    ['nothing', new Uint8Array()]
  ] as const) {
    it(`does not answer ${why}`, async () => {
      assert.equal(await askUdp(running.port, message, 100), undefined)
    })
  }

  it('a label with a dot in it is one label', async () => {
    const bytes = query('web-shop.svc.cluster.east', 'A')
    bytes[12 + 1 + 3] = 0x2e
    const reply = await askUdp(running.port, bytes)
    // Two labels would be the service web in shop.
    assert.equal(decode(reply ?? new Uint8Array()).rcode, 'NXDOMAIN')
  })

  it('survives random bytes and mutated queries, and still answers', async function () {
    const mutated = fc
      .tuple(
        fc.constantFrom(
          valid,
          query('_http._tcp.web.shop.svc.cluster.all', 'SRV'),
          query('1.0.2.10.in-addr.arpa', 'PTR'),
          query('example.com', 'A')
        ),
        fc.array(fc.tuple(fc.nat(79), fc.nat(255)), { maxLength: 6 }),
        fc.nat(80)
      )
      .map(([bytes, changes, keep]) => {
        const copy = Uint8Array.from(bytes)
        for (const [at, byte] of changes) copy[at % copy.length] = byte
        return copy.subarray(0, Math.max(1, keep))
      })
    const messages = fc.sample(fc.oneof(fc.uint8Array({ maxLength: 600 }), mutated), 4000)
    const socket = createSocket('udp4')
    socket.bind(0, '127.0.0.1')
    await once(socket, 'listening', { signal: AbortSignal.timeout(DEADLINE_MS) })
    let answers = 0
    socket.on('message', (reply) => {
      answers++
      decode(reply)
    })
    try {
      for (let i = 0; i < messages.length; i += 100) {
        for (const message of messages.slice(i, i + 100)) socket.send(message, running.port, '127.0.0.1')
        assert.equal((await ask(running.port, 'web.shop.svc.cluster.east', 'A')).rcode, 'NOERROR')
      }
      assert.ok(answers > 500, `${answers} answers`)
      for (const message of messages.slice(0, 200)) {
        const tcp = connect(running.port, '127.0.0.1')
        tcp.on('error', () => tcp.destroy())
        tcp.end(message)
      }
      assert.equal((await askTcp(running.port, [frame(valid)], 1)).length, 1)
    } finally {
      socket.close()
    }
  })
})

describe('DNS server over TCP', () => {
  let running: Running
  before(async () => {
    running = await startServer()
  })
  after(() => running.server.stop())

  it('answers pipelined queries, however the stream is cut', async () => {
    const framed = Array.from({ length: 100 }, (_, id) =>
      frame(query('web.shop.svc.cluster.east', 'A', { id }))
    )
    const stream = Buffer.concat(framed)
    const parts = Array.from({ length: Math.ceil(stream.length / 7) }, (_, i) =>
      stream.subarray(7 * i, 7 * i + 7)
    )
    const replies = await askTcp(running.port, parts, 100)
    assert.deepEqual(
      replies.map((reply) => decode(reply).id),
      framed.map((_, id) => id)
    )
  })

  it('answers a client that has closed its half', async () => {
    const socket = connect(running.port, '127.0.0.1')
    socket.end(frame(query('web.shop.svc.cluster.east', 'A')))
    const [reply]: unknown[] = await once(socket, 'data', { signal: AbortSignal.timeout(DEADLINE_MS) })
    assert.ok(reply instanceof Uint8Array)
    await once(socket, 'close', { signal: AbortSignal.timeout(DEADLINE_MS) })
  })

  it('closes a connection that sends a response', async () => {
    const response = query('web.shop.svc.cluster.east', 'A')
    response[2] = 0x81
    assert.deepEqual(await askTcp(running.port, [frame(response)], 1), [])
  })
})

describe('DNS server: start and stop', () => {
  it('names the port that is taken, and the fix', async () => {
    const { server, port } = await startServer()
    const names = createNames({ view: meshOf() })
    const second = createDnsServer({ listen: [{ address: '127.0.0.1', port }], names: () => names })
    try {
      await assert.rejects(second.start(), (error) => {
        assert.ok(error instanceof DnsError)
        assert.equal(error.code, 'PORT_IN_USE')
        assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${port}`))
        assert.match(error.fix, /ss -lntup/)
        return true
      })
    } finally {
      await server.stop()
    }
    // What the failed start held is free again.
    await second.start()
    await second.stop()
  })

  it('a port taken on TCP alone frees UDP again', async () => {
    const probe = await startServer()
    await probe.server.stop()
    const { port } = probe
    const names = createNames({ view: meshOf() })
    const server = createDnsServer({ listen: [{ address: '127.0.0.1', port }], names: () => names })
    const blocker = createServer().listen(port, '127.0.0.1')
    await once(blocker, 'listening', { signal: AbortSignal.timeout(DEADLINE_MS) })
    try {
      await assert.rejects(server.start(), { code: 'PORT_IN_USE' })
      const socket = createSocket('udp4').bind(port, '127.0.0.1')
      await once(socket, 'listening', { signal: AbortSignal.timeout(DEADLINE_MS) })
      socket.close()
    } finally {
      blocker.close()
    }
  })

  for (const [address, code] of [
    ['192.0.2.1', 'ADDRESS_NOT_LOCAL'],
    ['localhost', 'BAD_ADDRESS']
  ] as const) {
    it(`rejects ${address} with ${code}`, async () => {
      const names = createNames({ view: meshOf() })
      const server = createDnsServer({ listen: [{ address, port: 0 }], names: () => names })
      await assert.rejects(server.start(), { code })
    })
  }

  it('listens on several addresses', async () => {
    const listen = ['127.0.0.1', '127.0.0.2', '::1'].map((address) => ({ address, port: 0 }))
    const { server } = await startServer({ listen })
    try {
      assert.deepEqual(
        server.listening.map(({ address }) => address),
        ['127.0.0.1', '127.0.0.2', '::1']
      )
      for (const { address, port } of server.listening) {
        assert.equal((await dig(port, `@${address}`, 'cluster.east', 'SOA')).status, 'NOERROR')
      }
    } finally {
      await server.stop()
    }
  })

  it('ends open connections and starts again', async () => {
    const { server, port } = await startServer()
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect', { signal: AbortSignal.timeout(DEADLINE_MS) })
    let isClosed = false
    socket.on('close', () => (isClosed = true))
    socket.on('error', () => undefined)
    await server.stop()
    await server.stop()
    await eventually(() => isClosed, 'the connection closes')
    await server.start()
    await server.stop()
  })
})
