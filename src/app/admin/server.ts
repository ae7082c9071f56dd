// The admin API's server. It only checks and routes; what the answers hold is made by its handlers.
// Whoever can open the socket is root or the agent's user: the file mode is the authentication.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { z } from 'zod'
import { openAdminSocket, type AdminSocket } from './socket.ts'
import * as api from '../../api/answers.ts'
import { AppError, explain } from '../errors.ts'
import type { Health } from '../health.ts'
import type { Log } from '../log.ts'

// A token is under 2 KiB; nothing else that is sent here is larger.
const BODY_BYTES_MAX = 64 * 1024

type Body<T extends api.Answer> = Promise<Omit<T, 'apiVersion'>>

export interface AdminHandlers {
  status(): Body<api.StatusAnswer>
  peers(): Body<api.PeersAnswer>
  services(): Body<api.ServicesAnswer>
  routes(): Body<api.RoutesAnswer>
  dns(query: { name: string | undefined; type: string }): Body<api.DnsAnswer>
  plan(): Body<api.PlanAnswer>
  init(request: api.InitRequest): Body<api.JoinedAnswer>
  invite(request: api.InviteRequest): Body<api.InviteAnswer>
  join(request: api.JoinRequest): Body<api.JoinedAnswer>
  leave(): Body<api.LeftAnswer>
}

const strings = z.array(z.string().max(100)).max(64)
const REQUESTS = {
  init: z.strictObject({ cluster: z.string(), podCidrs: strings, serviceCidrs: strings }),
  invite: z.strictObject({
    cluster: z.string(),
    podCidrs: strings,
    serviceCidrs: strings,
    ttlSeconds: z.number().int().min(1).max(31_622_400),
    bootstrap: strings
  }),
  join: z.strictObject({ token: z.string().max(16 * 1024) })
}

/** The socket is kept: see socket.ts. Errors: AppError SOCKET_IN_USE, SOCKET_PATH_TAKEN, LISTEN_FAILED. */
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
        apiVersion: api.API_VERSION,
        error: { code, message, ...(fix === undefined ? {} : { fix }) }
      }
    }
  })
  const text = `${JSON.stringify(body)}\n`
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(text)
}

async function answer(
  request: IncomingMessage,
  handlers: AdminHandlers
): Promise<{ status: number; body: object }> {
  const url = new URL(request.url ?? '/', 'http://meshd')
  const route = `${request.method} ${url.pathname}`
  const body = async (): Promise<object> => {
    switch (route) {
      case 'GET /v1/status':
        return handlers.status()
      case 'GET /v1/peers':
        return handlers.peers()
      case 'GET /v1/services':
        return handlers.services()
      case 'GET /v1/routes':
        return handlers.routes()
      case 'GET /v1/dns':
        return handlers.dns({
          name: url.searchParams.get('name') ?? undefined,
          type: url.searchParams.get('type') ?? 'A'
        })
      case 'GET /v1/plan':
        return handlers.plan()
      case 'POST /v1/init':
        return handlers.init(await read(request, REQUESTS.init))
      case 'POST /v1/invite':
        return handlers.invite(await read(request, REQUESTS.invite))
      case 'POST /v1/join':
        return handlers.join(await read(request, REQUESTS.join))
      case 'POST /v1/leave':
        return handlers.leave()
      default:
        throw new AppError(
          'NOT_FOUND',
          `no such request: ${route}`,
          'meshctl and meshd may be of different versions'
        )
    }
  }
  return { status: 200, body: { apiVersion: api.API_VERSION, ...(await body()) } }
}

async function read<T>(request: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > BODY_BYTES_MAX)
      throw new AppError('BAD_REQUEST', `the request is over ${BODY_BYTES_MAX} bytes`)
    chunks.push(chunk)
  }
  let json: unknown
  try {
    json = JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch (error) {
    throw new AppError('BAD_REQUEST', 'the request is not JSON', undefined, { cause: error })
  }
  const parsed = schema.safeParse(json)
  if (!parsed.success) {
    // Paths and rules only: the value may be a token.
    throw new AppError(
      'BAD_REQUEST',
      parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')
    )
  }
  return parsed.data
}

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
      return 409
    default:
      return 400
  }
}
