// A transport in a process of its own, so that it lives in a namespace. Dials the targets of its argument (JSON) until it is killed.
import { randomBytes } from 'node:crypto'
import { createTransport, type Target } from '../../../src/io/p2p/transport.ts'

const transport = createTransport({
  seed: randomBytes(32),
  listen: ['/ip4/127.0.0.1/tcp/0'],
  handlers: { neighbourUp: () => undefined, neighbourDown: () => undefined, frame: () => undefined }
})
await transport.start()
transport.setTargets(JSON.parse(process.argv[2] ?? '[]') as readonly Target[])
console.log('dialling')
