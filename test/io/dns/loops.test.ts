// Responders that forward to one another: one question stays a handful of packets, and the loop is found and said.
import assert from 'node:assert/strict'

import { frame } from '../../../src/io/dns/framing.ts'
import type { DnsProblem } from '../../../src/io/dns/problems.ts'
import type { QueryMetrics } from '../../../src/io/dns/query-handler.ts'
import type { DnsServer } from '../../../src/io/dns/server.ts'
import { addressReply, ask, askTcp, startServer, startUpstream, query } from './harness.ts'

interface Member {
  readonly server: DnsServer
  readonly port: number
  readonly asked: QueryMetrics[]
  problems: readonly DnsProblem[]
}

/** Each forwards to the next, the last to the first. `more`: further upstreams of the first. */
async function ring(size: number, more: readonly string[] = []): Promise<readonly Member[]> {
  const members: Member[] = []
  for (let index = 0; index < size; index++) {
    const asked: QueryMetrics[] = []
    const member: { problems: readonly DnsProblem[] } = { problems: [] }
    const running = await startServer({
      onQuery: (metrics) => asked.push(metrics),
      onProblems: (problems) => (member.problems = problems)
    })
    members.push(Object.assign(member, { ...running, asked }))
  }
  for (const [index, { server }] of members.entries()) {
    const next = members[(index + 1) % size]?.port ?? 0
    server.setUpstreams([`127.0.0.1:${next}`, ...(index === 0 ? more : [])])
  }
  return members
}

async function stop(members: readonly Member[]): Promise<void> {
  await Promise.all(members.map(({ server }) => server.stop()))
}

const HANDFUL = 5

describe('DNS responders in a ring', () => {
  for (const size of [1, 2, 3, 5]) {
    it(`of ${size}: a question stays a handful for each, fails soon, and the loop is a problem that is shown`, async () => {
      const members = await ring(size)
      try {
        const [first] = members
        assert.ok(first !== undefined)
        // A ring of one is found by its address already.
        const expected = size === 1 ? 'REFUSED' : 'SERVFAIL'
        assert.equal((await ask(first.port, 'www.example.com', 'A')).rcode, expected)
        for (const { asked } of members) assert.ok(asked.length <= HANDFUL, `${asked.length} questions`)
        const codes = members.flatMap(({ problems }) => problems.map(({ code }) => code))
        assert.ok(codes.includes(size === 1 ? 'DNS_UPSTREAM' : 'DNS_LOOP'), codes.join())
      } finally {
        await stop(members)
      }
    })
  }

  it('many questions and TCP questions stay a handful each', async () => {
    const members = await ring(3)
    try {
      const port = members[0]?.port ?? 0
      const names = Array.from({ length: 20 }, (_, index) => `n${index}.example.com`)
      await Promise.all(names.map((name) => ask(port, name, 'A')))
      await askTcp(port, [frame(query('tcp.example.com', 'A'))], 1)
      for (const { asked } of members) {
        assert.ok(asked.length <= HANDFUL * (names.length + 1), `${asked.length} questions`)
      }
    } finally {
      await stop(members)
    }
  })

  it('the next upstream answers where one leads back', async () => {
    const upstream = await startUpstream((message) => addressReply(message, ['192.0.2.7']))
    for (const size of [2, 3]) {
      const members = await ring(size, [upstream.address])
      try {
        for (const { port } of members) {
          const { answers = [] } = await ask(port, `www${port}.example.com`, 'A')
          assert.deepEqual(
            answers.map(({ data }) => data),
            ['192.0.2.7']
          )
        }
      } finally {
        await stop(members)
      }
    }
    upstream.stop()
  })

  it('a popular name is asked upstream once, and its upstream is no loop', async () => {
    const seen: DnsProblem[] = []
    const upstream = await startUpstream(() => undefined)
    const { server, port } = await startServer({
      upstreams: [upstream.address],
      upstreamTimeoutMs: 300,
      onProblems: (problems) => seen.push(...problems)
    })
    try {
      const replies = await Promise.all(Array.from({ length: 50 }, () => ask(port, 'www.example.com', 'A')))
      assert.ok(replies.every(({ rcode }) => rcode === 'SERVFAIL'))
      assert.ok(upstream.asked.length <= 2, `${upstream.asked.length} questions`)
      assert.deepEqual(seen, [])
    } finally {
      await server.stop()
      upstream.stop()
    }
  })
})
