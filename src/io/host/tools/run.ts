// Runs the host's tools: an argument list, never a shell; a deadline on each; errors that say what to do.
// Invariants
//   1. A call ends at its deadline, even if the tool hangs: the tool and its children are killed, and the call does not wait for their
//      exit.
//   2. After a call that hung, the tool is first asked a harmless question with a short deadline, so that trying again is cheap and the
//      first call after it answers again is a real one.
//      If it answers the question, it is slow and does not hang: its deadlines double, up to PATIENCE_MAX, until a call is quick again.
//   3. While a killed call has not gone (the kernel does not let it), the tool is not started again: at most one such process each.
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, constants, existsSync, openSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { HostError } from '../errors.ts'
import { deadlineOf, packageOf, questionOf } from './tools.ts'
import type { Run, RunOptions, RunResult } from '../ports.ts'

// The question takes milliseconds, also on a busy machine.
const QUESTION_DEADLINE_MS = 1_000
const PATIENCE_MAX = 4
// 10,000 services × 10 endpoints as JSON from nft are about 30 MB.
const OUTPUT_BYTES_MAX = 128 << 20
const STDERR_SHOWN = 2_000

export interface CreateRunOptions {
  /** Goes before every command, as in `ip netns exec <name>`. */
  readonly prefix?: readonly string[]
}

/** Errors of the result: TOOL_MISSING, NOT_ROOT, TOOL_TIMEOUT, TOOL_FAILED, OUTPUT_TOO_LARGE, ABORTED. */
export function createRun(options: CreateRunOptions = {}): Run {
  const prefix = options.prefix ?? []
  const start = (tool: string, args: readonly string[], runOptions: RunOptions): Promise<RunResult> =>
    execute(tool, [...prefix, tool, ...args], runOptions)
  /** Tools whose last call hung. */
  const hung = new Set<string>()
  /** By what the deadlines of a tool are multiplied; 1 where it is not here. */
  const patience = new Map<string, number>()

  async function asked(tool: string, signal: AbortSignal | undefined): Promise<void> {
    const question = questionOf(tool)
    if (question === undefined) return
    await start(tool, question, {
      deadlineMs: QUESTION_DEADLINE_MS,
      ...(signal === undefined ? {} : { signal })
    }).catch((error: unknown) => {
      // Any answer is an answer, also a refusal.
      if (!(error instanceof HostError) || error.code !== 'TOOL_FAILED') throw error
    })
  }

  return async (tool, args, runOptions = {}) => {
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
}

/** The environment of tools: system folders in PATH even for a user's shell, messages in English, nothing else of ours. */
export function toolEnvironment(): NodeJS.ProcessEnv {
  // LOG_LEVEL left out: with it, wireguard-go keeps our output pipes open for as long as it lives.
  return { PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`, LC_ALL: 'C' }
}

/** Ends of killed calls, by tool: as a rule within a millisecond, and not before a disk or a lock lets go of it. */
const killed = new Map<string, Set<Promise<unknown>>>()

/** Errors: TOOL_TIMEOUT while a killed call of this tool is still there. */
async function withoutKilled(tool: string): Promise<void> {
  const ends = killed.get(tool)
  if (ends === undefined) return
  const giveUp = new AbortController()
  const late = pause(QUESTION_DEADLINE_MS, 'late', { signal: giveUp.signal }).catch(() => 'early')
  const first = await Promise.race([Promise.all(ends), late])
  giveUp.abort()
  if (first === 'late') throw stillThere(tool)
}

function execute(tool: string, argv: readonly string[], options: RunOptions): Promise<RunResult> {
  const { signal } = options
  const { deadlineMs = deadlineOf(tool, '') } = options
  // It may have come while another call was waited for.
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
      child[name]?.on('error', () => child.kill('SIGKILL')) // `close` follows, and tells
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        output[name] += text
        if (output[name].length > OUTPUT_BYTES_MAX) kill(tooLarge(tool))
      })
      child[name]?.on('error', () => undefined) // the exit code tells
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

/** With its children: a wrapper script would leave the tool itself behind. */
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
    child.kill('SIGKILL') // it has no group of its own, or has just gone
  }
}

function spawnTool(argv: readonly string[], options: RunOptions): ChildProcess {
  const [file = '', ...args] = argv
  const input = options.stdin ?? ''
  const stdin = options.stdinAsFile === true ? openUnlinked(input) : 'pipe'
  try {
    const child = spawn(file, args, {
      env: toolEnvironment(),
      stdio: [stdin, 'pipe', 'pipe'],
      // A group of its own, so that its children can be killed with it.
      detached: true
    })
    child.stdin?.on('error', () => undefined) // a tool that fails early does not read on; its exit code tells
    child.stdin?.end(input)
    return child
  } finally {
    if (typeof stdin === 'number') closeSync(stdin)
  }
}

/** Opens a descriptor that reads `text`, from a file that no other user can open and that is already unlinked. */
function openUnlinked(text: string): number {
  // Memory, not disk, wherever there is the usual tmpfs.
  const folder = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
  const path = `${folder}/rhizome-${randomBytes(12).toString('hex')}`
  try {
    writeFileSync(path, text, { mode: 0o600, flag: 'wx' })
    return openSync(path, constants.O_RDONLY)
  } finally {
    if (existsSync(path)) unlinkSync(path)
  }
}

/** wireguard-go says on standard output why it ends; what other tools print there may hold keys. */
function wordsOf(tool: string, { stdout, stderr }: { stdout: string; stderr: string }): string {
  return tool === 'wireguard-go' ? `${stderr}\n${stdout}` : stderr
}

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

export const ROOT_FIX = 'run as root, or with the capabilities NET_ADMIN and NET_RAW'

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
    message: `${tool} hangs, and the kernel has not ended it although it was killed`,
    fix: hangFix(tool)
  })
}

function hangFix(tool: string): string {
  return `see what ${tool} waits for: ps -C ${tool} -o pid,stat,wchan:32,args (state D: a disk or a lock of the kernel); the agent goes on by itself when ${tool} answers again`
}

function tooLarge(tool: string): HostError {
  return new HostError({
    code: 'OUTPUT_TOO_LARGE',
    tool,
    message: `${tool} printed more than ${OUTPUT_BYTES_MAX} bytes`
  })
}

function aborted(tool: string, signal: AbortSignal | undefined): HostError {
  return new HostError({ code: 'ABORTED', tool, message: `${tool} was given up`, cause: signal?.reason })
}
