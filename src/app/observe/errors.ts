// Errors of the wiring, with a stable code for programs and a fix for people. Edges throw their own subclasses of CodedError.
import type { Server } from 'node:net'
import { CodedError, codeOf } from '../../core/model/coded-error.ts'
import { listenProblem } from '../../core/model/listen-problem.ts'

export class AppError extends CodedError {
  override readonly name = 'AppError'

  constructor(code: string, message: string, fix?: string, options?: ErrorOptions) {
    super({ code, message, fix, cause: options?.cause })
  }
}

/** The code and fix of any error of this tree; `INTERNAL` for others. */
export function explain(error: unknown): { code: string; message: string; fix?: string } {
  if (!(error instanceof Error)) return { code: 'INTERNAL', message: String(error) }
  const fix = error instanceof CodedError ? error.fix : undefined
  return {
    code: codeOf(error) ?? 'INTERNAL',
    message: error.message,
    ...(fix === undefined ? {} : { fix })
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
        listenProblem(error).code === 'PORT_IN_USE'
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
