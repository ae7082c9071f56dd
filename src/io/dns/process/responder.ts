// Runs the DNS responder in a process of its own. The process owns the sockets and the names, so that names are
// answered while the agent verifies records, programs the host, restarts or has crashed (docs/decisions/0044).
//
// Invariants:
//  1. The process binds its addresses once, when the agent sends `listen`, and then gives up its privileges. Other
//     addresses need another process.
//  2. One agent at a time: a later one takes the place of an earlier one. What an agent has sent is kept when it
//     disconnects.
//  3. Without an agent the process ends: at once if it does not listen yet, else after `outliveSeconds`.
//  4. The process has no standard streams and no secrets. All it reports goes to the agent.
import { chmodSync, rmSync, writeFileSync } from 'node:fs'
import { setPriority } from 'node:os'
import { createServer, type Server, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'

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
  /** Ends the process with this exit code. */
  readonly exit: (code: number) => void
}

/** The interval at which counts are sent. The agent takes them for a sign of life, too (client.ts, SILENCE_MS). */
const COUNTS_MS = 250
/**
 * Milliseconds for which messages of the agent are handled before the event loop handles queries again. To apply a
 * service of 100 endpoints takes about 0.5 ms.
 */
const WORK_MS = 1
/** An agent that leaves more than this unread is disconnected. It may connect again. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024
/**
 * The user and group id after `listen`. No account has it, unlike 65534 (nobody), which many processes share. It is
 * below 65,536, because user namespaces usually map no more ids.
 */
const UNPRIVILEGED_ID = 61_237

/** Resolves when the control socket listens. Rejects with the error of its bind. Called by main.ts, once. */
export async function runResponder(options: ResponderOptions): Promise<Pick<Responder, 'fail'>> {
  const responder = new Responder(options)
  await responder.start()
  return responder
}

class Responder {
  readonly #options: ResponderOptions
  readonly #names = new FedNames()
  /** The queries since the last message of counts: by "<zone> <rcode>", then by duration in seconds (`secondsStep`). */
  readonly #counts = new Map<string, Map<number, number>>()
  /** undefined until the addresses are bound. */
  #server: DnsServer | undefined
  /** The addresses of the agent's `listen`; `#server.listening` has the bound ports instead of 0. */
  #wanted: readonly SocketAddress[] = []
  #problems: readonly DnsProblem[] = []
  #outliveSeconds = 0
  #control: Server | undefined
  /** The agent of this version whose `hello` came last. */
  #agent: Socket | undefined
  /** All connections to the control socket, also those of agents that have been replaced. */
  readonly #sockets = new Set<Socket>()
  /** The timer that ends the process when no agent has been connected for STARTUP_SECONDS or `outliveSeconds`. */
  #ending: NodeJS.Timeout | undefined

  constructor(options: ResponderOptions) {
    this.#options = options
  }

  /** Opens the control socket. Rejects with the error of its bind. */
  async start(): Promise<void> {
    const { control } = this.#options
    const server = createServer((socket) => this.#serve(socket))
    this.#control = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      // With the umask, bind(2) creates the socket file with mode 0600: at no moment can another user connect.
      const umask = process.umask(0o177)
      server.listen(control, () => resolve())
      process.umask(umask)
    })
    chmodSync(control, 0o600)
    server.on('error', (error) => this.#warn(`control socket: ${String(error)}`))
    this.#endLater(STARTUP_SECONDS)
    setInterval(() => this.#tellCounts(), COUNTS_MS)
  }

  /**
   * Call after an error that no code expects. The agent gets the stack, and starts another process when this one ends.
   */
  fail(error: unknown): void {
    this.#warn(
      `the DNS responder ends because of an error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`
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
    // Names may come faster than they can be applied. After each WORK_MS the event loop answers queries.
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
          message: `the DNS responder cannot use a message of the agent: ${String(error)}`
        })
        socket.destroy()
      }
    }
    socket.on('data', (chunk) => {
      reader.push(chunk)
      if (!isWorking) work()
    })
  }

  /**
   * Yields true after each message or name that was handled, and false when there is none until more bytes have come.
   */
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
    // An agent of another version sends `stop` once its own process can take over. Its names would not be understood
    // here.
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

  /** Sends the counts, even when there are none. Without an agent they are kept for the next one. */
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

  /** Ends the process. The port is closed first, because another process may wait for it. */
  #end(code: number): void {
    void Promise.resolve(this.#server?.stop()).finally(() => {
      for (const socket of this.#sockets) socket.destroy()
      this.#control?.close()
      try {
        rmSync(this.#options.control, { force: true })
      } catch {
        // The folder belongs to root. The next agent removes a socket file on which no process listens.
      }
      setImmediate(() => this.#options.exit(code))
    })
  }
}

/**
 * Niceness (-20 to 19): above ordinary processes, which have 0, below what an operator may give to more urgent ones.
 */
const PRIORITY = -10
/** Milliseconds before the process exits after an error, in which the last warning reaches the agent. */
const FAREWELL_MS = 50
/** Seconds in which the agent that started the process must connect; otherwise the process ends. */
const STARTUP_SECONDS = 30

/**
 * Binds the server. With a patience, an old process hands the port over: both have it until the old one ends, so it is
 * closed at no moment. An old process of a version that does not share its port is waited for: the bind is tried again
 * every millisecond for `patienceMs`. Errors: of `server.start()`.
 */
async function startPatiently(server: DnsServer, patienceMs: number): Promise<void> {
  const endMs = performance.now() + patienceMs
  for (;;) {
    try {
      return await server.start({ shared: patienceMs > 0 })
    } catch (error) {
      const isTaken = error instanceof DnsError && error.code === 'PORT_IN_USE'
      if (!isTaken || performance.now() > endMs) throw error
    }
    await pause(1)
  }
}

/** Returns code, message and fix for an error that is not a DnsError. */
function unexpected(error: unknown): {
  readonly code: string
  readonly message: string
  readonly fix: string
} {
  return {
    code: 'LISTEN_FAILED',
    message: `DNS cannot listen: ${String(error)}`,
    fix: 'see the log of meshd'
  }
}

/**
 * Raises the priority and gives up root, if the process has it. In a container that lacks the capabilities or does not
 * map the id, the process keeps the identity that the container gave it.
 */
function dropPrivileges(): void {
  if (process.getuid?.() !== 0) return
  try {
    // A query takes microseconds and its client waits, so it goes before an agent that verifies a million endpoints.
    setPriority(PRIORITY)
    // With autogroups (sched(7)) the kernel shares time among sessions first, and niceness counts within a session
    // only.
    writeFileSync('/proc/self/autogroup', String(PRIORITY))
  } catch {
    // Without CAP_SYS_NICE the priority does not change; without autogroups niceness alone decides.
  }
  try {
    process.setgroups?.([UNPRIVILEGED_ID])
    process.setgid?.(UNPRIVILEGED_ID)
    process.setuid?.(UNPRIVILEGED_ID)
  } catch {
    // Without the capabilities CAP_SETUID and CAP_SETGID the process keeps its identity.
  }
}
