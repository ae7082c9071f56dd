// The admission webhook's HTTPS server: it takes one AdmissionReview by POST /mutate-pod and returns one. All sizes and times are bounded,
// because the port is open to every client on the node's network.
import { createServer, type Server } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { listenProblem } from '../../core/model/listen-problem.ts'
import type { DnsInjection } from '../../core/kube/dns-injection.ts'
import type { KeyPair } from './certificate.ts'
import { WebhookError } from './errors.ts'
import { answerReview } from './review.ts'

export type ReviewOutcome = 'patched' | 'unchanged' | 'malformed' | 'failed'

export interface WebhookServerOptions {
  readonly host: string
  readonly port: number
  /** PEM. */
  readonly serving: KeyPair
  /** Asked with every review: the address of the DNS service is learned later. */
  readonly settings: () => DnsInjection
  readonly onReview?: (review: {
    readonly outcome: ReviewOutcome
    readonly reason?: string
    readonly seconds: number
  }) => void
}

export interface WebhookServer {
  readonly port: number
  /** New connections get this certificate. */
  renew(serving: KeyPair): void
  stop(): Promise<void>
}

const WEBHOOK_PATH = '/mutate-pod'

// An object in etcd has at most 1.5 MiB; a review holds it once, with CREATE.
const BODY_BYTES_MAX = 3 * 1024 * 1024
// The API server waits 2 s (timeoutSeconds of the configuration).
const REQUEST_MS = 2000
// An API server keeps a handful of connections; a control plane has three or five of them.
const CONNECTIONS_MAX = 128

/** Errors: WebhookError PORT_IN_USE, LISTEN_FAILED. */
export async function startWebhookServer(options: WebhookServerOptions): Promise<WebhookServer> {
  const server = createServer(
    {
      ...secureContext(options.serving),
      requestTimeout: REQUEST_MS,
      headersTimeout: REQUEST_MS,
      handshakeTimeout: REQUEST_MS,
      connectionsCheckingInterval: REQUEST_MS
    },
    (request, response) => {
      serve(request, response, options).catch((error: unknown) => {
        // The client has disconnected or sent too much, so no answer is possible.
        options.onReview?.({ outcome: 'failed', reason: String(error), seconds: 0 })
        response.destroy()
      })
    }
  )
  server.maxConnections = CONNECTIONS_MAX
  server.on('tlsClientError', (_error, socket) => socket.destroy())
  await listen(server, options)
  return {
    port: (server.address() as AddressInfo).port,
    renew: (serving) => server.setSecureContext(secureContext(serving)),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
  }
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  options: WebhookServerOptions
): Promise<void> {
  const began = performance.now()
  const done = (outcome: ReviewOutcome, reason?: string): void =>
    options.onReview?.({
      outcome,
      seconds: (performance.now() - began) / 1000,
      ...(reason === undefined ? {} : { reason })
    })
  if (request.method !== 'POST' || request.url?.split('?')[0] !== WEBHOOK_PATH)
    return refuse(response, 404, `POST ${WEBHOOK_PATH}`)
  const text = await readBody(request)
  if (text === undefined) {
    done('malformed', 'too large')
    return refuse(response, 413, `at most ${BODY_BYTES_MAX} bytes`)
  }
  const answer = answerReview(text, options.settings())
  if (answer === undefined) {
    done('malformed')
    return refuse(response, 400, 'no AdmissionReview of admission.k8s.io/v1')
  }
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(answer.body))
  done(answer.unchanged === undefined ? 'patched' : 'unchanged', answer.unchanged)
}

/** undefined: it exceeds the bound; the rest is not read. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > BODY_BYTES_MAX) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' })
  response.end(`${text}\n`)
}

function secureContext(serving: KeyPair): { cert: string; key: string; minVersion: 'TLSv1.2' } {
  return { cert: serving.certificate, key: serving.privateKey, minVersion: 'TLSv1.2' }
}

function listen(
  server: Server,
  { host, port }: { readonly host: string; readonly port: number }
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const problem = listenProblem(error)
      const inUse = problem.code === 'PORT_IN_USE'
      reject(
        new WebhookError(
          inUse ? 'PORT_IN_USE' : 'LISTEN_FAILED',
          {
            message: `the webhook cannot listen on ${host}:${port}: ${inUse ? problem.why : error.message}`,
            fix: 'find it with `ss -lntp`, or give the webhook another port (values: ports.webhook)'
          },
          error
        )
      )
    })
    server.listen({ host, port }, () => {
      server.removeAllListeners('error')
      server.on('error', () => undefined) // of single connections; those are gone
      resolve()
    })
  })
}
