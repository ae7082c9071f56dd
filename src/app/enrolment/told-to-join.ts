// Joins by itself, for installers: with a token in a file beside the agent, or with the key that another gateway of this cluster has put
// into a Secret. It waits for a file or a key that is not there yet, and for a member that is away.
import { readFile } from 'node:fs/promises'
import { codeOf } from '../../core/model/coded-error.ts'
import { explain } from '../observe/errors.ts'
import type { FaultText, Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { CurrentSession } from '../session/current-session.ts'
import { NOT_JOINED, type Enrolment } from './enrolment.ts'
import type { SharedKey } from './shared-key.ts'

const RETRY_MS = 15_000
// The key of this cluster may come by another gateway: soon for a person who waits for it, and little for the API server.
const KEY_LOOK_MS = 5000

export interface ToldToJoinOptions {
  /** The setting token-file; '' = none. */
  readonly file: string
  readonly sharedKey: SharedKey | undefined
  readonly enrolment: Pick<Enrolment, 'join'>
  readonly current: CurrentSession
  readonly log: Log
  readonly health: Health
}

export class ToldToJoin {
  readonly #options: ToldToJoinOptions
  #hasToken = false
  #isStopped = false
  #retry: NodeJS.Timeout | undefined

  constructor(options: ToldToJoinOptions) {
    this.#options = options
  }

  /** Whether the file has a token. */
  get hasToken(): boolean {
    return this.#hasToken
  }

  /** Of an agent that is in no mesh. Without a file and without a Secret nothing happens. */
  start(): void {
    const { file, sharedKey } = this.#options
    if (file !== '' || sharedKey !== undefined) void this.#attempt()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    clearTimeout(this.#retry)
  }

  async #attempt(): Promise<void> {
    const { file, sharedKey, enrolment, log, health } = this.#options
    let delayMs = RETRY_MS
    try {
      const token = await this.#token()
      this.#hasToken = token !== undefined
      if (token !== undefined || (await sharedKey?.find()) !== undefined) {
        await enrolment.join({ token })
        return
      }
      delayMs = KEY_LOOK_MS
    } catch (error) {
      if (this.#isOver()) return
      log.warn({ err: error, file, retryMs: RETRY_MS }, 'not in a mesh yet')
      health.replace(NOT_JOINED, [notJoined(error, file)])
    }
    if (this.#isOver()) return
    this.#retry = setTimeout(() => void this.#attempt(), delayMs)
  }

  /** Stopped, or in a mesh by another way. */
  #isOver(): boolean {
    const { current } = this.#options
    return this.#isStopped || (current.session !== undefined && !current.isJoining)
  }

  /** undefined: there is none, and perhaps none is needed. Errors: of the file system. */
  async #token(): Promise<string | undefined> {
    const { file, sharedKey } = this.#options
    if (file === '') return undefined
    try {
      return await readFile(file, 'utf8')
    } catch (error) {
      if (sharedKey !== undefined && codeOf(error) === 'ENOENT') return undefined
      throw error
    }
  }
}

/** It is told to join, and has not: the traffic of its cluster waits for that. */
function notJoined(error: unknown, file: string): FaultText & { readonly subject: string } {
  const { message, fix } = explain(error)
  const advice =
    file === ''
      ? 'see what it says'
      : `put the token of \`meshctl invite\` into ${file}, readable for this user`
  return {
    severity: 'error',
    subject: file,
    message: `this agent cannot join yet, and tries again: ${message}`,
    fix: fix ?? advice
  }
}
