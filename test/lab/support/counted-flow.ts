// A flow whose packets are counted one by one, for scenarios in which none may be lost. `receive <address>` counts; `send
// <address> <packets a second>` sends numbered UDP datagrams, and the same numbers as lines of one TCP connection.
// Both print "ready"; at the end of standard input they print their counts as JSON and end.
import type { ChildProcess } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import type { Namespace } from './netns.ts'

const [UDP_PORT, TCP_PORT, STEP_MS] = [9700, 9701, 5]
const CLOSE_DEADLINE_MS = 30_000

interface Counts {
  /** Numbers of UDP datagrams: sent, or received without repetitions. */
  readonly udp: readonly number[]
  /** TCP: the number of lines, which must come in their order. */
  readonly tcp: number
}

/** What became of a flow. */
export interface FlowResult {
  readonly sent: number
  /** The numbers of the datagrams that did not arrive. */
  readonly lost: readonly number[]
  readonly lostTcp: number
}

/**
 * Starts a flow from one namespace to an address in another one. `sent`: the address by which the sender knows that one; default:
 * the same. `end` waits for the last packets and counts.
 */
export async function startFlow(
  from: Pick<Namespace, 'spawn'>,
  to: { readonly namespace: Pick<Namespace, 'spawn'>; readonly address: string; readonly sent?: string },
  packetsPerSecond: number
): Promise<{ end(): Promise<FlowResult> }> {
  const receiver = await program(to.namespace, ['receive', to.address])
  const sender = await program(from, ['send', to.sent ?? to.address, String(packetsPerSecond)])
  return {
    async end() {
      const sent = await counts(sender)
      const received = await counts(receiver)
      const arrived = new Set(received.udp)
      return {
        sent: sent.udp.length,
        lost: sent.udp.filter((number) => !arrived.has(number)),
        lostTcp: sent.tcp - received.tcp
      }
    }
  }
}

type Program = { readonly child: ChildProcess; readonly lines: AsyncIterator<string> }

async function program(namespace: Pick<Namespace, 'spawn'>, args: readonly string[]): Promise<Program> {
  const child = namespace.spawn([process.execPath, import.meta.filename, ...args], {
    stdio: ['pipe', 'pipe', 'inherit']
  })
  if (child.stdout === null) throw new Error('the flow has no output')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const { value } = await lines.next()
  if (value !== 'ready') throw new Error(`the flow says ${String(value)}`)
  return { child, lines }
}

async function counts({ child, lines }: Program): Promise<Counts> {
  child.stdin?.end()
  const { value } = await lines.next()
  return JSON.parse(String(value)) as Counts
}

if (process.argv[1] === import.meta.filename) {
  const [, , mode, address = '', rate = '1'] = process.argv
  const ended = new Promise<void>((resolve) => process.stdin.resume().once('end', resolve))
  const result = mode === 'receive' ? await receive(address, ended) : await send(address, Number(rate), ended)
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))
}

async function receive(address: string, ended: Promise<void>): Promise<Counts> {
  const udp = new Set<number>()
  let tcp = 0
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 })
  socket.on('message', (bytes) => udp.add(bytes.readUInt32BE(0)))
  await new Promise<void>((resolve) => socket.bind(UDP_PORT, address, resolve))
  const server = createServer((connection) => {
    createInterface({ input: connection }).on('line', (line) => {
      if (Number(line) !== tcp++) throw new Error(`line ${line} in the place of ${tcp - 1}`)
    })
  })
  await new Promise<void>((resolve) => server.listen(TCP_PORT, address, resolve))
  process.stdout.write('ready\n')
  await ended
  return { udp: [...udp], tcp }
}

async function send(address: string, rate: number, ended: Promise<void>): Promise<Counts> {
  const socket = createSocket('udp4')
  const connection = connect(TCP_PORT, address)
  await new Promise((resolve, reject) => connection.once('connect', resolve).once('error', reject))
  process.stdout.write('ready\n')
  const startedMs = performance.now()
  let next = 0
  const timer = setInterval(() => {
    // At most 20 at once after a pause of this process: a burst would not be the flow that is asked for.
    const due = Math.min(next + 20, ((performance.now() - startedMs) * rate) / 1000)
    for (; next < due; next++) {
      const bytes = Buffer.alloc(64)
      bytes.writeUInt32BE(next, 0)
      socket.send(bytes, UDP_PORT, address)
      connection.write(`${next}\n`)
    }
  }, STEP_MS)
  await ended
  clearInterval(timer)
  // The connection closes when the receiver has all of it, which TCP may have to repeat; the last datagrams need a moment.
  const closed = new Promise((resolve) => connection.once('close', resolve))
  connection.end()
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, CLOSE_DEADLINE_MS))])
  await new Promise((resolve) => setTimeout(resolve, 1000))
  return { udp: Array.from({ length: next }, (_, number) => number), tcp: next }
}
