// Only this host, the cluster's own prefixes and what the setting allows are answered.
import assert from 'node:assert/strict'
import { networkInterfaces } from 'node:os'

import { decode } from '@dnsquery/dns-packet'

import { createAccess } from '../../../src/io/dns/access.ts'
import { createForwarder } from '../../../src/io/dns/forwarder.ts'
import { frame } from '../../../src/io/dns/framing.ts'
import { createQueryHandler, type QueryMetrics } from '../../../src/io/dns/query-handler.ts'
import { askTcp, askUdp, query, startServer } from './harness.ts'

describe('clients of the DNS responder', () => {
  const own = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .map(({ address }) => address)

  for (const [why, address, allowed] of [
    ['a pod', '10.1.3.4', true],
    ['a neighbour of the pods', '10.2.3.4', false],
    ['an IPv6 pod', 'fd00:1::77', true],
    ['an IPv6 pod with a zone', 'fd00:1::77%eth0', true],
    ['an IPv6 stranger', 'fd00:2::1', false],
    ['a node', '192.0.2.10', true],
    ['the host beside the node', '192.0.2.11', false],
    ['loopback', '127.0.0.53', true],
    ['IPv6 loopback', '::1', true],
    ['no address', '', false],
    ['nonsense', '10.1.3.4.5', false]
  ] as const) {
    it(`${why} (${address}) is ${allowed ? 'answered' : 'refused'}`, () => {
      const access = createAccess()
      access.setPrefixes(['10.1.0.0/16', 'fd00:1::/32', '192.0.2.10/32'])
      for (let again = 0; again < 2; again++) assert.equal(access.allows(address), allowed)
    })
  }

  it('this host’s own addresses are answered without a prefix', () => {
    const access = createAccess()
    for (const address of own) assert.ok(access.allows(address), address)
  })

  it('prefixes may change at any time', () => {
    const access = createAccess()
    assert.ok(!access.allows('10.1.3.4'))
    access.setPrefixes(['10.1.0.0/16'])
    assert.ok(access.allows('10.1.3.4'))
    access.setPrefixes([])
    assert.ok(!access.allows('10.1.3.4'))
  })

  it('a prefix without a length is one address, and never a whole family', () => {
    const access = createAccess()
    access.setPrefixes(['10.1.3.4', 'fd00:1::77'])
    for (const address of ['10.1.3.4', 'fd00:1::77']) assert.ok(access.allows(address), address)
    for (const address of ['10.1.3.5', '198.51.100.1', 'fd00:1::78', '2001:db8::1'])
      assert.ok(!access.allows(address), address)
  })

  for (const prefix of ['10.0.0.0/', '10.0.0.0/x', '10.0.0.0/99', '10.0.0.0/-1', '::/', 'x/0', '/0', ''])
    it(`${JSON.stringify(prefix)} allows no client`, () => {
      const access = createAccess()
      access.setPrefixes([prefix, '10.2.0.0/16'])
      assert.ok(!access.allows('10.1.3.4'))
      assert.ok(!access.allows('2001:db8::1'))
      assert.ok(access.allows('10.2.0.1'))
    })

  it('a stranger is refused and counted, and its answer is not longer than its question', () => {
    const seen: QueryMetrics[] = []
    const handle = createQueryHandler({
      names: () => assert.fail('a name was looked up for a stranger'),
      forwarder: () => createForwarder({ upstreams: [] }),
      allows: () => false,
      onQuery: (metrics) => seen.push(metrics),
      onWarning: (message) => assert.fail(message)
    })
    for (const [name, transport] of [
      ['web.shop.svc.cluster.east', 'udp'],
      ['example.com', 'tcp']
    ] as const) {
      const asked = query(name, 'A')
      const answer = handle(asked, transport, '203.0.113.9')
      assert.ok(answer instanceof Uint8Array && answer.length <= asked.length, name)
      assert.equal(decode(answer).rcode, 'REFUSED')
    }
    assert.deepEqual(
      seen.map(({ zone, rcode }) => [zone, rcode]),
      [
        ['stranger', 'REFUSED'],
        ['stranger', 'REFUSED']
      ]
    )
  })

  it('the host itself is answered over UDP and TCP without a prefix, and counted', async () => {
    const seen: QueryMetrics[] = []
    const { server, port } = await startServer({ allow: [], onQuery: (metrics) => seen.push(metrics) })
    try {
      const answered = await askUdp(port, query('web.shop.svc.cluster.east', 'A'))
      assert.equal(decode(answered ?? new Uint8Array()).rcode, 'NOERROR')
      assert.deepEqual(
        seen.map(({ zone, rcode }) => [zone, rcode]),
        [['cluster.east', 'NOERROR']]
      )
      const [overTcp] = await askTcp(port, [frame(query('web.shop.svc.cluster.east', 'A'))], 1)
      assert.equal(decode(overTcp ?? new Uint8Array()).rcode, 'NOERROR')
    } finally {
      await server.stop()
    }
  })
})
