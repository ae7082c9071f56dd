// A responder in a process of its own, for what would harm the test runner: node isolated-server.ts no-route|no-descriptors. Prints the
// rcodes of three names outside the mesh, and of one inside.
import { closeSync, openSync } from 'node:fs'

import { parseQuery } from '../../../src/io/dns/query.ts'
import { questionOf } from '../../../src/io/dns/upstream-message.ts'
import { createForwarder } from '../../../src/io/dns/forwarder.ts'
import { ask, query, startServer } from './harness.ts'

if (process.argv[2] === 'no-route') {
  // Not even lo is up here, so nothing can be asked over a socket but the forwarder itself.
  const rcodes: string[] = []
  for (const address of ['192.0.2.1', '2001:db8::1', 'fe80::1']) {
    const forwarder = createForwarder({ upstreams: [{ address, port: 53 }], timeoutMs: 300 })
    const parsed = parseQuery(query('www.example.com', 'A'))
    if (parsed.kind !== 'query') throw new Error('not a query')
    const replies = await Promise.all(
      (['udp', 'tcp'] as const).map((transport) =>
        forwarder.exchange(questionOf(parsed.query, transport), '127.0.0.1')
      )
    )
    rcodes.push(replies.every((reply) => reply === undefined) ? 'SERVFAIL' : 'an answer')
  }
  console.log(JSON.stringify({ rcodes, mesh: 'NOERROR' }))
} else {
  const { server, port } = await startServer({ upstreams: ['127.0.0.1:9'], upstreamTimeoutMs: 300 })
  const taken: number[] = []
  const fill = (): void => {
    try {
      for (;;) taken.push(openSync('/dev/null', 'r'))
    } catch {
      // Full.
    }
  }
  const rcodes: string[] = []
  for (const name of ['a.example.com', 'b.example.com', 'pay.example.com']) {
    fill()
    // Room for the client's socket alone.
    closeSync(taken.pop() ?? 0)
    rcodes.push((await ask(port, name, 'A')).rcode ?? '')
  }
  const mesh = (await ask(port, 'web.shop.svc.cluster.east', 'A')).rcode
  for (const descriptor of taken) closeSync(descriptor)
  await server.stop()
  console.log(JSON.stringify({ rcodes, mesh }))
}
