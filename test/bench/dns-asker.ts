// A client that asks one name at a steady rate, in a process of its own: node dns-asker.ts <address> <port> <name>. A line on standard input
// ends a period: what it saw is printed as JSON, and the next period begins.
import { createSocket } from 'node:dgram'
import { createInterface } from 'node:readline'
import { encode } from '@dnsquery/dns-packet'

export interface Asked {
  readonly count: number
  /** No answer within a second, or one without the name's address: counts as a second. */
  readonly failed: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  readonly max: number
}

const INTERVAL_MS = 4
const TIMEOUT_MS = 1000

if (process.argv[1]?.endsWith('dns-asker.ts') === true) {
  const [, , address = '127.0.0.1', port = '53', name = ''] = process.argv
  const waiting = new Map<number, number>()
  let times: number[] = []
  let failed = 0
  let id = 0
  const socket = createSocket('udp4')
  const fail = (): void => {
    failed++
    times.push(TIMEOUT_MS)
  }
  socket.on('error', fail)
  socket.on('message', (reply) => {
    const began = waiting.get(reply.readUInt16BE(0))
    waiting.delete(reply.readUInt16BE(0))
    if (began === undefined) return
    if (reply.readUInt16BE(6) === 0) fail()
    else times.push(performance.now() - began)
  })
  const period = (): Asked => {
    const now = performance.now()
    for (const [key, began] of waiting) {
      if (now - began < TIMEOUT_MS) continue
      waiting.delete(key)
      fail()
    }
    const sorted = times.sort((a, b) => a - b)
    const at = (share: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
    const asked = { count: sorted.length, failed, p50: at(0.5), p99: at(0.99), max: at(1) }
    ;[times, failed] = [[], 0]
    return asked
  }
  socket.connect(Number(port), address, () => {
    setInterval(() => {
      id = (id + 1) & 0xffff
      const message = encode({ type: 'query', id, questions: [{ name, type: 'A', class: 'IN' }] })
      waiting.set(id, performance.now())
      socket.send(message, () => undefined)
    }, INTERVAL_MS)
    console.log('ready')
  })
  createInterface({ input: process.stdin })
    .on('line', () => console.log(JSON.stringify(period())))
    .on('close', () => process.exit())
}
