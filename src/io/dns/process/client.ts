// The agent's side of the responder process: finds the one that runs, or starts one; tells it settings and names; hears its counts.
//
// The process is started detached, so it outlives the agent: an agent that is restarted or was killed finds it at the control socket, with
// the names that it had. Only a process of the same version that listens on the wanted addresses is kept. Any other goes on answering while
// a new one is started and told the names, and ends when the new one takes over the port: within a millisecond or two nobody listens then.
// What ends it: `end()` (leave, cleanup, other addresses), the time without an agent, and whatever ends all processes of the agent's
// group: systemd with KillMode=control-group (use KillMode=process), or the end of the container that it runs in.
import { renameSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'

import { NamesFeed, type FeedState, type NamesMessage } from '../../../core/dns/names-feed.ts'
import { DnsError, type DnsErrorCode } from '../errors.ts'
import { fileProblem, type DnsProblem } from '../problems.ts'
import { UPSTREAM_LOOK_MS } from '../server.ts'
import { findUpstreams, socketAddressText, type SocketAddress } from '../upstreams.ts'
import { openChannel, type Channel } from './channel.ts'
import type { QueryCount, ServerSettings, ToAgent } from './protocol.ts'
import { ended, failed, handedOver, NEXT, orphans, removeSockets, signal, startProcess } from './spawn.ts'

export interface DnsProcessOptions {
  /** Path of the control socket, in a folder of the agent's user. */
  readonly control: string
  readonly version: string
  readonly listen: readonly SocketAddress[]
  readonly settings: ServerSettings
  /** Read for each round of telling. */
  readonly state: () => FeedState
  readonly onCounts?: (counts: readonly QueryCount[]) => void
  readonly onProblems?: (problems: readonly DnsProblem[]) => void
  readonly onWarning?: (message: string) => void
  /** The process has gone, though nobody told it to: `start()` again. */
  readonly onGone?: () => void
}

export interface DnsProcess {
  /** Errors: DnsError. May be called again. */
  start(): Promise<void>
  /** Something of `state()` has changed. */
  update(): void
  set(settings: ServerSettings): void
  /** The agent ends or looks away: the process goes on for `outliveSeconds`. */
  detach(): void
  /** The process ends. */
  end(): Promise<void>
  readonly listening: readonly SocketAddress[]
  /** Of the process. */
  readonly pid: number | undefined
  /** It has all names of `state()` as they were when last told. */
  readonly isUpToDate: boolean
}

export function createDnsProcess(options: DnsProcessOptions): DnsProcess {
  return new Client(options)
}

/** Ends the responder at this control socket, if there is one: for the cleanup of a stopped agent. */
export async function endDnsProcess(control: string): Promise<void> {
  const channel = await openChannel(control, '').catch(() => undefined)
  if (channel !== undefined) await ended(channel)
  for (const pid of orphans(control)) signal(pid, 'SIGTERM')
  removeSockets(control)
}

class Client implements DnsProcess {
  readonly #options: DnsProcessOptions
  #settings: ServerSettings
  #channel: Channel | undefined
  #feed: NamesFeed | undefined
  #listening: readonly SocketAddress[] = []
  /** As the process has it. */
  #sent: ServerSettings | undefined
  #problems: readonly DnsProblem[] = []
  #fileProblems: readonly DnsProblem[] = []
  #upstreamLook: NodeJS.Timeout | undefined
  #isDirty = false
  #isTelling = false
  #silence: NodeJS.Timeout | undefined
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
    // One that could not listen yet is kept for the next attempt.
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

  /** Files are read by the agent: the process gives up the right to. */
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
    // A catalogue that was damaged on disk comes from neighbours; where none has it either, what this agent has is what there is.
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

  /** One that hangs answers nobody. */
  #heard(): void {
    clearTimeout(this.#silence)
    this.#silence = setTimeout(() => {
      const { pid } = this
      this.#options.onWarning?.(`the DNS responder said nothing for ${SILENCE_MS / 1000} s and is ended`)
      if (pid !== undefined) signal(pid, 'SIGKILL')
      this.#channel?.close()
    }, SILENCE_MS)
  }

  /** The port passes from the old process to the new one. Without an old one a failure is the caller's to hear. */
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
      const [answer] = await Promise.all([said, from && handedOver(from)]).catch((error: unknown) => {
        throw failed('The log of meshd has more.', error)
      })
      if (answer.kind === 'listenFailed') throw new DnsError(answer.code as DnsErrorCode, answer)
      this.#listening = answer.listening
    }
    try {
      await attempt(old)
    } catch (error) {
      // A responder of ours whose control socket was deleted cannot be told to end.
      const isTaken = error instanceof DnsError && error.code === 'PORT_IN_USE'
      const left = isTaken ? orphans(control).filter((pid) => pid !== fresh.welcome.pid) : []
      if (left.length === 0) throw error
      for (const pid of left) signal(pid, 'SIGTERM')
      await pause(ORPHAN_MS)
      await attempt(undefined)
    }
  }

  async #told(channel: Channel): Promise<void> {
    const endMs = performance.now() + TOLD_MS
    while (this.#channel === channel && !this.isUpToDate && performance.now() < endMs) await pause(5)
  }

  /** In frames of some kilobytes, with a rest after each: neither process is busy with it for long. */
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
          await rest()
          if (this.#channel !== channel) return
        }
        if (messages.length > 0) channel.send({ kind: 'names', messages })
        await pause(TELL_MS)
      }
    } catch (error) {
      this.#options.onWarning?.(`the names could not be told to the DNS responder: ${String(error)}`)
      channel.close()
    } finally {
      this.#isTelling = false
      if (this.#isDirty && this.#channel !== undefined) void this.#tell(this.#channel)
    }
  }
}

/** Takes some 2 ms to make and as long to read. */
const FRAME_BYTES = 32 * 1024
const LISTEN_MS = 10_000
/** Longer than END_MS. */
const PATIENCE_MS = 8000
const ORPHAN_MS = 200
/**
 * Between two rounds. The first change is told at once; of thousands a second, those of a round together: each message costs the process 64 KiB
 * of buffer, which collecting its garbage takes time for.
 */
const TELL_MS = 20
/** A million endpoints take some seconds. */
const TOLD_MS = 30_000
const KEPT_MS = 60_000
/** It counts once a second; a host without any processor time to spare may hold it up. */
const SILENCE_MS = 20_000

function sizeOf(message: NamesMessage): number {
  if (message.kind !== 'service') return SMALL_BYTES
  return message.slices.reduce((sum, { bytes }) => sum + SMALL_BYTES + (bytes?.length ?? 0), SERVICE_BYTES)
}

const SMALL_BYTES = 64
const SERVICE_BYTES = 400

function isSame(left: readonly SocketAddress[], right: readonly SocketAddress[]): boolean {
  return JSON.stringify(left) === JSON.stringify(right)
}

function rest(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
