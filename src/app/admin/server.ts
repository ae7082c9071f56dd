// The server of the admin API: HTTP with JSON on a unix socket, for meshctl. It finds the row of ENDPOINTS for a
// request, parses the request with the row's schema and calls the row's handler. Handlers return an answer or throw an
// error; this file makes HTTP of both. The mode of the socket file is the only authentication: only root and the
// agent's user can open it.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { z } from 'zod'
import { openAdminSocket, type AdminSocket } from './socket.ts'
import { API_VERSION } from '../../api/answers.ts'
import { ENDPOINTS, endpointOf, type Answers, type EndpointName } from '../../api/endpoints.ts'
import { BACKUP_BYTES_MAX, NOTHING, REQUESTS, type Requests } from '../../api/requests.ts'
import { AppError, explain } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import type { Body } from './answer-body.ts'

// Far above the largest body of most requests, a token, whose schema allows 32 KiB (api/requests.ts). It bounds the
// memory of a wrong request.
const BODY_BYTES_MAX = 64 * 1024
// The requests with larger bodies.
const LARGE_BODIES: { readonly [Name in EndpointName]?: number } = {
  backupRestore: BACKUP_BYTES_MAX + BODY_BYTES_MAX
}

/**
 * One handler per row of ENDPOINTS. Errors: the code of an error decides the HTTP status, 400 by default; an error
 * without a code is 500 INTERNAL.
 */
export type AdminHandlers = {
  readonly [Name in EndpointName]: (request: Requests[Name]) => Promise<Body<Answers[Name]>>
}

/**
 * Opens the socket and answers requests on it until `stop`. Errors: AppError SOCKET_IN_USE, SOCKET_PATH_TAKEN,
 * LISTEN_FAILED.
 */
export function startAdmin(options: {
  readonly socket: string
  readonly handlers: AdminHandlers
  readonly log: Log
  readonly health: Health
}): Promise<AdminSocket> {
  const { socket, handlers, log, health } = options
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    respond(request, response, handlers, log).catch((error: unknown) => {
      log.error({ err: error }, 'an answer of the admin API could not be sent')
      response.destroy()
    })
  }
  return openAdminSocket({ path: socket, listener, health })
}

/**
 * Sends one answer. A failure of the handler becomes an ErrorAnswer; unexpected errors are logged, since their answer
 * has no stack.
 */
async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  handlers: AdminHandlers,
  log: Log
): Promise<void> {
  const { status, body } = await answer(request, handlers).catch((error: unknown) => {
    const { code, message, fix } = explain(error)
    if (code === 'INTERNAL')
      log.error({ err: error, path: request.url?.split('?')[0] }, 'admin request failed')
    return {
      status: statusOf(code),
      body: {
        apiVersion: API_VERSION,
        error: { code, message, ...(fix === undefined ? {} : { fix }) }
      }
    }
  })
  const text = `${JSON.stringify(body)}\n`
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(text)
}

/**
 * Errors: AppError NOT_FOUND for an unknown method or path, which most likely is a request of a newer meshctl; those of
 * `call`.
 */
async function answer(
  request: IncomingMessage,
  handlers: AdminHandlers
): Promise<{ status: number; body: object }> {
  const { method = '', url = '/' } = request
  const { pathname } = new URL(url, 'http://meshd')
  const name = endpointOf(method, pathname)
  if (name === undefined)
    throw new AppError(
      'NOT_FOUND',
      `no such request: ${method} ${pathname}`,
      'compare the versions of meshctl and meshd: `meshctl version`'
    )
  return { status: 200, body: { apiVersion: API_VERSION, ...(await call(name, request, handlers)) } }
}

/** Parses the request and calls the handler. Errors: AppError BAD_REQUEST, and those of the handler. */
async function call<Name extends EndpointName>(
  name: Name,
  request: IncomingMessage,
  handlers: AdminHandlers
): Promise<Body<Answers[Name]>> {
  const handle = handlers[name]
  return handle(parse(REQUESTS[name], await sentIn(name, request)))
}

/** Returns the JSON body of a POST or the query of a GET. If a query names a field twice, the first value is used. */
async function sentIn(name: EndpointName, request: IncomingMessage): Promise<unknown> {
  if (REQUESTS[name] === NOTHING) return {}
  if (ENDPOINTS[name].method === 'POST') return readJson(request, LARGE_BODIES[name] ?? BODY_BYTES_MAX)
  const { searchParams } = new URL(request.url ?? '/', 'http://meshd')
  return Object.fromEntries([...searchParams].toReversed())
}

/** Reads the whole body. Errors: AppError BAD_REQUEST when it is over `bytesMax` or is not JSON. */
async function readJson(request: IncomingMessage, bytesMax: number): Promise<unknown> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bytesMax) throw new AppError('BAD_REQUEST', `the request is over ${bytesMax} bytes`)
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch (error) {
    throw new AppError('BAD_REQUEST', 'the request is not JSON', undefined, { cause: error })
  }
}

/** Parses the request with the schema of its row. Errors: AppError BAD_REQUEST. */
function parse<T>(schema: z.ZodType<T>, sent: unknown): T {
  const parsed = schema.safeParse(sent)
  if (!parsed.success) {
    // The message names fields and rules, but no values, because a value may be a token.
    throw new AppError(
      'BAD_REQUEST',
      parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')
    )
  }
  return parsed.data
}

/**
 * The HTTP status of an error code. meshctl reads the code in the body; the status is for other clients. 409: the
 * request does not fit the state of the agent. 504: a member or another server did not answer in time.
 */
function statusOf(code: string): number {
  switch (code) {
    case 'INTERNAL':
      return 500
    case 'NOT_FOUND':
      return 404
    case 'UNREACHABLE':
    case 'TIMEOUT':
      return 504
    case 'NOT_JOINED':
    case 'ALREADY_JOINED':
    case 'KEY_CHANGING':
    case 'NO_MEMBER':
      return 409
    default:
      return 400
  }
}
