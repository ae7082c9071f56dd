// Runs the host's tools for all parts of src/io/host: with a list of arguments and never a shell, with a deadline for
// each call, and with errors that say what to do (docs/decisions/0030-hung-tools-are-probed.md).
// Invariants
//   1. A call ends at its deadline, even if the tool hangs: the tool and its children are killed, and the call does not
//      wait for their exit.
//   2. After a call that hung, the tool must first answer a harmless call with a deadline of 1 s, so that trying again
//      is cheap. If it answers, it is slow and does not hang: its deadlines double, up to PATIENCE_MAX times the usual
//      one, until a call is quick again.
//   3. While a killed process of a tool still exists (the kernel waits for a disk or a lock), the tool is not started
//      again, so that such processes do not pile up.
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, constants, existsSync, openSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { HostError } from '../errors.ts'
import { openKernelReads } from '../kernel/reads.ts'
import { deadlineOf, packageOf, questionOf } from './tools.ts'
import type { Run, RunOptions, RunResult } from '../ports.ts'

// Deadline of the harmless call (invariant 2), which takes milliseconds, also on a busy machine.
const QUESTION_DEADLINE_MS = 1_000
// Largest factor of the deadlines of a slow tool.
const PATIENCE_MAX = 4
// Limit for standard output and for standard error, each. nft lists 10,000 services of 10 endpoints as about 30 MB.
const OUTPUT_BYTES_MAX = 128 << 20
// An error quotes at most this many characters of standard error.
const STDERR_SHOWN = 2_000

/** Options for all calls. */
interface CreateRunOptions {
  /** Words before every command, such as `ip netns exec <name>` in labs. Default none. */
  readonly prefix?: readonly string[]
}

/**
 * Returns a Run, which remembers the tools that hung. Errors of the Run: TOOL_MISSING, NOT_ROOT, TOOL_TIMEOUT,
 * TOOL_FAILED, OUTPUT_TOO_LARGE, ABORTED.
 */
export function createRun(options: CreateRunOptions = {}): Run {
  const prefix = options.prefix ?? []
  const start = (tool: string, args: readonly string[], runOptions: RunOptions): Promise<RunResult> =>
    execute(tool, [...prefix, tool, ...args], runOptions)
  /** Names of the tools whose last call hung. */
  const hung = new Set<string>()
  /** Factor of the deadlines of a tool; 1 for a tool that is not in the map. */
  const patience = new Map<string, number>()

  /** Makes the harmless call. Rejects if the tool does not answer it. */
  async function asked(tool: string, signal: AbortSignal | undefined): Promise<void> {
    const question = questionOf(tool)
    if (question === undefined) return
    await start(tool, question, {
      deadlineMs: QUESTION_DEADLINE_MS,
      ...(signal === undefined ? {} : { signal })
    }).catch((error: unknown) => {
      // A tool that answers with an error code works, so TOOL_FAILED is an answer, too.
      if (!(error instanceof HostError) || error.code !== 'TOOL_FAILED') throw error
    })
  }

  const runTool = async (tool: string, args: readonly string[], runOptions: RunOptions = {}) => {
    const { signal } = runOptions
    if (signal?.aborted) throw aborted(tool, signal)
    try {
      await withoutKilled(tool)
      if (hung.has(tool)) {
        await asked(tool, signal)
        patience.set(tool, Math.min(PATIENCE_MAX, 2 * (patience.get(tool) ?? 1)))
      }
      const ownMs = runOptions.deadlineMs ?? deadlineOf(tool, runOptions.stdin ?? '')
      const beganMs = performance.now()
      const result = await start(tool, args, { ...runOptions, deadlineMs: ownMs * (patience.get(tool) ?? 1) })
      hung.delete(tool)
      if (performance.now() - beganMs < ownMs / 2) patience.delete(tool)
      return result
    } catch (error) {
      if (error instanceof HostError && error.code === 'TOOL_TIMEOUT') hung.add(tool)
      else hung.delete(tool)
      throw error
    }
  }
  // With words before each command, the tools may run in another network namespace.
  return prefix.length > 0 ? runTool : Object.assign(runTool, { kernel: openKernelReads() })
}

/**
 * Returns the environment of tools: PATH with /usr/sbin and /sbin, which the shell of a user may not have, and messages
 * in English, because errors are known by their words. Tools inherit no other variable.
 */
export function toolEnvironment(): NodeJS.ProcessEnv {
  // With LOG_LEVEL, wireguard-go would keep our output pipes open as long as it lives.
  return { PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`, LC_ALL: 'C' }
}

/**
 * For each tool, promises that resolve when its killed processes have ended. A killed process ends within 1 ms, unless
 * the kernel waits for a disk or a lock.
 */
const killed = new Map<string, Set<Promise<unknown>>>()

/** Waits for killed processes of this tool, 1 s at most. Errors: TOOL_TIMEOUT if one still exists then. */
async function withoutKilled(tool: string): Promise<void> {
  const ends = killed.get(tool)
  if (ends === undefined) return
  const giveUp = new AbortController()
  const late = pause(QUESTION_DEADLINE_MS, 'late', { signal: giveUp.signal }).catch(() => 'early')
  const first = await Promise.race([Promise.all(ends), late])
  giveUp.abort()
  if (first === 'late') throw stillThere(tool)
}

/** Runs one process. Its result or its error settles the promise once; all that comes later is ignored. */
function execute(tool: string, argv: readonly string[], options: RunOptions): Promise<RunResult> {
  const { signal } = options
  const { deadlineMs = deadlineOf(tool, '') } = options
  // The signal may have been aborted while the call waited for a killed process.
  if (signal?.aborted === true) return Promise.reject(aborted(tool, signal))
  return new Promise((resolve, reject) => {
    const child = spawnTool(argv, options)
    const output = { stdout: '', stderr: '' }
    let isOver = false
    const settle = () => {
      isOver = true
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
    }
    const kill = (error: HostError) => {
      if (isOver) return
      settle()
      killGroup(child, tool)
      reject(error)
    }
    const timer = setTimeout(() => kill(timedOut(tool, deadlineMs)), deadlineMs)
    const onAbort = () => kill(aborted(tool, signal))
    signal?.addEventListener('abort', onAbort, { once: true })
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.on('error', () => child.kill('SIGKILL')) // `close` follows and reports the failure
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        output[name] += text
        if (output[name].length > OUTPUT_BYTES_MAX) kill(tooLarge(tool))
      })
      child[name]?.on('error', () => undefined) // the exit code reports the failure
    }
    child.on('error', (error) => {
      if (isOver) return
      settle()
      reject(notStarted(tool, error))
    })
    child.on('close', (code, signalName) => {
      if (isOver) return
      settle()
      const exitCode = code ?? -1
      if (exitCode === 0 || options.okCodes?.includes(exitCode) === true) resolve({ ...output, exitCode })
      else reject(failed(tool, wordsOf(tool, output), signalName ?? `exit code ${exitCode}`))
    })
  })
}

/** Kills the process with its children, because a wrapper script alone would leave the tool itself behind. */
function killGroup(child: ChildProcess, tool: string): void {
  child.stdout?.destroy()
  child.stderr?.destroy()
  const { pid } = child
  if (pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ends = killed.get(tool) ?? new Set()
  const end = once(child, 'exit')
    .catch(() => undefined)
    .finally(() => {
      ends.delete(end)
      if (ends.size === 0) killed.delete(tool)
    })
  killed.set(tool, ends.add(end))
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    child.kill('SIGKILL') // the process has no group of its own, or has just ended
  }
}

/** Starts a process with the text of stdin on a pipe, or on a descriptor of a file that has no name any more. */
function spawnTool(argv: readonly string[], options: RunOptions): ChildProcess {
  const [file = '', ...args] = argv
  const input = options.stdin ?? ''
  const stdin = options.stdinAsFile === true ? openUnlinked(input) : 'pipe'
  try {
    const child = spawn(file, args, {
      env: toolEnvironment(),
      stdio: [stdin, 'pipe', 'pipe'],
      // The process leads a group, so that its children can be killed with it.
      detached: true
    })
    child.stdin?.on('error', () => undefined) // a tool that fails early stops reading; its exit code reports that
    child.stdin?.end(input)
    return child
  } finally {
    if (typeof stdin === 'number') closeSync(stdin)
  }
}

/** Returns a descriptor that reads `text` from a file that no other user could open and that is unlinked already. */
function openUnlinked(text: string): number {
  // /dev/shm is a tmpfs on usual hosts, so that a secret is in memory and never on a disk.
  const folder = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
  const path = `${folder}/rhizome-${randomBytes(12).toString('hex')}`
  try {
    writeFileSync(path, text, { mode: 0o600, flag: 'wx' })
    return openSync(path, constants.O_RDONLY)
  } finally {
    if (existsSync(path)) unlinkSync(path)
  }
}

/**
 * Returns the text for an error. wireguard-go gives its reason on stdout; that of other tools may hold keys. Before its
 * reason it prints, on each Linux, a box that says that this kernel has WireGuard, also where it has none.
 */
function wordsOf(tool: string, { stdout, stderr }: { stdout: string; stderr: string }): string {
  return tool === 'wireguard-go' ? `${stderr}\n${stdout}`.replaceAll(/^[┌│└].*\n?/gm, '') : stderr
}

/** Chooses the code of a failure by the words of the tool: TOOL_MISSING (`ip netns exec`), NOT_ROOT or TOOL_FAILED. */
function failed(tool: string, stderr: string, how: string): HostError {
  const text = stderr.trim().slice(0, STDERR_SHOWN)
  if (/exec of ".*" failed: No such file/.test(text)) return missing(tool)
  const denied = /operation not permitted|permission denied|must be root/i.test(text)
  return new HostError({
    code: denied ? 'NOT_ROOT' : 'TOOL_FAILED',
    tool,
    stderr: text,
    message: `${tool} failed (${how})${text === '' ? '' : `: ${text}`}`,
    ...(denied ? { fix: ROOT_FIX } : {})
  })
}

/** The fix of all errors NOT_ROOT. */
export const ROOT_FIX = 'run the agent as root, or with the capabilities NET_ADMIN and NET_RAW'

/** Returns the error TOOL_MISSING, whose fix names the package. */
export function missing(tool: string): HostError {
  const name = packageOf(tool)
  return new HostError({
    code: 'TOOL_MISSING',
    tool,
    message: `the tool ${tool} is not installed`,
    fix: `install the package ${name} (Debian and Ubuntu: apt-get install ${name})`
  })
}

function notStarted(tool: string, error: NodeJS.ErrnoException): HostError {
  if (error.code === 'ENOENT') return missing(tool)
  return new HostError({
    code: error.code === 'EACCES' || error.code === 'EPERM' ? 'NOT_ROOT' : 'TOOL_FAILED',
    tool,
    message: `cannot start ${tool}: ${error.message}`,
    fix: ROOT_FIX,
    cause: error
  })
}

function timedOut(tool: string, deadlineMs: number): HostError {
  return new HostError({
    code: 'TOOL_TIMEOUT',
    tool,
    message: `${tool} did not end within ${deadlineMs / 1000} s and was killed`,
    fix: hangFix(tool)
  })
}

function stillThere(tool: string): HostError {
  return new HostError({
    code: 'TOOL_TIMEOUT',
    tool,
    message: `${tool} hangs: the agent killed it, but the kernel has not ended it yet`,
    fix: hangFix(tool)
  })
}

function hangFix(tool: string): string {
  return `see what ${tool} waits for: ps -C ${tool} -o pid,stat,wchan:32,args (state D: it waits for a disk or a lock of the kernel); the agent continues when ${tool} answers again`
}

function tooLarge(tool: string): HostError {
  return new HostError({
    code: 'OUTPUT_TOO_LARGE',
    tool,
    message: `${tool} printed more than ${OUTPUT_BYTES_MAX} bytes`
  })
}

function aborted(tool: string, signal: AbortSignal | undefined): HostError {
  return new HostError({ code: 'ABORTED', tool, message: `${tool} was cancelled`, cause: signal?.reason })
}
