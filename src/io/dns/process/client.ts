// The agent's side of the responder process. It finds the running process or starts one, sends it settings and names,
// and receives its query counts.
//
// The process is started detached, so it outlives the agent: an agent that was restarted or killed finds it at the
// control socket, with the names that it had. Only a process of the same version that listens on the desired addresses
// is kept. Any other process goes on answering while a new process is started and receives the names. The old process
// ends when the new one listens, too: both share the port for a moment (listeners.ts), so no query finds it closed.
//
// The process ends after `end()` or `endDnsProcess()` (leave, cleanup), when no agent has been connected for
// `outliveSeconds`, or when all processes of the agent's group are ended: by systemd with KillMode=control-group (use
// KillMode=process), or with the container that it runs in.
import { renameSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'

import { NamesFeed, type FeedState, type NamesMessage } from '../../../core/dns/names-feed.ts'
import { DnsError, type DnsErrorCode } from '../errors.ts'
import { fileProblem, type DnsProblem } from '../problems.ts'
import { UPSTREAM_LOOK_MS } from '../upstream-watch.ts'
import { findUpstreams, socketAddressText, type SocketAddress } from '../upstreams.ts'
import { openChannel, type Channel } from './channel.ts'
import type { QueryCount, ServerSettings, ToAgent } from './protocol.ts'
import { ended, failed, handedOver, NEXT, orphans, removeSockets, signal, startProcess } from './spawn.ts'

export interface DnsProcessOptions {
  /** Path of the control socket, in a folder of the agent's user. */
  readonly control: string
  /** The version of this software. A process of another version is replaced. */
  readonly version: string
  /** The addresses to listen on. A process that listens on others is replaced. */
  readonly listen: readonly SocketAddress[]
  readonly settings: ServerSettings
  /** Returns the current state; called for each round of updates. */
  readonly state: () => FeedState
  /** Called several times a second with the queries since the last call. */
  readonly onCounts?: (counts: readonly QueryCount[]) => void
  /** Called with all problems of the upstreams whenever one begins or ends. */
  readonly onProblems?: (problems: readonly DnsProblem[]) => void
  /** Called with a sentence for the log. */
  readonly onWarning?: (message: string) => void
  /** Called when the process has ended without an order to do so. Call `start()` again. */
  readonly onGone?: () => void
}

export interface DnsProcess {
  /**
   * Finds or starts the process and resolves when it listens. After a failure it may be called again. Errors: DnsError
   * PORT_IN_USE, PORT_FORBIDDEN, ADDRESS_NOT_LOCAL, BAD_ADDRESS, BAD_UPSTREAM, LISTEN_FAILED, PROCESS_FAILED.
   */
  start(): Promise<void>
  /** Call when `state()` has changed. */
  update(): void
  /** Sends changed settings to the process. Throws DnsError BAD_UPSTREAM. */
  set(settings: ServerSettings): void
  /** Disconnects from the process, which goes on answering for `outliveSeconds`. */
  detach(): void
  /** Ends the process and resolves when it is gone, after at most 3 s. */
  end(): Promise<void>
  /** The bound addresses; empty while the process does not listen. */
  readonly listening: readonly SocketAddress[]
  /** The process id of the responder; undefined without one. */
  readonly pid: number | undefined
  /** True if the process has all names of `state()` as of the last update. */
  readonly isUpToDate: boolean
}

/** Returns a client, which does nothing before `start`. */
export function createDnsProcess(options: DnsProcessOptions): DnsProcess {
  return new Client(options)
}

/**
 * Ends the responder at this control socket, for the cleanup of a stopped agent. Resolves to false when there was none.
 */
export async function endDnsProcess(control: string): Promise<boolean> {
  const channel = await openChannel(control, '').catch(() => undefined)
  if (channel !== undefined) await ended(channel)
  const others = orphans(control)
  for (const pid of others) signal(pid, 'SIGTERM')
  removeSockets(control)
  return channel !== undefined || others.length > 0
}

/**
 * At most one channel is open. `#take` starts its feed of names and its timers; `#release` stops the timers. A loop
 * compares its channel with `#channel` after each wait, and ends when another channel has replaced it.
 */
class Client implements DnsProcess {
  readonly #options: DnsProcessOptions
  #settings: ServerSettings
  #channel: Channel | undefined
  /** Computes the messages that bring the process from what it was sent to the present state. */
  #feed: NamesFeed | undefined
  #listening: readonly SocketAddress[] = []
  /** The settings that the process was last sent. */
  #sent: ServerSettings | undefined
  /** The problems that the process reports; those of files are found here, where the files are read. */
  #problems: readonly DnsProblem[] = []
  #fileProblems: readonly DnsProblem[] = []
  #upstreamLook: NodeJS.Timeout | undefined
  /** True if the state has changed since the last round of updates began. */
  #isDirty = false
  /** True while a round of updates is being sent. */
  #isTelling = false
  /** The timer that kills a process which sends nothing for SILENCE_MS. */
  #silence: NodeJS.Timeout | undefined
  /** The timer that ends KEPT_MS: names that only the process has are then removed from it. */
  #patience: NodeJS.Timeout | undefined
  #isStopped = false

  constructor(options: DnsProcessOptions) {
    this.#options = options
    this.#settings = options.settings
  }

  get listening(): readonly SocketAddress[] {
    return this.#listening
  }

  get pid(): number | undefined {
    return this.#channel?.welcome.pid
  }

  get isUpToDate(): boolean {
    return this.#feed?.isCatchingUp === false && !this.#isDirty && !this.#isTelling
  }

  async start(): Promise<void> {
    const { control, version, listen } = this.#options
    const old = await openChannel(control, version).catch(() => undefined)
    if (old !== undefined && old.welcome.version === version && isSame(old.welcome.wanted, listen)) {
      this.#take(old)
      this.#listening = old.welcome.listening
      this.#lookForUpstreams()
      this.update()
      return
    }
    // A new process that could not listen yet is kept for the next attempt.
    const fresh = this.#channel ?? (await startProcess(control + NEXT, version))
    if (this.#channel === undefined) this.#take(fresh)
    this.update()
    if (old !== undefined) await this.#told(fresh)
    await this.#listen(fresh, old)
    renameSync(control + NEXT, control)
  }

  update(): void {
    this.#isDirty = true
    if (!this.#isTelling && this.#channel !== undefined) void this.#tell(this.#channel)
  }

  set(settings: ServerSettings): void {
    if (JSON.stringify(settings) === JSON.stringify(this.#settings)) return
    this.#settings = settings
    this.#lookForUpstreams()
  }

  /** The agent reads the files, because the process drops the privileges that reading may need. */
  #lookForUpstreams(): void {
    const { upstreams, problems } = findUpstreams(this.#settings.upstreams)
    const sent = { ...this.#settings, upstreams: upstreams.map(socketAddressText) }
    if (JSON.stringify(sent) !== JSON.stringify(this.#sent))
      this.#channel?.send({ kind: 'settings', settings: sent })
    this.#sent = sent
    if (problems.join() === this.#fileProblems.map(({ subject }) => subject).join()) return
    this.#fileProblems = problems.map(fileProblem)
    this.#tellProblems()
  }

  #tellProblems(): void {
    this.#options.onProblems?.([...this.#fileProblems, ...this.#problems])
  }

  detach(): void {
    this.#isStopped = true
    this.#release()?.close()
  }

  async end(): Promise<void> {
    this.#isStopped = true
    const channel = this.#release()
    if (channel !== undefined) await ended(channel)
    removeSockets(this.#options.control)
  }

  #take(channel: Channel): void {
    this.#channel = channel
    this.#feed = new NamesFeed(channel.welcome.complete)
    // The process may have names that this agent lost with a damaged disk. Neighbours send them again. Names that are
    // still missing here after KEPT_MS are removed from the process.
    this.#patience = setTimeout(() => {
      this.#feed?.forgetKept()
      this.update()
    }, KEPT_MS)
    const { onCounts, onWarning, onGone } = this.#options
    this.#sent = undefined
    this.#upstreamLook = setInterval(() => this.#lookForUpstreams(), UPSTREAM_LOOK_MS)
    this.#heard()
    channel.onMessage((message: ToAgent) => {
      if (message.kind === 'counts') {
        this.#heard()
        onCounts?.(message.counts)
      } else if (message.kind === 'problems') {
        this.#problems = message.problems
        this.#tellProblems()
      } else if (message.kind === 'warning') onWarning?.(message.message)
    })
    channel.onClosed(() => {
      if (this.#channel !== channel) return
      this.#release()
      if (!this.#isStopped) onGone?.()
    })
  }

  #release(): Channel | undefined {
    const channel = this.#channel
    clearTimeout(this.#silence)
    clearTimeout(this.#patience)
    clearInterval(this.#upstreamLook)
    this.#channel = undefined
    this.#listening = []
    return channel
  }

  /** Restarts the watchdog timer: a process that hangs sends no counts and answers no queries. */
  #heard(): void {
    clearTimeout(this.#silence)
    this.#silence = setTimeout(() => {
      const { pid } = this
      this.#options.onWarning?.(
        `the DNS responder sent no message for ${SILENCE_MS / 1000} s; the agent ends it and starts another`
      )
      if (pid !== undefined) signal(pid, 'SIGKILL')
      this.#channel?.close()
    }, SILENCE_MS)
  }

  /**
   * Makes the new process listen, and then ends the old process, if there is one. If the port stays in use, other responders of this control socket are ended, and the new process tries once more. Errors:
   * DnsError.
   */
  async #listen(fresh: Channel, old: Channel | undefined): Promise<void> {
    const { control, listen } = this.#options
    const attempt = async (from: Channel | undefined): Promise<void> => {
      const said = fresh.next(
        (message) => (message.kind === 'listening' || message.kind === 'listenFailed' ? message : undefined),
        LISTEN_MS
      )
      const patienceMs = from === undefined ? 0 : PATIENCE_MS
      this.#lookForUpstreams()
      const settings = this.#sent ?? { ...this.#settings, upstreams: [] }
      fresh.send({ kind: 'listen', listen, settings, patienceMs })
      const [answer] = await Promise.all([said, from && handedOver(from, said)]).catch((error: unknown) => {
        throw failed('see the log of meshd', error)
      })
      if (answer.kind === 'listenFailed') throw new DnsError(answer.code as DnsErrorCode, answer)
      this.#listening = answer.listening
    }
    try {
      await attempt(old)
    } catch (error) {
      // A responder of ours whose control socket was deleted cannot be told to end, so it is found in /proc.
      const isTaken = error instanceof DnsError && error.code === 'PORT_IN_USE'
      const left = isTaken ? orphans(control).filter((pid) => pid !== fresh.welcome.pid) : []
      if (left.length === 0) throw error
      for (const pid of left) signal(pid, 'SIGTERM')
      await pause(ORPHAN_MS)
      await attempt(undefined)
    }
  }

  /** Waits until the new process has all names, so that it does not answer with fewer than the old one. */
  async #told(channel: Channel): Promise<void> {
    const endMs = performance.now() + TOLD_MS
    while (this.#channel === channel && !this.isUpToDate && performance.now() < endMs) await pause(5)
  }

  /** Sends the names in frames of 32 KiB with a pause after each, so that neither process is blocked for long. */
  async #tell(channel: Channel): Promise<void> {
    this.#isTelling = true
    try {
      while (this.#isDirty && this.#channel === channel) {
        this.#isDirty = false
        const feed = this.#feed
        if (feed === undefined) return
        let messages: NamesMessage[] = []
        let bytes = 0
        for (const message of feed.messages(this.#options.state())) {
          messages.push(message)
          bytes += sizeOf(message)
          if (bytes < FRAME_BYTES) continue
          channel.send({ kind: 'names', messages })
          messages = []
          bytes = 0
          await channel.drained()
          await nextTurn()
          if (this.#channel !== channel) return
        }
        if (messages.length > 0) channel.send({ kind: 'names', messages })
        await pause(TELL_MS)
      }
    } catch (error) {
      this.#options.onWarning?.(`the agent could not send the names to the DNS responder: ${String(error)}`)
      channel.close()
    } finally {
      this.#isTelling = false
      if (this.#isDirty && this.#channel !== undefined) void this.#tell(this.#channel)
    }
  }
}

/** Encoding a frame of this size takes about 2 ms, and so does reading it. */
const FRAME_BYTES = 32 * 1024
/** Milliseconds to wait for the answer to `listen`: longer than PATIENCE_MS. */
const LISTEN_MS = 10_000
/**
 * Milliseconds for which the new process tries to bind: longer than the 2 s after which the old process is told to end and
 * the 3 s after which it is killed (spawn.ts).
 */
const PATIENCE_MS = 8000
/** A responder ends at once on SIGTERM (main.ts); then the kernel frees its port. */
const ORPHAN_MS = 200
/**
 * The pause between two rounds of updates. The first change is sent at once; of thousands per second, all changes of
 * one round go together, because each message costs the process a buffer of 64 KiB that must be garbage-collected.
 */
const TELL_MS = 20
/** Milliseconds to wait until the new process has all names. Sending a million endpoints takes some seconds. */
const TOLD_MS = 30_000
/**
 * Milliseconds for which the process keeps names that this agent does not have, for example after its disk was damaged.
 * In this time neighbours send the lost records again.
 */
const KEPT_MS = 60_000
/**
 * A process that has sent nothing for so many milliseconds is killed. It sends counts several times a second, but a
 * host without free processor time may delay them.
 */
const SILENCE_MS = 20_000

/** Estimates the encoded size of a message in bytes; slices are most of it. */
function sizeOf(message: NamesMessage): number {
  if (message.kind !== 'service') return SMALL_BYTES
  return message.slices.reduce((sum, { bytes }) => sum + SMALL_BYTES + (bytes?.length ?? 0), SERVICE_BYTES)
}

const SMALL_BYTES = 64
const SERVICE_BYTES = 400

function isSame(left: readonly SocketAddress[], right: readonly SocketAddress[]): boolean {
  return JSON.stringify(left) === JSON.stringify(right)
}

/** Lets other work of the event loop run. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
