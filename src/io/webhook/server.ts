// The HTTPS server of the admission webhook: it takes one AdmissionReview by POST /mutate-pod and returns one. All
// sizes and times are bounded, because the port is open to every client on the node's network. webhook.ts starts it.
// Source: Kubernetes, "Dynamic Admission Control": webhook request and response.
import { createServer, type Server } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { DnsInjection } from '../../core/kube/dns-injection.ts'
import type { KeyPair } from './certificate.ts'
import { listenError } from './errors.ts'
import { answerReview } from './review.ts'

interface WebhookServerOptions {
  /** The address to listen on. */
  readonly host: string
  /** The port to listen on; 0: the kernel chooses one. */
  readonly port: number
  /** The certificate and key of the server, in PEM. */
  readonly serving: KeyPair
  /** Called for each review, because the address of the DNS service becomes known only after the start. */
  readonly settings: () => DnsInjection
}

export interface WebhookServer {
  readonly port: number
  /** Uses this certificate for new connections; open ones keep the old certificate. */
  renew(serving: KeyPair): void
  /** Closes the port and all connections; resolves when both are closed. */
  stop(): Promise<void>
}

const WEBHOOK_PATH = '/mutate-pod'

// An object in etcd has at most 1.5 MiB, and a review of a CREATE contains it once. The bound is twice that.
const BODY_BYTES_MAX = 3 * 1024 * 1024
// Deadline of a request in milliseconds. The API server waits for 2 s (timeoutSeconds in the configuration).
const REQUEST_MS = 2000
// An API server keeps a few connections, and a control plane has three to five API servers.
const CONNECTIONS_MAX = 128

/** Starts to listen; resolves when the port is open. Errors: WebhookError with a ListenCode. */
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
      // An error means that the client has disconnected, so no answer is possible.
      serve(request, response, options).catch(() => response.destroy())
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

/**
 * Answers one request: 404 for another method or path, 413 for a body above BODY_BYTES_MAX, 400 for a body that is no
 * review.
 */
async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  options: WebhookServerOptions
): Promise<void> {
  if (request.method !== 'POST' || request.url?.split('?')[0] !== WEBHOOK_PATH)
    return refuse(response, 404, `POST ${WEBHOOK_PATH}`)
  const text = await readBody(request)
  if (text === undefined) return refuse(response, 413, `the body may have at most ${BODY_BYTES_MAX} bytes`)
  const answer = answerReview(text, options.settings())
  if (answer === undefined)
    return refuse(response, 400, 'the body must be an AdmissionReview of admission.k8s.io/v1')
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(answer))
}

/**
 * Returns the body as text; undefined when it exceeds the bound, and then the rest is not read. The end of the loop
 * destroys the request but not its socket, so the answer 413 is sent.
 */
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

/** Answers with an error, and closes the connection. */
function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain', connection: 'close' })
  response.end(`${text}\n`)
}

/** The settings of node:tls for a certificate, with TLS 1.2 or newer. */
function secureContext(serving: KeyPair): { cert: string; key: string; minVersion: 'TLSv1.2' } {
  return { cert: serving.certificate, key: serving.privateKey, minVersion: 'TLSv1.2' }
}

/** Resolves when the server listens. Errors of single connections after that are ignored. */
function listen(
  server: Server,
  { host, port }: { readonly host: string; readonly port: number }
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      reject(listenError(error, `${host}:${port}`))
    })
    server.listen({ host, port }, () => {
      server.removeAllListeners('error')
      server.on('error', () => undefined) // errors of single connections, which are closed
      resolve()
    })
  })
}
