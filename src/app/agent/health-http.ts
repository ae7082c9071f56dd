// /healthz, /readyz and /metrics over plain HTTP, for probes and Prometheus. Nothing here changes anything.
import { createServer, type Server } from 'node:http'
import { listenOn } from '../observe/errors.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { ListenAddress } from '../settings/listen-address.ts'

export interface HealthHttp {
  stop(): Promise<void>
}

export interface HealthHttpOptions {
  readonly listen: ListenAddress
  readonly metrics: Metrics
  /** undefined = ready; else why not. */
  readonly notReady: () => string | undefined
  /** The server listens on; one connection was lost. */
  readonly onError: (error: Error) => void
}

/** Errors: AppError PORT_IN_USE. */
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

export function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
