// Many TCP connections that are opened, used once and closed, without a pause between them, by one process.
// `short-connections <address> <port> <lanes>` prints `ready` after the first one, and at the end of standard input its
// counts as JSON. A connection has failed when it was refused or reset, or has no answer within ANSWER_MS.
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { slowness } from '../../eventually.ts'
import { testProgram } from '../../programs.ts'
import type { Namespace } from './netns.ts'

/** A lost SYN is repeated after 1 s, 3 s and 7 s. */
const ANSWER_MS = 20_000
/** Milliseconds between two connections of one lane: the agents need the processors, too. */
const PAUSE_MS = 20

/** What became of the connections. */
export interface Short {
  readonly opened: number
  readonly failed: number
  /** The most milliseconds between two answers, over all lanes. */
  readonly silentMs: number
  /** The first errors. */
  readonly errors: readonly string[]
}

/** Begins with the connections; `lanes` are open at one time. `count`: how many have ended so far. `end` ends the last ones. */
export async function shortConnections(
  from: Pick<Namespace, 'spawn'>,
  { address, port, lanes }: { readonly address: string; readonly port: number; readonly lanes: number }
): Promise<{ count(): number; end(): Promise<Short> }> {
  const argv = [testProgram('lab/support/short-connections'), address, String(port), String(lanes)]
  const child = from.spawn([process.execPath, ...argv], { stdio: ['pipe', 'pipe', 'inherit'] })
  if (child.stdout === null) throw new Error('the program has no output')
  let count = 0
  const counted = Promise.withResolvers<Short>()
  const ready = Promise.withResolvers<void>()
  createInterface({ input: child.stdout })
    .on('line', (line) => {
      if (line.startsWith('{')) return counted.resolve(JSON.parse(line) as Short)
      count = Number(line)
      ready.resolve()
    })
    .on('close', () => counted.reject(new Error('the program ended without its counts')))
  await ready.promise
  return {
    count: () => count,
    end() {
      child.stdin?.end()
      return counted.promise
    }
  }
}

const [, script = '', address = '', port = '0', lanes = '0'] = process.argv
if (/short-connections\.[jt]s$/.test(script)) await run()

async function run(): Promise<void> {
  const ending = new AbortController()
  process.stdin.resume().once('end', () => ending.abort())
  const errors: string[] = []
  let [opened, failed, lastMs, silentMs] = [0, 0, performance.now(), 0]
  const lane = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      const error = await once()
      opened++
      if (error === undefined) {
        const nowMs = performance.now()
        silentMs = Math.max(silentMs, nowMs - lastMs)
        lastMs = nowMs
      } else {
        failed++
        if (errors.length < 3) errors.push(`${new Date().toISOString()} ${error}`)
      }
      if (opened % 50 === 1) process.stdout.write(`${opened}\n`)
      await pause(PAUSE_MS)
    }
  }
  await Promise.all(Array.from({ length: Number(lanes) }, lane))
  const result: Short = { opened, failed, silentMs: Math.round(silentMs), errors }
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))
}

/** One connection: a byte out, and back. Resolves to its error. */
function once(): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port: Number(port), noDelay: true }, () => socket.write('.'))
    const end = (error?: string): void => {
      clearTimeout(timer)
      resolve(error)
      socket.destroy()
    }
    const timer = setTimeout(() => end('no answer'), ANSWER_MS * slowness())
    socket.once('data', () => end())
    socket.once('error', (error) => end(error.message))
    socket.once('close', () => end('closed'))
  })
}
