// The responder process as the kernel has it: started, found, ended.
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as pause } from 'node:timers/promises'
import { DnsError } from '../errors.ts'
import { openChannel, type Channel } from './channel.ts'

/** Behind the path of the control socket while a process does not listen yet. One character: paths of sockets are short. */
export const NEXT = '+'
const START_MS = 15_000
const START_LOOK_MS = 10
const END_MS = 3000
const KNOCK_MS = 100

/** Errors: DnsError. */
export async function startProcess(path: string, version: string): Promise<Channel> {
  removeSockets(path)
  const fate: { exit?: string } = {}
  const child = spawn(process.execPath, [...FLAGS, program(), path, version], {
    detached: true,
    stdio: 'ignore',
    cwd: '/',
    // Nothing of the agent's environment is its business.
    env: { MALLOC_ARENA_MAX: '2', MALLOC_TRIM_THRESHOLD_: '131072', UV_THREADPOOL_SIZE: '1' }
  })
  child.on('error', (error) => (fate.exit = String(error)))
  child.on('exit', (code, by) => (fate.exit = `it ended with ${code === null ? by : `code ${code}`}`))
  child.unref()
  const endMs = performance.now() + START_MS
  let failure: unknown
  while (fate.exit === undefined && performance.now() < endMs) {
    try {
      const channel = await openChannel(path, version)
      if (channel !== undefined) return channel
    } catch (error) {
      failure = error
    }
    await pause(START_LOOK_MS)
  }
  child.kill('SIGKILL')
  throw failed(
    `Look whether a process can be started, and a socket made in ${dirname(path)}.`,
    fate.exit ?? failure ?? `it did not answer within ${START_MS / 1000} s`
  )
}

const FLAGS = ['--max-semi-space-size=2', '--disable-warning=ExperimentalWarning']

/** Beside the bundle of meshd, or in this folder when it runs from source. */
function program(): string {
  const here = fileURLToPath(import.meta.url)
  if (here.endsWith('.ts')) return join(dirname(here), 'main.ts')
  const folder = dirname(here)
  return join(basename(folder) === 'chunks' ? dirname(folder) : folder, PROGRAM)
}

const PROGRAM = 'meshd-dns.js'

/** The other process knocks at the port by then. */
export async function handedOver(channel: Channel): Promise<void> {
  await pause(KNOCK_MS)
  await ended(channel)
}

export async function ended(channel: Channel): Promise<void> {
  const gone = new Promise<void>((resolve) => channel.onClosed(resolve))
  channel.send({ kind: 'stop' })
  const { pid } = channel.welcome
  await Promise.race([gone, pause(END_MS, undefined, { ref: false }).then(() => signal(pid, 'SIGKILL'))])
  channel.close()
}

/** Responders of this control socket whose socket was deleted or renamed away. */
export function orphans(control: string): readonly number[] {
  const pids: number[] = []
  try {
    for (const entry of readdirSync('/proc')) {
      if (!/^\d+$/.test(entry)) continue
      const words = commandLine(entry).split('\0')
      const at = words.indexOf(control + NEXT)
      if (at > 0 && words[at - 1] === program()) pids.push(Number(entry))
    }
  } catch {
    // Without /proc nobody is found.
  }
  return pids
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // Gone already.
  }
}

export function removeSockets(control: string): void {
  try {
    for (const path of [control, control + NEXT]) rmSync(path, { force: true })
  } catch {
    // What stays there is named by the failure of the next start.
  }
}

export function failed(fix: string, cause: unknown): DnsError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new DnsError('PROCESS_FAILED', { message: `the DNS responder does not run: ${why}`, fix }, cause)
}
