// An agent of a version to come, as far as the door sees it: dials the address in argv, says a Hello of protocol 3 to 4, and
// prints what it is told.
import { randomBytes } from 'node:crypto'
import { decodeFrame, encodeFrame } from '../../src/core/wire/messages.ts'
import { createTransport } from '../../src/io/p2p/transport.ts'

const [address = ''] = process.argv.slice(2)
const transport = createTransport({
  seed: randomBytes(32),
  listen: [],
  handlers: {
    neighbourUp: (peer) => {
      const hello = {
        versionMin: 3,
        versionMax: 4,
        meshId: randomBytes(32),
        nonce: randomBytes(32),
        unixSeconds: Math.floor(Date.now() / 1000),
        software: 'rhizome 99.0.0'
      }
      transport.send(peer, encodeFrame({ hello }))
    },
    frame: (_, frame) => {
      const message = decodeFrame(frame)
      if (!message?.reject) return
      process.stdout.write(`${JSON.stringify(message.reject)}\n`)
      process.exit(0)
    },
    neighbourDown: () => undefined
  }
})
await transport.start()
transport.setTargets([{ addresses: [address] }])
