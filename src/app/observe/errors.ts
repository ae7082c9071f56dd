// Errors of the wiring, with a stable code for programs and a fix for people. Edges throw their own classes of the same shape.
import type { Server } from 'node:net'

export class AppError extends Error {
  override readonly name = 'AppError'
  readonly code: string
  readonly fix: string | undefined

  constructor(code: string, message: string, fix?: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.fix = fix
  }
}

/** The code and fix of any error of this tree; `INTERNAL` for others. */
export function explain(error: unknown): { code: string; message: string; fix?: string } {
  if (!(error instanceof Error)) return { code: 'INTERNAL', message: String(error) }
  const { code, fix } = error as Error & { code?: unknown; fix?: unknown }
  return {
    code: typeof code === 'string' ? code : 'INTERNAL',
    message: error.message,
    ...(typeof fix === 'string' ? { fix } : {})
  }
}

/** One line for a status page: what is wrong, and what to do. */
export function sentence(error: unknown): string {
  const { message, fix } = explain(error)
  return fix === undefined ? message : `${message}; ${fix}`
}

/**
 * `onLater`: of a server that listens, as when there is no descriptor left for a connection; it listens on.
 * Errors: AppError PORT_IN_USE, LISTEN_FAILED, both naming the setting.
 */
export function listenOn(
  server: Server,
  where: { host: string; port: number } | { path: string },
  setting: string,
  onLater: (error: Error) => void = () => undefined
): Promise<void> {
  const text = 'path' in where ? where.path : `${where.host}:${where.port}`
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      reject(
        error.code === 'EADDRINUSE'
          ? new AppError(
              'PORT_IN_USE',
              `${text} is in use by another process`,
              `stop it, or choose another with the setting ${setting}`,
              { cause: error }
            )
          : new AppError(
              'LISTEN_FAILED',
              `cannot listen on ${text}: ${error.message}`,
              `check the setting ${setting}`,
              { cause: error }
            )
      )
    }
    server.once('error', failed)
    server.listen(where, () => {
      server.off('error', failed)
      server.on('error', onLater)
      resolve()
    })
  })
}
