// Sends the writes of the Multi-Cluster Services API: those of ServiceImports, EndpointSlices and the conditions of
// ServiceExports. multicluster.ts makes them anew of each view, so none is queued here.
// Invariants
//   1. A write is sent once between two lists (`tries` times where it says so), whether the API server takes, refuses or changes it. One
//      with another content is another write. So objects that are refused, or that an admission webhook changes, keep no
//      other one from being sent, however many a tenant makes.
//   2. A pass sends at most WRITES_PER_PASS and begins none after PASS_MS; the next pass sends what is left.
//   3. A pass ends with the first failure that is the server's own: it is too busy (429), has no backend (503) or does not
//      answer.
import { hasStatus, type KubeApi, type KubeCall } from '../../core/kube/kube-api.ts'
import { AppError } from '../observe/errors.ts'

/** One write. It is made again in each pass as long as the API server has not what is wanted. */
export interface Write {
  /** The object: "import shop/web". */
  readonly key: string
  /** What is written, without what differs each time, such as the time. */
  readonly content: string
  /** How often the same content is sent between two lists; default 1. */
  readonly tries?: number
  readonly send: () => Promise<unknown>
}

/** Most writes of one pass, so that a first start with thousands of imports leaves the loop now and then. */
const WRITES_PER_PASS = 200
/** Milliseconds after which a pass begins no further write: an old view must not be written for long. */
const PASS_MS = 10_000

interface Sent {
  readonly content: string
  readonly count: number
  /** undefined: it was taken, or the object had changed in between, which is no failure. */
  readonly error: unknown
}

/** What was sent since the last list. Bounded by the objects that were wanted or deleted since then. */
export class Writes {
  readonly #nowMs: () => number
  #sent = new Map<string, Sent>()

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** An error of the writes since the last list, if there was one. */
  get failure(): unknown {
    return this.#sent.values().find(({ error }) => error !== undefined)?.error
  }

  /** Called after the objects were listed: every write may be sent again. */
  listed(): void {
    this.#sent.clear()
  }

  /**
   * Sends those that are due, one after the other, and resolves to whether none is left. `mayGoOn` is asked before each of
   * them. Rejects with a failure that is the server's own.
   */
  async send(all: readonly Write[], mayGoOn: () => boolean): Promise<boolean> {
    const due = all.filter((write) => this.#isDue(write))
    const endMs = this.#nowMs() + PASS_MS
    for (const write of due.slice(0, WRITES_PER_PASS)) {
      if (!mayGoOn() || this.#nowMs() > endMs) return false
      await this.#send(write)
    }
    return due.length <= WRITES_PER_PASS
  }

  #isDue({ key, content, tries = 1 }: Write): boolean {
    const sent = this.#sent.get(key)
    return sent?.content !== content || sent.count < tries
  }

  async #send({ key, content, send }: Write): Promise<void> {
    const before = this.#sent.get(key)
    const count = before?.content === content ? before.count + 1 : 1
    try {
      await send()
      this.#sent.set(key, { content, count, error: undefined })
    } catch (error) {
      this.#sent.set(key, { content, count, error: isOutdated(error) ? undefined : error })
      if (isOfServer(error)) throw error
    }
  }
}

/** An object that is gone or has changed in between is no failure: the next list or event shows it. */
function isOutdated(error: unknown): boolean {
  return hasStatus(error, 404) || hasStatus(error, 409)
}

/** Whether a failure is the API server's own, so that other requests fail, too: no answer, too busy (429), no backend (503). */
export function isOfServer(error: unknown): boolean {
  if (error instanceof AppError) return false
  const isAnswer = error instanceof Error && 'status' in error && error.status !== undefined
  return !isAnswer || hasStatus(error, 429) || hasStatus(error, 503)
}

const CALL_MS = 10_000

/** The same API server, where no request takes longer than CALL_MS: one page of a list, not the whole list. */
export function withDeadline(api: KubeApi): KubeApi {
  return {
    request: ({ signal, ...call }) => {
      const deadline = AbortSignal.timeout(CALL_MS)
      return api.request({ ...call, signal: signal ? AbortSignal.any([signal, deadline]) : deadline })
    }
  }
}

/**
 * Sends all calls, and rejects with the first failure. An object that is gone or has changed is none. A failure that is the
 * server's own ends it (3): else a leave would wait 10 s for each object.
 */
export async function sendAll(api: KubeApi, calls: readonly KubeCall[]): Promise<void> {
  let failure: unknown
  for (const call of calls)
    await api.request(call).catch((error: unknown) => {
      if (isOfServer(error)) throw error
      if (!isOutdated(error)) failure ??= error
    })
  if (failure !== undefined) throw failure
}
