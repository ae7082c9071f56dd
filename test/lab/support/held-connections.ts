// Many TCP connections that stay open while something happens to the way between their ends. `serve <address> <port>` echoes;
// `hold <address> <port> <count>` opens the connections and sends a byte on each in turn. At the end of standard input the
// holder sends one byte on each connection, waits for all answers, and prints its counts as JSON.
import type { ChildProcess } from 'node:child_process'
import { connect, createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { slowness } from '../../eventually.ts'
import { testProgram } from '../../programs.ts'
import type { Namespace } from './netns.ts'

const HELD_PORT = 8600
/** Connections that are being opened at one time. */
const OPENING_MAX = 64
/** Bytes a second over all connections, while they are held. */
const BYTES_PER_SECOND = 400
const STEP_MS = 25
/** TCP repeats a lost segment after 0.2 s, 0.4 s, …: what is alive has answered by then. */
const ANSWER_MS = 30_000
const OPEN_MS = 20_000

/** What became of the connections. */
export interface Held {
  readonly opened: number
  /** Connections that ended, or did not answer in the end. */
  readonly broken: number
  /** The most milliseconds between two answers, over all connections. */
  readonly silentMs: number
  /** The first errors. */
  readonly errors: readonly string[]
}

/**
 * Opens `count` connections from one namespace to `address`, which leads to the server at `to`. `end` asks each of them
 * once more, and counts.
 */
export async function holdConnections(
  from: Pick<Namespace, 'spawn'>,
  to: { readonly namespace: Pick<Namespace, 'spawn'>; readonly address: string },
  { address, port, count }: { readonly address: string; readonly port: number; readonly count: number }
): Promise<{ end(): Promise<Held> }> {
  const server = await program(to.namespace, ['serve', to.address, String(HELD_PORT)])
  const holder = await program(from, ['hold', address, String(port), String(count)])
  return {
    async end() {
      holder.child.stdin?.end()
      const { value } = await holder.lines.next()
      server.child.stdin?.end()
      return JSON.parse(String(value)) as Held
    }
  }
}

interface Program {
  readonly child: ChildProcess
  readonly lines: AsyncIterator<string>
}

async function program(namespace: Pick<Namespace, 'spawn'>, args: readonly string[]): Promise<Program> {
  const child = namespace.spawn([process.execPath, testProgram('lab/support/held-connections'), ...args], {
    stdio: ['pipe', 'pipe', 'inherit']
  })
  if (child.stdout === null) throw new Error('the program has no output')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const { value } = await lines.next()
  if (value !== 'ready') throw new Error(`the program says ${String(value)}`)
  return { child, lines }
}

const [, script = '', mode, address = '', port = '0', count = '0'] = process.argv
if (/held-connections\.[jt]s$/.test(script)) {
  const ended = new Promise<void>((resolve) => process.stdin.resume().once('end', resolve))
  if (mode === 'serve') await serve(address, Number(port), ended)
  else await hold(address, { port: Number(port), count: Number(count), ended })
}

async function serve(host: string, at: number, ended: Promise<void>): Promise<void> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => socket.destroy())
    socket.pipe(socket)
  })
  await new Promise<void>((resolve) => server.listen({ host, port: at, backlog: 4 * OPENING_MAX }, resolve))
  process.stdout.write('ready\n')
  await ended
  process.exit(0)
}

interface Holding {
  readonly port: number
  readonly count: number
  readonly ended: Promise<void>
}

async function hold(host: string, { port: to, count: most, ended }: Holding): Promise<void> {
  const errors: string[] = []
  const answers = new Map<Socket, number>()
  let [lastMs, silentMs] = [0, 0]
  const heard = (socket: Socket, bytes: Buffer): void => {
    answers.set(socket, (answers.get(socket) ?? 0) + bytes.length)
    const nowMs = performance.now()
    if (lastMs > 0) silentMs = Math.max(silentMs, nowMs - lastMs)
    lastMs = nowMs
  }
  const open = async (): Promise<void> => {
    while (answers.size < most && errors.length === 0) {
      const socket = connect({ host, port: to, noDelay: true })
      answers.set(socket, 0)
      await opened(socket)
      socket.on('data', (bytes) => heard(socket, bytes))
      socket.on('close', () => answers.delete(socket) && errors.push('closed'))
    }
  }
  await Promise.all(Array.from({ length: OPENING_MAX }, open)).catch((error: unknown) =>
    errors.push(String(error))
  )
  const total = answers.size
  process.stdout.write(errors.length > 0 ? `${errors.join()}\n` : 'ready\n')
  const sent = new Map<Socket, number>()
  const send = (socket: Socket): void => {
    socket.write('.')
    sent.set(socket, (sent.get(socket) ?? 0) + 1)
  }
  let turn = [...answers.keys()].values()
  const timer = setInterval(() => {
    for (let index = 0; index < (BYTES_PER_SECOND * STEP_MS) / 1000; index++) {
      const next = turn.next()
      if (next.done === true) turn = [...answers.keys()].values()
      else send(next.value)
    }
  }, STEP_MS)
  await ended
  clearInterval(timer)
  const held = silentMs
  const isAnswered = (socket: Socket): boolean => (answers.get(socket) ?? 0) >= (sent.get(socket) ?? 0)
  let step = 0
  for (const socket of answers.keys()) {
    send(socket)
    if (++step % BYTES_PER_SECOND === 0) await pause(STEP_MS)
  }
  const endMs = performance.now() + ANSWER_MS * slowness()
  while (![...answers.keys()].every(isAnswered) && performance.now() < endMs) await pause(STEP_MS)
  const alive = [...answers.keys()].filter(isAnswered).length
  const result: Held = {
    opened: total,
    broken: total - alive,
    silentMs: Math.round(held),
    errors: errors.slice(0, 3)
  }
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))
}

function opened(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => socket.destroy(new Error('a connection was not opened in time')),
      OPEN_MS * slowness()
    )
    socket.once('connect', () => {
      clearTimeout(timer)
      resolve()
    })
    socket.on('error', reject)
  })
}
