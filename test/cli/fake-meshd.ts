// An admin API on a unix socket in a temporary folder that says what the test tells it to, and the CLI as a child process.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { API_VERSION } from '../../src/api/answers.ts'
import { build, MESHCTL } from '../built.ts'
import { slowness } from '../eventually.ts'

export interface FakeRequest {
  readonly method: string
  /** With the query. */
  readonly url: string
  readonly body: unknown
}

export interface FakeMeshd {
  readonly folder: string
  readonly socket: string
  readonly requests: FakeRequest[]
  /** Answers a path such as "/v1/peers" from now on. */
  answer(path: string, body: object): void
  fail(path: string, status: number, error: { code: string; message: string; fix?: string }): void
  /** For answers of any form, or none at all. */
  handle(path: string, handler: (response: ServerResponse) => void): void
  stop(): Promise<void>
}

export async function startFakeMeshd(): Promise<FakeMeshd> {
  const folder = mkdtempSync(join(tmpdir(), 'meshctl-test-'))
  const socket = join(folder, 'meshd.sock')
  const handlers = new Map<string, (response: ServerResponse) => void>()
  const requests: FakeRequest[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const text = Buffer.concat(chunks).toString()
      const { method = '', url = '' } = request
      requests.push({ method, url, body: text === '' ? undefined : JSON.parse(text) })
      const handler = handlers.get(url.split('?')[0] ?? '')
      if (handler === undefined)
        send(response, 404, { error: { code: 'NOT_FOUND', message: `no such request: ${url}` } })
      else handler(response)
    })
  })
  server.listen(socket)
  await once(server, 'listening')
  return {
    folder,
    socket,
    requests,
    answer: (path, body) => void handlers.set(path, (response) => send(response, 200, body)),
    fail: (path, status, error) => void handlers.set(path, (response) => send(response, status, { error })),
    handle: (path, handler) => void handlers.set(path, handler),
    stop: () => stop(server, folder)
  }
}

export interface Run {
  readonly code: number | null
  readonly stdout: string
  /** Without the lines of `progressOf`. */
  readonly stderr: string
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>
  /** Default: an empty stdin that is no terminal. */
  readonly stdin?: string
  readonly onSpawn?: (child: ChildProcess) => void
}

// A run takes about 0.1 s; a machine may be busy.
const RUN_MS = 60_000

before(build)

/** Runs `node dist/meshctl.js …args` as a shell would. */
export async function meshctl(args: readonly string[], options: RunOptions = {}): Promise<Run> {
  return run(process.execPath, [MESHCTL, ...args], options)
}

export async function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<Run> {
  const child = spawn(file, args, { env: environment(options.env), stdio: 'pipe' })
  const timer = setTimeout(() => child.kill('SIGKILL'), RUN_MS * slowness())
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
  child.stdin.on('error', () => undefined) // the CLI need not read it
  options.onSpawn?.(child)
  child.stdin.end(options.stdin ?? '')
  await once(child, 'close')
  clearTimeout(timer)
  const text = Buffer.concat(err).toString()
  const result = {
    code: child.exitCode,
    stdout: Buffer.concat(out).toString(),
    stderr: text.replaceAll(PROGRESS, '')
  }
  progress.set(result, (text.match(PROGRESS) ?? []).join(''))
  return result
}

// A busy machine takes the second after which the CLI says what it waits for, so these lines stand apart from what every run prints.
const PROGRESS = /^.* \(at most \d+[a-z]+\)\n/gm
const progress = new WeakMap<Run, string>()

/** The lines of stderr that say what the CLI waits for, such as "reading the services (at most 10s)". */
export function progressOf(run: Run): string {
  return progress.get(run) ?? ''
}

/** Nothing of the developer's own settings reaches the run. */
function environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const { PATH = '', HOME = '/' } = process.env
  // The compile cache halves the time of a run.
  return { PATH, HOME, TERM: 'xterm', NODE_COMPILE_CACHE: join(tmpdir(), 'node-compile-cache'), ...extra }
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ apiVersion: API_VERSION, ...body }))
}

async function stop(server: Server, folder: string): Promise<void> {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  rmSync(folder, { recursive: true, force: true })
}
