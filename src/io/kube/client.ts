// Requests to a Kubernetes API: JSON in, JSON out, and the stream of a watch. Every one has a deadline or a limit on silence,
// and fails with a KubeError and nothing else; a cancelled one with the reason of its signal.
import { existsSync } from 'node:fs'
import { request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Connection, ConnectionOptions } from './connection.ts'
import { asKubeError, errorOfStatus, KubeError } from './errors.ts'
import { LineReader, parseJson } from './line-reader.ts'

export interface KubeRequest {
  /** Default GET. */
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** "/api/v1/services" */
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly body?: unknown
  /** Of the body. Default application/json. */
  readonly contentType?: string
  /** Default 30 s. */
  readonly deadlineMs?: number
  /** Of the answer. Default 64 MiB. */
  readonly bytesMax?: number
  readonly signal?: AbortSignal
}

interface KubeWatch {
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  /** Once the server has taken the watch. */
  readonly onOpen: () => void
  readonly onEvent: (event: unknown) => void
  /** Without a byte for this long the connection counts as dead. */
  readonly silenceMs: number
  readonly signal: AbortSignal
}

export interface KubeClient {
  readonly server: string
  readonly namespace: string
  /** Errors: KubeError. */
  request(request: KubeRequest): Promise<unknown>
  /** Resolves when the server ends the watch in order. Errors: KubeError, and what `onEvent` throws. */
  watch(watch: KubeWatch): Promise<void>
  /** Ends the connections. */
  close(): void
}

const DEADLINE_MS = 30_000
// A page of 500 EndpointSlices of 1,000 endpoints each would be larger; those are asked for in smaller pages.
const BODY_BYTES_MAX = 64 * 1024 * 1024

/** Errors: KubeError BAD_CONFIG. */
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

/** Whether this process runs in a pod with a service account. */
export function runsInPod(): boolean {
  return (
    Boolean(process.env['KUBERNETES_SERVICE_HOST']) &&
    existsSync('/var/run/secrets/kubernetes.io/serviceaccount/token')
  )
}

type Send = (request: KubeRequest) => Promise<ClientRequest>

function sender(connection: Connection, userAgent: string): Send {
  return async ({ method = 'GET', path, query = {}, body, contentType }) => {
    const authorized = await connection.authorize()
    const url = new URL(`${connection.server}${path}`)
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value)
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
    // A token or certificate that was renewed on disk is used with the next try, not when a cache in between feels like it.
    request.once('response', ({ statusCode }: IncomingMessage) => {
      if (statusCode === 401) connection.forget()
    })
    request.once('error', () => connection.forget())
    request.end(payload)
    return request
  }
}

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

async function follow(send: Send, watch: KubeWatch): Promise<void> {
  const what = `watch ${watch.path}`
  const silent = (): KubeError =>
    new KubeError({ code: 'TIMEOUT', message: `${what}: silent for ${watch.silenceMs} ms` })
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
 * A connection that was kept may have been closed by a server that restarts, which shows only when it is used: a question is then
 * asked again on another. Each time one connection is used up, so this ends.
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

/** Ends a request from outside in every phase: while it waits for credentials, for the answer or for the rest of the answer. */
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

  now(reason: unknown): void {
    this.reason ??= reason
    this.#request?.destroy()
    this.#reject?.(reason)
  }

  done(): void {
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }

  race<T>(work: Promise<T>): Promise<T> {
    return Promise.race([
      work,
      new Promise<never>((_resolve, reject) => {
        this.#reject = reject
      })
    ])
  }

  response(request: ClientRequest): Promise<IncomingMessage> {
    this.#request = request
    if (this.reason !== undefined) request.destroy()
    return new Promise((resolve, reject) => {
      request.once('response', resolve)
      // Stays: an error after the answer is told by the answer's own stream, too.
      request.on('error', reject)
      request.once('close', () => reject(new Error('the connection was closed')))
    })
  }
}

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

function refusal(response: IncomingMessage, text: string, what: string): KubeError {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    // A proxy's page: its status is all we want of it.
    body = undefined
  }
  const retryAfterMs = Number(response.headers['retry-after'] ?? 0) * 1000
  return errorOfStatus(response.statusCode ?? 0, { body, what, retryAfterMs })
}

function isSuccess({ statusCode = 0 }: IncomingMessage): boolean {
  return statusCode >= 200 && statusCode < 300
}
