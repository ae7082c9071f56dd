// Starts, finds and ends responder processes, as the kernel sees them: by path of the control socket, process id and
// command line. client.ts decides when.
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as pause } from 'node:timers/promises'
import { DnsError } from '../errors.ts'
import { openChannel, type Channel } from './channel.ts'

/**
 * Appended to the path of the control socket while a process does not listen on its addresses yet. One character only,
 * because the path of a unix socket has at most 107 bytes (unix(7)).
 */
export const NEXT = '+'
/** Milliseconds in which the process must open its control socket. Node starts slowly on a busy host. */
const START_MS = 15_000
/** Milliseconds between two attempts to connect to the control socket. */
const START_LOOK_MS = 10
/** A process that has not ended so many milliseconds after `stop` is killed. */
const END_MS = 3000
/**
 * Milliseconds in which a process that was sent `listen` binds, also on a busy host, where the old one shares its port. After
 * them the old one is of a version that does not, and the new one tries to bind every millisecond.
 */
const SHARED_BIND_MS = 2000

/**
 * Starts a process whose control socket is `path`, and connects to it. Resolves after the handshake. Errors: DnsError
 * PROCESS_FAILED after 15 s, or as soon as the process has ended; the process is killed then.
 */
export async function startProcess(path: string, version: string): Promise<Channel> {
  removeSockets(path)
  // `exit` says why the process has ended.
  const fate: { exit?: string } = {}
  const child = spawn(process.execPath, [...FLAGS, program(), path, version], {
    detached: true,
    stdio: 'ignore',
    cwd: '/',
    // The agent's environment is not passed on, since it may have secrets. These three variables keep memory small
    // (mallopt(3)): two arenas, free memory above 128 KiB back to the kernel, one thread in libuv's pool.
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
    `check that this host can start another process and that the agent can create files in ${dirname(path)}`,
    fate.exit ?? failure ?? `it did not answer within ${START_MS / 1000} s`
  )
}

/**
 * Semi-spaces of 2 MiB keep the process small. Warnings about experimental features have no reader: there is no stderr.
 */
const FLAGS = ['--max-semi-space-size=2', '--disable-warning=ExperimentalWarning']

/** The path of the process's program: beside the bundle of meshd, or in this folder when meshd runs from source. */
function program(): string {
  const here = fileURLToPath(import.meta.url)
  if (here.endsWith('.ts')) return join(dirname(here), 'main.ts')
  const folder = dirname(here)
  return join(basename(folder) === 'chunks' ? dirname(folder) : folder, PROGRAM)
}

const PROGRAM = 'meshd-dns.js'

/**
 * Ends an old process once the new one listens beside it (`said` settles), or tries to bind a port that the old one does not
 * share.
 */
export async function handedOver(channel: Channel, said: Promise<unknown>): Promise<void> {
  await Promise.race([said.catch(() => undefined), pause(SHARED_BIND_MS, undefined, { ref: false })])
  await ended(channel)
}

/** Sends `stop` and waits until the process has closed the channel. Kills it after 3 s. Never rejects. */
export async function ended(channel: Channel): Promise<void> {
  const gone = new Promise<void>((resolve) => channel.onClosed(resolve))
  channel.send({ kind: 'stop' })
  const { pid } = channel.welcome
  const isLate = await Promise.race([gone, pause(END_MS, true, { ref: false })])
  // Not after `gone`: another process may have this id by then.
  if (isLate === true) signal(pid, 'SIGKILL')
  channel.close()
}

/**
 * Returns the process ids of all responders that were started for this control socket, found by their command lines in
 * /proc. Finds also those whose socket file was deleted, which cannot be reached otherwise.
 */
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
    // Without /proc no process is found.
  }
  return pids
}

/** The arguments with a NUL byte between them (proc(5)); '' for a process that has ended. */
function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

/** Sends a signal. Does nothing when the process has ended or is not ours, and for the ids of process groups (kill(2): 0, below 0). */
export function signal(pid: number, name: NodeJS.Signals): void {
  if (pid <= 0) return
  try {
    process.kill(pid, name)
  } catch {
    // ESRCH: the process has ended already. EPERM: it is another user's.
  }
}

/** Removes the socket files of a process that has ended; a file in the way would make the next bind fail. */
export function removeSockets(control: string): void {
  try {
    for (const path of [control, control + NEXT]) rmSync(path, { force: true })
  } catch {
    // If a file stays, the next start fails and names it.
  }
}

/** Makes a DnsError PROCESS_FAILED of an error, or of a clause such as "it ended with code 1". */
export function failed(fix: string, cause: unknown): DnsError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new DnsError('PROCESS_FAILED', { message: `the DNS responder does not run: ${why}`, fix }, cause)
}
