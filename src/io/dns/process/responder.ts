// The responder as a process of its own. It owns the sockets and the names, so that names are answered while the agent verifies, programs
// the host, restarts or has crashed.
//
// Invariants:
//  1. It listens when it is told to, once, and on those addresses for as long as it lives: then it gives up its privileges. Other addresses
//     need another process.
//  2. One agent at a time: a later one takes the place of an earlier one. What an agent told stays when it goes.
//  3. Without an agent it ends: at once when it does not listen yet, else after `outliveSeconds`.
//  4. It has no standard streams and no secrets; what it has to say goes to the agent.
import { chmodSync, rmSync, writeFileSync } from 'node:fs'
import { setPriority } from 'node:os'
import { createServer, type Server, type Socket } from 'node:net'
import { setImmediate as immediate, setTimeout as pause } from 'node:timers/promises'

import { FedNames } from '../../../core/dns/fed-names.ts'
import { DnsError } from '../errors.ts'
import type { DnsProblem } from '../problems.ts'
import type { QueryMetrics } from '../query-handler.ts'
import { createDnsServer, type DnsServer } from '../server.ts'
import type { SocketAddress } from '../upstreams.ts'
import {
  encodeFrame,
  FrameReader,
  secondsStep,
  type QueryCount,
  type ServerSettings,
  type ToAgent,
  type ToResponder
} from './protocol.ts'

interface ResponderOptions {
  /** Path of the unix socket for the agent. */
  readonly control: string
  readonly version: string
  readonly exit: (code: number) => void
}

const COUNTS_MS = 250
/** A service of a hundred endpoints takes half of it. */
const WORK_MS = 1
/** Of an agent that reads nothing: it is cut off, and may come again. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024
/** An identity that no other process has: nobody (65534) is shared by many. Without an account, below 65536 (user namespaces end there). */
const UNPRIVILEGED_ID = 61_237

/** Errors: of the control socket. */
export async function runResponder(options: ResponderOptions): Promise<Pick<Responder, 'fail'>> {
  const responder = new Responder(options)
  await responder.start()
  return responder
}

class Responder {
  readonly #options: ResponderOptions
  readonly #names = new FedNames()
  readonly #counts = new Map<string, Map<number, number>>()
  #server: DnsServer | undefined
  #wanted: readonly SocketAddress[] = []
  #problems: readonly DnsProblem[] = []
  #outliveSeconds = 0
  #control: Server | undefined
  #agent: Socket | undefined
  readonly #sockets = new Set<Socket>()
  #ending: NodeJS.Timeout | undefined

  constructor(options: ResponderOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    const { control } = this.#options
    const server = createServer((socket) => this.#serve(socket))
    this.#control = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      // No moment in which another user could connect.
      const umask = process.umask(0o177)
      server.listen(control, () => resolve())
      process.umask(umask)
    })
    chmodSync(control, 0o600)
    server.on('error', (error) => this.#warn(`control socket: ${String(error)}`))
    this.#endLater(STARTUP_SECONDS)
    setInterval(() => this.#tellCounts(), COUNTS_MS)
  }

  /** What nobody foresaw: the agent hears of it and starts another process. */
  fail(error: unknown): void {
    this.#warn(
      `the DNS responder ends: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`
    )
    setTimeout(() => this.#options.exit(1), FAREWELL_MS)
  }

  #serve(socket: Socket): void {
    const reader = new FrameReader()
    this.#sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      this.#sockets.delete(socket)
      if (this.#agent !== socket) return
      this.#agent = undefined
      this.#endLater(this.#server === undefined ? 0 : this.#outliveSeconds)
    })
    const steps = this.#steps(socket, reader)
    let isWorking = false
    // Names come faster than they can be taken in: questions have their turn after each WORK_MS.
    const work = (): void => {
      isWorking = false
      if (socket.destroyed) return
      try {
        const endMs = performance.now() + WORK_MS
        while (steps.next().value) {
          if (performance.now() < endMs) continue
          isWorking = true
          socket.pause()
          setImmediate(work)
          return
        }
        socket.resume()
      } catch (error) {
        this.#send(socket, {
          kind: 'warning',
          message: `the agent's message could not be used: ${String(error)}`
        })
        socket.destroy()
      }
    }
    socket.on('data', (chunk) => {
      reader.push(chunk)
      if (!isWorking) work()
    })
  }

  /** True: one thing was done; false: there is nothing to do until more has come. */
  *#steps(socket: Socket, reader: FrameReader): Generator<boolean, never> {
    for (;;) {
      const message = reader.next() as ToResponder | undefined
      if (message?.kind === 'names') {
        for (const each of message.messages) {
          this.#names.apply(each)
          yield true
        }
      } else if (message !== undefined) this.#handle(socket, message)
      yield message !== undefined
    }
  }

  #handle(socket: Socket, message: Exclude<ToResponder, { kind: 'names' }>): void {
    switch (message.kind) {
      case 'hello':
        return this.#welcome(socket, message.version)
      case 'stop':
        this.#end(0)
        return
      case 'listen':
        void this.#listen(socket, message)
        return
      case 'settings':
        this.#set(message.settings)
        return
      default:
        message satisfies never
    }
  }

  #welcome(socket: Socket, version: string): void {
    this.#send(socket, {
      kind: 'welcome',
      version: this.#options.version,
      pid: process.pid,
      wanted: this.#wanted,
      listening: this.#server?.listening ?? [],
      complete: this.#names.complete()
    })
    // An agent of another version will stop this process once its own can take over; its feed would not be understood.
    if (version !== this.#options.version) return
    this.#agent?.destroy()
    this.#agent = socket
    clearTimeout(this.#ending)
    this.#names.begin()
    this.#send(socket, { kind: 'problems', problems: this.#problems })
  }

  async #listen(
    socket: Socket,
    { listen, settings, patienceMs }: Extract<ToResponder, { kind: 'listen' }>
  ): Promise<void> {
    if (this.#server !== undefined) {
      this.#send(socket, { kind: 'listening', listening: this.#server.listening })
      return
    }
    const server = createDnsServer({
      listen,
      names: () => this.#names.names(),
      upstreams: settings.upstreams,
      allow: settings.allow,
      onQuery: (metrics) => this.#count(metrics),
      onWarning: (text, error) => this.#warn(error instanceof Error ? `${text}: ${error.message}` : text),
      onProblems: (problems) => {
        this.#problems = problems
        this.#tell({ kind: 'problems', problems })
      }
    })
    try {
      await startPatiently(server, patienceMs)
      dropPrivileges()
      this.#wanted = listen
      this.#server = server
      this.#outliveSeconds = settings.outliveSeconds
      this.#send(socket, { kind: 'listening', listening: server.listening })
    } catch (error) {
      await server.stop()
      const { code, message, fix } = error instanceof DnsError ? error : unexpected(error)
      this.#send(socket, { kind: 'listenFailed', code, message, fix })
    }
  }

  #set(settings: ServerSettings): void {
    this.#outliveSeconds = settings.outliveSeconds
    this.#server?.setAllow(settings.allow)
    this.#server?.setUpstreams(settings.upstreams)
  }

  #count({ zone, rcode, seconds }: QueryMetrics): void {
    const key = `${zone} ${rcode}`
    let steps = this.#counts.get(key)
    if (steps === undefined) this.#counts.set(key, (steps = new Map()))
    const step = secondsStep(seconds)
    steps.set(step, (steps.get(step) ?? 0) + 1)
  }

  /** Counted while no agent is there, they are told to the next one. */
  #tellCounts(): void {
    if (this.#agent === undefined) return
    const counts = [...this.#counts].map(([key, steps]): QueryCount => {
      const [zone = '', rcode = ''] = key.split(' ')
      return { zone, rcode, seconds: [...steps] }
    })
    this.#counts.clear()
    this.#tell({ kind: 'counts', counts })
  }

  #warn(message: string): void {
    this.#tell({ kind: 'warning', message })
  }

  #tell(message: ToAgent): void {
    if (this.#agent !== undefined) this.#send(this.#agent, message)
  }

  #send(socket: Socket, message: ToAgent): void {
    if (!socket.writable) return
    if (socket.writableLength > UNSENT_BYTES_MAX) socket.destroy()
    else socket.write(encodeFrame(message))
  }

  #endLater(seconds: number): void {
    clearTimeout(this.#ending)
    this.#ending = setTimeout(() => this.#end(0), seconds * 1000)
  }

  async #stopServer(): Promise<void> {
    // Questions that have come already are read and answered.
    for (let turn = 0; turn < 3; turn++) await immediate()
    await this.#server?.stop()
  }

  /** The port is free first of all: another process may wait for it. */
  #end(code: number): void {
    void this.#stopServer().finally(() => {
      for (const socket of this.#sockets) socket.destroy()
      this.#control?.close()
      try {
        rmSync(this.#options.control, { force: true })
      } catch {
        // The folder belongs to root; the next agent removes what nobody listens on.
      }
      setImmediate(() => this.#options.exit(code))
    })
  }
}

/** Niceness. Above all ordinary work, below what an operator may set for more urgent things. */
const PRIORITY = -10
/** For the last words to be sent. */
const FAREWELL_MS = 50
/** For the agent that started it to say what it wants. */
const STARTUP_SECONDS = 30

/** So that hardly a question meets a closed port when another process hands it over. Errors: of `server.start()`. */
async function startPatiently(server: DnsServer, patienceMs: number): Promise<void> {
  const endMs = performance.now() + patienceMs
  for (;;) {
    try {
      return await server.start()
    } catch (error) {
      const isTaken = error instanceof DnsError && error.code === 'PORT_IN_USE'
      if (!isTaken || performance.now() > endMs) throw error
    }
    await pause(1)
  }
}

function unexpected(error: unknown): {
  readonly code: string
  readonly message: string
  readonly fix: string
} {
  return {
    code: 'LISTEN_FAILED',
    message: `DNS cannot listen: ${String(error)}`,
    fix: 'See the log of meshd.'
  }
}

/** In a container without the capability, or where the identity is not mapped, it stays what the container made it. */
function dropPrivileges(): void {
  if (process.getuid?.() !== 0) return
  try {
    // A question takes microseconds, and whoever asks waits: it goes before an agent that verifies a million endpoints.
    setPriority(PRIORITY)
    // Where the kernel shares time among sessions first (sched_autogroup), niceness counts within one only.
    writeFileSync('/proc/self/autogroup', String(PRIORITY))
  } catch {
    // It takes its turn.
  }
  try {
    process.setgroups?.([UNPRIVILEGED_ID])
    process.setgid?.(UNPRIVILEGED_ID)
    process.setuid?.(UNPRIVILEGED_ID)
  } catch {
    // As above.
  }
}
