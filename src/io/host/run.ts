// Runs the host's tools: an argument list, never a shell; a deadline on each; errors that say what to do.
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, constants, existsSync, openSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { HostError } from './errors.ts'
import type { Run, RunOptions, RunResult } from './ports.ts'

const DEADLINE_MS = 10_000
// 10,000 services × 10 endpoints as JSON from nft are about 30 MB.
const OUTPUT_BYTES_MAX = 128 << 20
const STDERR_SHOWN = 2_000

/** Which Debian package a tool comes with. */
export const PACKAGES: Readonly<Record<string, string>> = {
  conntrack: 'conntrack',
  ip: 'iproute2',
  ipvsadm: 'ipvsadm',
  modprobe: 'kmod',
  nft: 'nftables',
  wg: 'wireguard-tools',
  'wireguard-go': 'wireguard-go'
}

export interface CreateRunOptions {
  /** Goes before every command, as in `ip netns exec <name>`. */
  readonly prefix?: readonly string[]
}

/** Errors of the result: TOOL_MISSING, NOT_ROOT, TOOL_TIMEOUT, TOOL_FAILED, OUTPUT_TOO_LARGE, ABORTED. */
export function createRun(options: CreateRunOptions = {}): Run {
  const prefix = options.prefix ?? []
  return (tool, args, runOptions = {}) => {
    if (runOptions.signal?.aborted) return Promise.reject(aborted(tool, runOptions.signal))
    return execute(tool, [...prefix, tool, ...args], runOptions)
  }
}

/** The environment of tools: system folders in PATH even for a user's shell, messages in English, nothing else of ours. */
export function toolEnvironment(): NodeJS.ProcessEnv {
  // LOG_LEVEL left out: with it, wireguard-go keeps our output pipes open for as long as it lives.
  return { PATH: `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`, LC_ALL: 'C' }
}

function execute(tool: string, argv: readonly string[], options: RunOptions): Promise<RunResult> {
  const { signal } = options
  return new Promise((resolve, reject) => {
    const child = start(argv, options)
    const output = { stdout: '', stderr: '' }
    let failure: HostError | undefined
    const kill = (error: HostError) => {
      failure ??= error
      child.kill('SIGKILL')
    }
    const deadlineMs = options.deadlineMs ?? DEADLINE_MS
    const timer = setTimeout(() => kill(timedOut(tool, deadlineMs)), deadlineMs)
    const onAbort = () => kill(aborted(tool, signal))
    signal?.addEventListener('abort', onAbort, { once: true })
    const settle = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
    }
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.on('error', () => child.kill('SIGKILL')) // `close` follows, and tells
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        output[name] += text
        if (output[name].length > OUTPUT_BYTES_MAX) kill(tooLarge(tool))
      })
    }
    child.on('error', (error) => {
      settle()
      reject(failure ?? notStarted(tool, error))
    })
    child.on('close', (code, signalName) => {
      settle()
      const exitCode = code ?? -1
      if (failure !== undefined) reject(failure)
      else if (exitCode === 0 || options.okCodes?.includes(exitCode) === true)
        resolve({ ...output, exitCode })
      else reject(failed(tool, output.stderr, signalName ?? `exit code ${exitCode}`))
    })
  })
}

function start(argv: readonly string[], options: RunOptions): ChildProcess {
  const [file = '', ...args] = argv
  const input = options.stdin ?? ''
  const stdin = options.stdinAsFile === true ? openUnlinked(input) : 'pipe'
  try {
    const child = spawn(file, args, {
      env: toolEnvironment(),
      stdio: [stdin, 'pipe', 'pipe'],
      detached: options.daemon === true
    })
    child.stdin?.on('error', () => undefined) // a tool that fails early does not read on; its exit code tells
    child.stdin?.end(input)
    return child
  } finally {
    if (typeof stdin === 'number') closeSync(stdin)
  }
}

/** A descriptor to read `text` from, through a file that nobody else can open and that is gone already. */
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
  const name = PACKAGES[tool] ?? tool
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
    message: `${tool} did not end within ${deadlineMs} ms`,
    fix: 'look at the load of this host; the next pass tries again'
  })
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
