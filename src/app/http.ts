// /healthz, /readyz and /metrics over plain HTTP, for probes and Prometheus. Nothing here changes anything.
import { createServer, type Server } from 'node:http'
import { listenOn, AppError } from './errors.ts'
import type { Metrics } from './metrics.ts'

export interface HealthHttp {
  stop(): Promise<void>
}

export interface HealthHttpOptions {
  /** "127.0.0.1:9465" or "[::1]:9465". */
  readonly listen: string
  readonly metrics: Metrics
  /** undefined = ready; else why not. */
  readonly notReady: () => string | undefined
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
  const address = parseListen(options.listen)
  if (address === undefined) {
    throw new AppError(
      'BAD_SETTING',
      `setting http-listen: ${JSON.stringify(options.listen)} is not address:port`,
      'use 127.0.0.1:9465, [::1]:9465 or off'
    )
  }
  await listenOn(server, address, 'http-listen')
  return { stop: () => close(server) }
}

export function parseListen(text: string): { host: string; port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text)
  if (match === null || Number(match[3]) > 65535) return undefined
  return { host: match[1] ?? match[2] ?? '', port: Number(match[3]) }
}

export function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
