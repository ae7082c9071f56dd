import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { decode, encode, RECURSION_DESIRED, type Packet } from '@dnsquery/dns-packet'
import { chase } from '../../src/io/dns/chase.ts'
import { createForwarder, type Forwarder } from '../../src/io/dns/forwarder.ts'
import { frame, Framer } from '../../src/io/dns/framing.ts'
import { FLAG, parseQuery, u16, type Query } from '../../src/io/dns/query.ts'
import { bare, bytesMax, respond } from '../../src/io/dns/response.ts'
import { hasQuestion, questionOf } from '../../src/io/dns/upstream-message.ts'
import type { Random } from '../sim/random.ts'
import { base64, budget, fuzz, single } from './fuzz.ts'
import { changeBytes, concat, noise } from './mutate.ts'

const NAMES = [
  'web.shop.svc.cluster.east',
  '_http._tcp.web.shop.svc.cluster.all',
  '1.0.2.10.in-addr.arpa',
  'Example.COM',
  '.'
]
const QUERIES = NAMES.flatMap((name) => [query(name, false), query(name, true)])
const TARGET = 'mail.example.com'
const ANSWERS = [
  answer({ answers: [{ name: TARGET, type: 'A', ttl: 30, data: '192.0.2.1' }] }),
  answer({
    answers: [
      { name: TARGET, type: 'CNAME', ttl: 30, data: 'b.example.com' },
      { name: 'b.example.com', type: 'AAAA', ttl: 30, data: '2001:db8::1' },
      { name: 'b.example.com', type: 'A', ttl: 30, data: '192.0.2.1' }
    ]
  }),
  answer({ answers: [{ name: TARGET, type: 'TXT', ttl: 30, data: ['x'.repeat(200)] }] })
]

describe('hostile DNS', () => {
  it('queries are dropped, refused or read as the library reads them, and answered within their bounds', async function () {
    const { cases, timeoutMs } = budget(3000)
    this.timeout(timeoutMs)
    let read = 0
    await fuzz('parseQuery', {
      ...single,
      cases,
      make: (random) => mutateDns(random, QUERIES),
      act: (bytes) => {
        const parsed = parseQuery(bytes)
        if (parsed.kind === 'drop') return
        const { query } = parsed
        assert.ok(query.questionEnd >= 12 && query.questionEnd <= bytes.length)
        for (const transport of ['udp', 'tcp'] as const) {
          const reply = respond(query, bare(parsed.kind === 'reject' ? parsed.rcode : 'NXDOMAIN'), {
            transport,
            recursionAvailable: true,
            rotation: 0
          })
          assert.ok(
            reply.length <= Math.max(bytesMax(query, transport), bytes.length),
            'more than was asked for'
          )
          assert.equal(u16(reply, 0), u16(bytes, 0))
          assert.ok((u16(reply, 2) & FLAG.QR) !== 0, 'an answer that is a query')
          assert.equal(
            base64(reply.subarray(12, query.questionEnd)),
            base64(bytes.subarray(12, query.questionEnd))
          )
        }
        if (parsed.kind === 'reject') return
        read++
        const theirs = tryDecode(bytes.subarray(0, query.questionEnd))
        // The library has no escapes, joins labels with dots, and reads bytes as UTF-8.
        if (theirs?.questions?.[0] === undefined || /[^\w.-]/.test(query.name)) return
        assert.equal(query.name, theirs.questions[0].name.replace(/^\.$/, ''))
      }
    })
    if (cases > 100) assert.ok(read > cases / 20, `only ${read} of ${cases} queries were readable`)
  })

  it('a stream of TCP messages is cut as RFC 1035 says, however it is chunked', async function () {
    const { cases, timeoutMs } = budget(800)
    this.timeout(timeoutMs)
    await fuzz('Framer', {
      ...single,
      cases,
      make: (random) => {
        const sound = concat(...Array.from({ length: random.below(6) }, () => frame(random.pick(QUERIES))))
        return changeBytes(random, sound, sound)
      },
      act: (bytes, random) => {
        const framer = new Framer()
        const got: string[] = []
        for (let at = 0; at < bytes.length;) {
          const end = at + 1 + random.below(40)
          framer.push(bytes.subarray(at, end))
          at = end
          for (let next = framer.next(); next !== undefined; next = framer.next()) got.push(base64(next))
        }
        const wanted: string[] = []
        for (
          let at = 0;
          at + 2 <= bytes.length && at + 2 + u16(bytes, at) <= bytes.length;
          at += 2 + u16(bytes, at)
        ) {
          wanted.push(base64(bytes.subarray(at + 2, at + 2 + u16(bytes, at))))
        }
        assert.deepEqual(got, wanted)
      }
    })
  })

  it('what an upstream says of an external name ends in an answer that a client can read', async function () {
    const { cases, timeoutMs } = budget(2000)
    this.timeout(timeoutMs)
    const parsed = parseQuery(query('mail.shop.svc.cluster.east', true))
    assert.ok(parsed.kind === 'query')
    const asked = parsed.query
    let believed = 0
    await fuzz('chase', {
      ...single,
      cases,
      make: (random) => mutateDns(random, ANSWERS),
      act: async (reply) => {
        const encoded = await chase(upstreamThatSays(reply), asked, {
          target: TARGET,
          client: '192.0.2.50',
          answer: {
            kind: 'answer',
            zone: 'cluster.east',
            rcode: 'NOERROR',
            authoritative: true,
            answers: [{ name: asked.name, type: 'CNAME', ttl: 5, data: TARGET }],
            authority: [],
            additionals: [],
            externalTarget: TARGET
          }
        })
        if (encoded.counts[0] > 1) believed++
        assert.equal(encoded.rcode, 'NOERROR')
        for (const transport of ['udp', 'tcp'] as const)
          checkReadable(asked, respond(asked, encoded, { transport, recursionAvailable: true, rotation: 0 }))
      }
    })
    if (cases > 100) assert.ok(believed > cases / 20, `only ${believed} of ${cases} replies were believed`)
  })

  describe('of an upstream', () => {
    let socket: Socket | undefined
    let forwarder: Forwarder | undefined
    afterEach(() => {
      forwarder?.stop()
      socket?.close()
    })

    it('never passes for the reply to another question', async function () {
      const { cases, timeoutMs } = budget(250)
      this.timeout(timeoutMs)
      const upstream = createSocket('udp4')
      socket = upstream
      upstream.bind(0, '127.0.0.1')
      await once(upstream, 'listening')
      let forged: (sent: Uint8Array) => Uint8Array = (sent) => sent
      upstream.on('message', (sent, from) => {
        const sound = Buffer.from(sent)
        sound[2] = (sound[2] ?? 0) | 0x80
        upstream.send(forged(sound), from.port, from.address)
        upstream.send(sound, from.port, from.address) // so that no case waits for a timeout
      })
      const forwards = createForwarder({ upstreams: [upstream.address()], timeoutMs: 5000 })
      forwarder = forwards
      await fuzz('Forwarder.exchange', {
        cases,
        make: (random) => ({ question: random.pick(QUERIES), seed: random }),
        bytesOf: ({ question }) => [question],
        act: async ({ question, seed }) => {
          const parsed = parseQuery(question)
          assert.ok(parsed.kind === 'query')
          const { questionEnd } = parsed.query
          forged = (sound) => (seed.chance(0.5) ? changeBytes(seed, sound, sound) : mutateDns(seed, [sound]))
          const found = await forwards.exchange(questionOf(parsed.query, 'udp'), '192.0.2.50')
          assert.ok(found !== undefined, 'the sound reply was not taken')
          const reply = found.message
          assert.ok((u16(reply, 2) & FLAG.QR) !== 0)
          const text = (bytes: Uint8Array) =>
            Buffer.from(bytes.subarray(12, questionEnd)).toString('latin1').toLowerCase()
          // A reply without a question is an error to the server that asked (upstream-message.ts).
          if (hasQuestion(reply)) assert.equal(text(reply), text(question))
        }
      })
    })
  })
})

/** As bytes, and as DNS: pointers anywhere and to anywhere, counts that lie, lengths that lie, records again. */
function mutateDns(random: Random, corpus: readonly Uint8Array[]): Uint8Array {
  let bytes = new Uint8Array(random.pick(corpus))
  const changes = 1 + random.below(3)
  for (let change = 0; change < changes; change++) {
    const at = 12 + random.below(Math.max(1, bytes.length - 12))
    const put = (...values: number[]) => {
      bytes.set(values.slice(0, Math.max(0, bytes.length - at)), Math.min(at, bytes.length))
    }
    switch (random.below(7)) {
      case 0:
        put(0xc0 | random.below(64), random.below(256))
        break
      case 1:
        put(0xc0, at) // to itself
        break
      case 2:
        put(random.below(64))
        break
      case 3:
        if (bytes.length >= 12) bytes.set([random.below(2) * 255, random.below(256)], 4 + 2 * random.below(4))
        break
      case 4:
        bytes = concat(bytes, bytes.subarray(at))
        break
      case 5:
        bytes = concat(
          bytes,
          Uint8Array.of(0, 0, 41, 0x04, 0xd0, random.below(2), random.below(3), 0, 0, 0, random.below(20)),
          noise(random, random.below(20))
        )
        if (bytes.length >= 12) bytes.set([0, 1 + random.below(3)], 10)
        break
      default:
        bytes = changeBytes(random, bytes, random.pick(corpus))
    }
  }
  return bytes.slice(0, 65_535)
}

function query(name: string, edns: boolean): Uint8Array {
  return new Uint8Array(
    encode({
      type: 'query',
      id: 4711,
      flags: RECURSION_DESIRED,
      questions: [{ name, type: 'A', class: 'IN' }],
      ...(edns ? { additionals: [optRecord()] } : {})
    })
  )
}

/** The library's types leave out what its encoder reads. */
function optRecord() {
  const opt = { type: 'OPT' as const, name: '.', udpPayloadSize: 1232, data: [], options: [] }
  return opt
}

function answer(packet: Pick<Packet, 'answers'>): Uint8Array {
  return new Uint8Array(
    encode({ type: 'response', id: 7, questions: [{ name: TARGET, type: 'A', class: 'IN' }], ...packet })
  )
}

function upstreamThatSays(reply: Uint8Array): Pick<Forwarder, 'exchange'> {
  return {
    exchange: async () => ({ message: new Uint8Array(reply), from: { address: '192.0.2.53', port: 53 } })
  }
}

function checkReadable(asked: Query, reply: Uint8Array): void {
  const packet = decode(reply)
  assert.equal(packet.questions?.[0]?.name, asked.name)
  assert.equal(packet.answers?.length, u16(reply, 6))
}

function tryDecode(bytes: Uint8Array): Packet | undefined {
  try {
    return decode(bytes)
  } catch {
    return undefined // the library wants the records that the header counts
  }
}
