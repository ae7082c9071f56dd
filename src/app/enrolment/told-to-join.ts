// Joins without `meshctl join`, for installers: with a token in a file, or with the key that another gateway of this
// cluster has put into the Secret; or founds the mesh that the setting init asks for. It tries again until this agent is in a mesh: the file or the key may come later,
// and a member may be away.
import { readFile } from 'node:fs/promises'
import { codeOf } from '../../core/model/coded-error.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import { explain, READ_LOG } from '../observe/errors.ts'
import type { FaultText, Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { CurrentSession } from '../session/current-session.ts'
import { NOT_JOINED, type Enrolment } from './enrolment.ts'
import type { Founding } from './founding.ts'
import { askedByToken } from './real-prefixes.ts'
import type { SharedKey } from './shared-key.ts'

// Milliseconds of pause after an attempt that failed. Each attempt can dial members for up to 20 s and can write to the
// disk.
const RETRY_MS = 15_000
// Milliseconds between two attempts while there is neither token nor key. Another gateway may write the key at any
// moment, and one read every 5 s is a small load for the API server.
const KEY_LOOK_MS = 5000

/** The two sources of a membership, and the parts that use it and report on it. */
interface ToldToJoinOptions {
  /** The setting token-file, a path; '' = none. */
  readonly file: string
  /** undefined without a Kubernetes API. */
  readonly sharedKey: SharedKey | undefined
  readonly enrolment: Pick<Enrolment, 'join'>
  readonly founding: Pick<Founding, 'isAsked' | 'found'>
  readonly crypto: Crypto
  readonly current: CurrentSession
  readonly log: Log
  readonly health: Health
}

/**
 * Tries to join with the token in the file or with the key in the Secret, or to found a mesh where the setting init asks for
 * it and there is neither of them, until this agent is in a mesh. One per
 * process. The attempts never overlap: each attempt that fails plans the next one.
 */
export class ToldToJoin {
  readonly #options: ToldToJoinOptions
  #hasToken = false
  #isStopped = false
  #retry: NodeJS.Timeout | undefined

  constructor(options: ToldToJoinOptions) {
    this.#options = options
  }

  /**
   * True when the file of the token could be read, or the setting init asks for a mesh. Such an agent is not ready (/readyz)
   * until it is in a mesh.
   */
  get isTold(): boolean {
    return this.#hasToken || this.#options.founding.isAsked
  }

  /**
   * Reads the file once, so that `isTold` is right before the first attempt, which comes after the start of the
   * source. Never rejects: a file that cannot be read is the fault of the first attempt.
   */
  async look(): Promise<void> {
    this.#hasToken = (await this.#token().catch(() => undefined)) !== undefined
  }

  /**
   * Begins the attempts; called once, when this agent is in no mesh. Without a file and without a Kubernetes API it
   * does nothing.
   */
  start(): void {
    const { file, sharedKey, founding } = this.#options
    if (file !== '' || sharedKey !== undefined || founding.isAsked) void this.#attempt()
  }

  /** Ends the attempts. It does not wait for an attempt that is under way. */
  async stop(): Promise<void> {
    this.#isStopped = true
    clearTimeout(this.#retry)
  }

  /** One attempt to join or to found. Never rejects: a failure is logged and set as the fault NOT_JOINED, which a join clears. */
  async #attempt(): Promise<void> {
    const { file, sharedKey, enrolment, founding, log, health } = this.#options
    let delayMs = RETRY_MS
    let isFounding = false
    try {
      const token = await this.#token()
      this.#hasToken = token !== undefined
      if (token !== undefined || (await sharedKey?.find()) !== undefined) {
        // No person is there to name its real prefixes, so those of the token count.
        const asked = token === undefined ? {} : askedByToken(token, this.#options.crypto)
        await enrolment.join({ token, ...asked })
        return
      }
      isFounding = founding.isAsked
      if (isFounding) return await founding.found()
      delayMs = KEY_LOOK_MS
    } catch (error) {
      if (this.#isOver()) return
      // An administrator's `init` or `join` is under way here, or another gateway of this cluster has founded the mesh: no
      // fault, and this agent looks again soon.
      const isTaken = isFounding && codeOf(error) === 'CLUSTER_KEY_TAKEN'
      if (isTaken || codeOf(error) === 'ALREADY_CHANGING') return this.#again(KEY_LOOK_MS)
      log.warn({ err: error, file, retryMs: RETRY_MS }, 'this agent could not join a mesh; it tries again')
      health.replace(NOT_JOINED, [isFounding ? notFounded(error) : notJoined(error, file)])
    }
    this.#again(delayMs)
  }

  /** Plans the next attempt. */
  #again(delayMs: number): void {
    if (!this.#isOver()) this.#retry = setTimeout(() => void this.#attempt(), delayMs)
  }

  /** True when `stop` was called, or when this agent has joined in another way, for example by `meshctl join`. */
  #isOver(): boolean {
    const { current } = this.#options
    return this.#isStopped || (current.session !== undefined && !current.isJoining)
  }

  /**
   * Reads the file. undefined: no file is set, or the file does not exist and the Secret may have the key. Errors:
   * those of the file system; ENOENT too, without a Kubernetes API.
   */
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

/**
 * The fault of an agent that has a token or a key and has not joined: traffic of its cluster does not flow until it
 * has.
 */
function notJoined(error: unknown, file: string): FaultText & { readonly subject: string } {
  const { message, fix } = explain(error)
  const advice =
    file === ''
      ? READ_LOG
      : `write the token that \`meshctl invite\` printed into ${file}, and let the user of meshd read it`
  return {
    severity: 'error',
    subject: file,
    message: `this agent could not join a mesh, and tries again every ${RETRY_MS / 1000} s: ${message}`,
    fix: fix ?? advice
  }
}

/** The fault of an agent that was told to found a mesh, and has not. */
function notFounded(error: unknown): FaultText & { readonly subject: string } {
  const { message, fix = READ_LOG } = explain(error)
  return {
    severity: 'error',
    subject: 'init',
    message: `this agent could not found the mesh of the setting init, and tries again every ${RETRY_MS / 1000} s: ${message}`,
    fix
  }
}
