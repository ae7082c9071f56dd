// A Maelstrom node as a program: JSON lines on standard input and output, ticks by the clock. README.md says how to drive it.
import { createInterface } from 'node:readline'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { parseMessage, type Message } from './message.ts'
import { MaelstromNode, TICK_MS } from './node.ts'

const node = new MaelstromNode(createCrypto())

const timer = setInterval(() => send(node.tick(performance.now())), TICK_MS)
const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  if (line.trim() !== '') send(node.receive(parseMessage(line), performance.now()))
})
lines.on('close', () => clearInterval(timer))

function send(messages: readonly Message[]): void {
  if (messages.length > 0)
    process.stdout.write(messages.map((message) => `${JSON.stringify(message)}\n`).join(''))
}
