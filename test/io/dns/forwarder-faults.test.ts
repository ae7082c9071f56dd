// What an upstream, a route or this host's own limits do wrong stays one client's SERVFAIL.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

import { decode, encode } from '@dnsquery/dns-packet'
import fc from 'fast-check'

import { frame } from '../../../src/io/dns/framing.ts'
import { RCODE } from '../../../src/io/dns/query.ts'
import { addressReply, ask, askTcp, askUdp, query, startServer, startUpstream } from './harness.ts'
import { slowness } from '../../eventually.ts'

const FAILURES = ['FORMERR', 'SERVFAIL', 'NOTIMP', 'REFUSED', 'YXDOMAIN', 'NOTAUTH'] as const
const RCODES = { ...RCODE, YXDOMAIN: 6, NOTAUTH: 9 }

/** A reply of this rcode without records. */
function refusal(message: Uint8Array, rcode: number): Uint8Array {
  return addressReply(message, [], 0x180 | rcode)
}

function hasOpt(message: Uint8Array): boolean {
  return (decode(message).additionals ?? []).some(({ type }) => type === 'OPT')
}

/** The same, with a header that counts no question and no question behind it. */
function withoutQuestion(reply: Uint8Array, message: Uint8Array): Uint8Array {
  const cut = Buffer.concat([reply.subarray(0, 12), reply.subarray(message.length)])
  cut.writeUInt16BE(0, 4)
  return cut
}

describe('DNS forwarding to upstreams that cannot be reached', () => {
  for (const [why, upstream] of [
    ['the kernel refuses the address', '255.255.255.255:53'],
    ['the zone of the address is no interface', 'fe80::1%nosuch0'],
    ['nothing listens there', '127.0.0.1:9'],
    ['nothing listens there (IPv6)', '[::1]:9']
  ] as const) {
    for (const name of ['www.example.com', 'pay.shop.svc.cluster.east']) {
      it(`answers ${name} and lives on when ${why}`, async () => {
        const { server, port } = await startServer({ upstreams: [upstream], upstreamTimeoutMs: 200 })
        try {
          const expected = name === 'www.example.com' ? 'SERVFAIL' : 'NOERROR'
          assert.equal((await ask(port, name, 'A')).rcode, expected)
          const [reply] = await askTcp(port, [frame(query(name, 'A'))], 1)
          assert.equal(decode(reply ?? new Uint8Array()).rcode, expected)
          assert.equal((await ask(port, 'web.shop.svc.cluster.east', 'A')).rcode, 'NOERROR')
        } finally {
          await server.stop()
        }
      })
    }
  }

  it('lives on in a network without any route', async () => {
    const { stdout } = await promisify(execFile)(
      'unshare',
      ['-n', process.execPath, 'test/io/dns/isolated-server.ts', 'no-route'],
      { timeout: 30_000 * slowness() }
    )
    assert.deepEqual(JSON.parse(stdout), { rcodes: ['SERVFAIL', 'SERVFAIL', 'SERVFAIL'], mesh: 'NOERROR' })
  })

  it('lives on without a free file descriptor', async () => {
    const { stdout } = await promisify(execFile)(
      'bash',
      ['-c', `ulimit -n 64; exec "$0" test/io/dns/isolated-server.ts no-descriptors`, process.execPath],
      { timeout: 30_000 * slowness() }
    )
    assert.deepEqual(JSON.parse(stdout), { rcodes: ['SERVFAIL', 'SERVFAIL', 'SERVFAIL'], mesh: 'NOERROR' })
  })

  it('sends nothing on sockets that were closed while the upstream thought', async () => {
    let answerNow: (() => void) | undefined
    const asked = new Promise<void>((resolve) => (answerNow = resolve))
    const upstream = await startUpstream(() => {
      answerNow?.()
      return undefined
    })
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    const reply = askUdp(port, query('www.example.com', 'A'), 300)
    await asked
    await server.stop()
    assert.equal(await reply, undefined)
    upstream.stop()
  })
})

describe('DNS forwarding to upstreams that refuse', () => {
  it('gives the first answer of any upstream, and the last refusal only when all refuse', async function () {
    const rcode = fc.constantFrom<keyof typeof RCODES>('NOERROR', 'NXDOMAIN', ...FAILURES)
    let answers: readonly string[] = []
    const upstreams = await Promise.all(
      [0, 1, 2].map((index) =>
        startUpstream((message) => {
          const said = answers[index] as keyof typeof RCODES
          return said === 'NOERROR' ? addressReply(message, ['192.0.2.7']) : refusal(message, RCODES[said])
        })
      )
    )
    const { server, port } = await startServer({ upstreams: upstreams.map(({ address }) => address) })
    try {
      await fc.assert(
        fc.asyncProperty(fc.tuple(rcode, rcode, rcode), async (said) => {
          answers = said
          const wanted = said.find((each) => each === 'NOERROR' || each === 'NXDOMAIN') ?? said[2]
          const reply = await askUdp(port, query('www.example.com', 'A', { udpBytes: 1232 }))
          assert.equal((reply?.[3] ?? 0) & 15, RCODES[wanted])
          const [overTcp] = await askTcp(port, [frame(query('www.example.com', 'A'))], 1)
          assert.equal((overTcp?.[3] ?? 0) & 15, RCODES[wanted])
        }),
        { numRuns: 100 }
      )
    } finally {
      await server.stop()
      for (const upstream of upstreams) upstream.stop()
    }
  })

  for (const rcode of ['FORMERR', 'NOTIMP'] as const) {
    for (const name of ['www.example.com', 'pay.shop.svc.cluster.east']) {
      it(`asks for ${name} without EDNS where the upstream says ${rcode} to it`, async () => {
        const upstream = await startUpstream((message) =>
          hasOpt(message) ? refusal(message, RCODE[rcode]) : addressReply(message, ['192.0.2.7'])
        )
        const { server, port } = await startServer({ upstreams: [upstream.address] })
        try {
          const reply = await askUdp(port, query(name, 'A', { udpBytes: 1232 }))
          const { answers = [] } = decode(reply ?? new Uint8Array())
          assert.equal(answers.at(-1)?.data, '192.0.2.7')
        } finally {
          await server.stop()
          upstream.stop()
        }
      })
    }
  }

  it('asks with EDNS only for clients that speak it', async () => {
    const upstream = await startUpstream((message) => addressReply(message, ['192.0.2.7']))
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    try {
      for (const name of ['www.example.com', 'pay.shop.svc.cluster.east']) {
        await ask(port, name, 'A')
        await askUdp(port, query(name, 'A', { udpBytes: 4096 }))
      }
      assert.deepEqual(
        upstream.asked.map(({ message }) => hasOpt(message)),
        [false, true, false, true]
      )
    } finally {
      await server.stop()
      upstream.stop()
    }
  })

  it('goes on at once where an upstream leaves out the question', async () => {
    const mute = await startUpstream((message) =>
      withoutQuestion(addressReply(message, ['192.0.2.66']), message)
    )
    const upstream = await startUpstream((message) => addressReply(message, ['192.0.2.7']))
    const { server, port } = await startServer({ upstreams: [mute.address, upstream.address] })
    try {
      const { answers = [] } = await ask(port, 'www.example.com', 'A')
      assert.deepEqual(
        answers.map(({ data }) => data),
        ['192.0.2.7']
      )
    } finally {
      await server.stop()
      upstream.stop()
      mute.stop()
    }
  })

  for (const [said, flags] of [
    ['FORMERR', 0x180],
    ['REFUSED', 0x185],
    ['SERVFAIL', 0x182]
  ] as const) {
    it(`says ${said} like CoreDNS where the only upstream leaves out the question`, async () => {
      const upstream = await startUpstream((message) =>
        withoutQuestion(addressReply(message, [], flags), message)
      )
      const { server, port } = await startServer({ upstreams: [upstream.address] })
      try {
        const reply = await ask(port, 'www.example.com', 'A')
        assert.deepEqual([reply.rcode, reply.questions?.[0]?.name], [said, 'www.example.com'])
        const alias = await ask(port, 'pay.shop.svc.cluster.east', 'A')
        assert.deepEqual([alias.rcode, alias.answers?.length], ['NOERROR', 1])
      } finally {
        await server.stop()
        upstream.stop()
      }
    })
  }
})

describe('ExternalName', () => {
  for (const odd of [
    '-foo.example.com',
    'a/b.example.com',
    '*.example.com',
    'under_score.example.com',
    'a b.example.com',
    'x.123'
  ]) {
    it(`passes on an alias to ${odd}`, async () => {
      const upstream = await startUpstream((message) => {
        const { id = 0, questions = [] } = decode(message)
        return encode({
          type: 'response',
          id,
          flags: 0x180,
          questions,
          answers: [
            { name: 'pay.example.com', type: 'CNAME', ttl: 60, data: odd },
            { name: odd, type: 'A', ttl: 60, data: '192.0.2.7' }
          ]
        })
      })
      const { server, port } = await startServer({ upstreams: [upstream.address] })
      try {
        const { answers = [] } = await ask(port, 'pay.shop.svc.cluster.east', 'A')
        assert.deepEqual(
          answers.map(({ name, data }) => [name, data]),
          [
            ['pay.shop.svc.cluster.east', 'pay.example.com'],
            ['pay.example.com', odd],
            [odd, '192.0.2.7']
          ]
        )
      } finally {
        await server.stop()
        upstream.stop()
      }
    })
  }

  it('passes on labels of any bytes, through pointers', async () => {
    const upstream = await startUpstream((message) => {
      const head = Buffer.from(addressReply(message, []))
      head.writeUInt16BE(2, 6)
      // Owner: a pointer to the question. Target: a label of dot, zero and 255, then a pointer to "example.com" in the question.
      const alias = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 6, 3, 0x2e, 0, 255, 0xc0, 16]
      const address = [0xc0, head.length + 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]
      return Buffer.concat([head, Buffer.from(alias), Buffer.from(address)])
    })
    const { server, port } = await startServer({ upstreams: [upstream.address] })
    try {
      const reply = Buffer.from((await askUdp(port, query('pay.shop.svc.cluster.east', 'A'))) ?? [])
      const target = Buffer.from([3, 0x2e, 0, 255, 7, ...Buffer.from('example'), 3, ...Buffer.from('com'), 0])
      assert.equal(reply.readUInt16BE(6), 3)
      assert.equal(reply.toString('latin1').split(target.toString('latin1')).length, 3)
    } finally {
      await server.stop()
      upstream.stop()
    }
  })
})
