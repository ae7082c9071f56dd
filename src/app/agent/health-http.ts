// /healthz, /readyz and /metrics over plain HTTP, for the probes of Kubernetes and for Prometheus. Requests only read,
// and the answers have no secrets, so there is no authentication; the default address is on loopback.
import { createServer, type Server } from 'node:http'
import { listenOn } from '../observe/errors.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { ListenAddress } from '../settings/listen-address.ts'

/** A listening server. `stop` closes it with all its connections. */
export interface HealthHttp {
  stop(): Promise<void>
}

/** The address to listen on, and the sources of the answers of /metrics and /readyz. */
interface HealthHttpOptions {
  readonly listen: ListenAddress
  readonly metrics: Metrics
  /** Returns why the agent is not ready; undefined: it is ready. Called for each request of /readyz. */
  readonly notReady: () => string | undefined
  /**
   * Called for an error after the start, for example when no descriptor is left for a connection; the server still
   * listens.
   */
  readonly onError: (error: Error) => void
}

/**
 * Starts the server. /healthz always answers 200: it says only that the process is alive. /readyz answers 503 with the
 * reason as text, or 200. Other paths answer 404. Errors: AppError PORT_IN_USE, LISTEN_FAILED.
 */
export async function startHealthHttp(options: HealthHttpOptions): Promise<HealthHttp> {
  const server = createServer((request, response) => {
    void (async () => {
      const path = request.url?.split('?')[0]
      if (path === '/healthz') return response.end('ok\n')
      if (path === '/readyz') {
        const reason = options.notReady()
        response.statusCode = reason === undefined ? 200 : 503
        return response.end(`${reason ?? 'ok'}\n`)
      }
      if (path === '/metrics') {
        response.setHeader('content-type', options.metrics.registry.contentType)
        return response.end(await options.metrics.registry.metrics())
      }
      response.statusCode = 404
      return response.end('try /healthz, /readyz or /metrics\n')
    })().catch((error: unknown) => {
      response.statusCode = 500
      response.end(`${String(error)}\n`)
    })
  })
  await listenOn(server, options.listen, 'http-listen', options.onError)
  return { stop: () => close(server) }
}

/**
 * Closes a server and resolves when it has ended. Open connections are cut, since a client with keep-alive would hold
 * the server open.
 */
export function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
