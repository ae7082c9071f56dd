// Sends requests to a Kubernetes API: JSON in, JSON out, and the stream of a watch. Each request has a deadline, and a
// watch has a limit on silence. Both fail with a KubeError and no other error, except that a cancelled one fails with
// the reason of its signal. Used by the agent (reflector.ts, lease.ts and others) and by meshctl (cli/kube/kube.ts).
import { existsSync } from 'node:fs'
import { request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { KubeCall } from '../../core/kube/kube-api.ts'
import type { Connection, ConnectionOptions } from './connection.ts'
import { asKubeError, errorOfStatus, KubeError } from './errors.ts'
import { LineReader, parseJson } from './line-reader.ts'

/**
 * One request, and the limits of its answer. `path` may have a query of its own. Only a GET is sent again after a closed
 * connection (`answered`).
 */
export interface KubeRequest extends KubeCall {
  /** Milliseconds until the answer must have come whole. Default 30,000. */
  readonly deadlineMs?: number
  /** The largest body of an answer that is read. Default 64 MiB. */
  readonly bytesMax?: number
}

/** A watch: `query` must have watch=1. */
interface KubeWatch {
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  /** Called once, when the server has accepted the watch. */
  readonly onOpen: () => void
  /** Called with each line of the stream as parsed JSON, which is not checked otherwise. */
  readonly onEvent: (event: unknown) => void
  /** Milliseconds without a byte after which the connection counts as broken. */
  readonly silenceMs: number
  readonly signal: AbortSignal
}

export interface KubeClient {
  /** The URL of the API server, without a slash at the end. */
  readonly server: string
  /** The namespace of the pod or of the context; "default" if neither has one. */
  readonly namespace: string
  /** Resolves with the parsed body of a 2xx answer. Errors: KubeError with any code of errors.ts but STALE. */
  request(request: KubeRequest): Promise<unknown>
  /**
   * Resolves when the server ends the watch in order. Errors: KubeError, also one that `onEvent` throws; another error
   * of `onEvent` becomes a KubeError NETWORK.
   */
  watch(watch: KubeWatch): Promise<void>
  /** Closes all connections; open requests fail. */
  close(): void
}

const DEADLINE_MS = 30_000
// A page of 500 EndpointSlices of 1,000 endpoints each would be larger. reflector.ts then asks for smaller pages.
const BODY_BYTES_MAX = 64 * 1024 * 1024

/**
 * Returns a client that has no connection yet. The module of the connection is imported only here, because it is large
 * (connection.ts).
 * `userAgent`: default "rhizome". Errors: KubeError BAD_CONFIG.
 */
export async function openKubeClient(
  options: ConnectionOptions & { readonly userAgent?: string } = {}
): Promise<KubeClient> {
  const { openConnection } = await import('./connection.ts')
  const connection = openConnection(options)
  const send = sender(connection, options.userAgent ?? 'rhizome')
  return {
    server: connection.server,
    namespace: connection.namespace,
    request: (request) => fetchJson(send, request),
    watch: (watch) => follow(send, watch),
    close: () => connection.close()
  }
}

/** Says whether this process runs in a pod with a service account. Reads the environment and the file system. */
export function runsInPod(): boolean {
  return (
    Boolean(process.env['KUBERNETES_SERVICE_HOST']) &&
    existsSync('/var/run/secrets/kubernetes.io/serviceaccount/token')
  )
}

/** Sends a request with the present credentials. Resolves before the answer. */
type Send = (request: KubeRequest) => Promise<ClientRequest>

function sender(connection: Connection, userAgent: string): Send {
  return async ({ method = 'GET', path, query = {}, body, contentType }) => {
    const url = new URL(`${connection.server}${path}`)
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value)
    const authorized = await connection.authorize(url)
    const open = url.protocol === 'https:' ? httpsRequest : httpRequest
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const request = open(url, {
      ...authorized.options,
      method,
      headers: {
        accept: 'application/json',
        'user-agent': userAgent,
        ...authorized.headers,
        ...(payload && {
          'content-type': contentType ?? 'application/json',
          'content-length': payload.length
        })
      }
    })
    // client-node caches credentials. After a refusal or a failure they are read again, so that a token or certificate
    // that was renewed on disk is used with the next request.
    request.once('response', ({ statusCode }: IncomingMessage) => {
      if (statusCode === 401) connection.forget()
    })
    request.once('error', () => connection.forget())
    request.end(payload)
    return request
  }
}

/** One request: waits for the whole body and parses it, or throws the failure that the status and the body tell. */
async function fetchJson(send: Send, request: KubeRequest): Promise<unknown> {
  const what = `${request.method ?? 'GET'} ${request.path}`
  const deadlineMs = request.deadlineMs ?? DEADLINE_MS
  const late = (): KubeError =>
    new KubeError({ code: 'TIMEOUT', message: `${what}: no answer in ${deadlineMs} ms` })
  const cut = new Cut(request.signal)
  const timer = setTimeout(() => cut.now(late()), deadlineMs)
  try {
    return await cut.race(
      answered(send, request, cut).then(async (response) => {
        const text = (await readBody(response, request.bytesMax)).toString('utf8')
        if (isSuccess(response)) return parseJson(text, what)
        throw refusal(response, text, what)
      })
    )
  } catch (error) {
    throw cut.reason ?? asKubeError(error, what)
  } finally {
    clearTimeout(timer)
    cut.done()
  }
}

/** One watch: gives each line to `onEvent` until the stream ends. Each chunk starts the time of silence anew. */
async function follow(send: Send, watch: KubeWatch): Promise<void> {
  const what = `watch ${watch.path}`
  const silent = (): KubeError =>
    new KubeError({ code: 'TIMEOUT', message: `${what}: the server sent nothing for ${watch.silenceMs} ms` })
  const cut = new Cut(watch.signal)
  const timer = setTimeout(() => cut.now(silent()), watch.silenceMs)
  try {
    await cut.race(
      answered(send, watch, cut).then(async (response) => {
        if (!isSuccess(response)) {
          throw refusal(response, (await readBody(response)).toString('utf8'), what)
        }
        watch.onOpen()
        const lines = new LineReader(watch.onEvent)
        for await (const chunk of response as AsyncIterable<Buffer>) {
          timer.refresh()
          lines.push(chunk)
        }
        lines.end()
      })
    )
  } catch (error) {
    throw cut.reason ?? asKubeError(error, what)
  } finally {
    clearTimeout(timer)
    cut.now(undefined)
    cut.done()
  }
}

/**
 * Sends the request and resolves with the head of the answer. A kept connection may have been closed by a server that
 * restarts, which shows only when it is used again; a GET is then sent again on another connection
 * (docs/decisions/0022). Each attempt uses up one kept connection, so this ends.
 */
async function answered(send: Send, request: KubeRequest, cut: Cut): Promise<IncomingMessage> {
  for (;;) {
    const sent = await send(request)
    try {
      return await cut.response(sent)
    } catch (error) {
      const isQuestion = (request.method ?? 'GET') === 'GET'
      if (!isQuestion || !sent.reusedSocket || cut.reason !== undefined) throw error
    }
  }
}

/**
 * Ends a request from outside in every phase: while it waits for credentials, for the answer or for the rest of the
 * answer. `reason` is set once and is what the request then fails with.
 */
class Cut {
  reason: unknown
  readonly #signal: AbortSignal | undefined
  readonly #onAbort = (): void => this.now(this.#signal?.reason)
  #request: ClientRequest | undefined
  #reject: ((reason: unknown) => void) | undefined

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal
    signal?.throwIfAborted()
    signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  /** Ends the request now, by a timer or by the caller's signal. */
  now(reason: unknown): void {
    this.reason ??= reason
    this.#request?.destroy()
    this.#reject?.(reason)
  }

  /** Removes the listener on the caller's signal, which may live much longer than the request. */
  done(): void {
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }

  /** Resolves as `work`, or rejects as soon as `now` is called, since `work` may not notice it at once. */
  race<T>(work: Promise<T>): Promise<T> {
    return Promise.race([
      work,
      new Promise<never>((_resolve, reject) => {
        this.#reject = reject
      })
    ])
  }

  /** Resolves with the head of the answer. `now` destroys this request from here on. */
  response(request: ClientRequest): Promise<IncomingMessage> {
    this.#request = request
    if (this.reason !== undefined) request.destroy()
    return new Promise((resolve, reject) => {
      request.once('response', resolve)
      // This listener stays: an error after the answer is reported by both streams, and one without a listener would be
      // thrown.
      request.on('error', reject)
      request.once('close', () => reject(new Error('the connection was closed')))
    })
  }
}

/** Reads the body. Throws KubeError TOO_LARGE above `bytesMax`, and closes the connection then. */
async function readBody(response: IncomingMessage, bytesMax = BODY_BYTES_MAX): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bytesMax) {
      response.destroy()
      throw new KubeError({ code: 'TOO_LARGE', message: `an answer exceeds ${bytesMax} bytes` })
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Makes the error of an answer other than 2xx. Retry-After is read as seconds; a date in it is ignored. */
function refusal(response: IncomingMessage, text: string, what: string): KubeError {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    // The answer is not from an API server, but for example an HTML page of a proxy: only its status is used.
    body = undefined
  }
  const retryAfterMs = Number(response.headers['retry-after'] ?? 0) * 1000
  return errorOfStatus(response.statusCode ?? 0, { body, what, retryAfterMs })
}

function isSuccess({ statusCode = 0 }: IncomingMessage): boolean {
  return statusCode >= 200 && statusCode < 300
}
