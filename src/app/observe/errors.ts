// Errors of src/app, with a stable code for programs and a fix for people. The edges in src/io throw subclasses of
// CodedError of their own. `explain` and `sentence` turn any of these errors into what the log, the registry of
// health and the admin API show.
import type { Server } from 'node:net'
import { CodedError, codeOf } from '../../core/model/coded-error.ts'
import { listenProblem } from '../../core/model/listen-problem.ts'

/**
 * An error of the wiring: a wrong request or setting, or a port that cannot be opened. The codes are listed at the
 * functions that throw it. `fix` tells the operator what to do; it is left out where there is no general advice.
 */
export class AppError extends CodedError {
  override readonly name = 'AppError'

  constructor(code: string, message: string, fix?: string, options?: ErrorOptions) {
    super({ code, message, fix, cause: options?.cause })
  }
}

/** The fix where only the log says more: part of the texts of several faults. */
export const READ_LOG = 'read the log of meshd (`journalctl -u meshd`, in Kubernetes `kubectl logs`)'

/**
 * Returns code, message and fix of any thrown value. The code is `INTERNAL` when the error has none, or when the
 * value is no Error. `fix` is left out when the error has none.
 */
export function explain(error: unknown): { code: string; message: string; fix?: string } {
  if (!(error instanceof Error)) return { code: 'INTERNAL', message: String(error) }
  const fix = error instanceof CodedError ? error.fix : undefined
  return {
    code: codeOf(error) ?? 'INTERNAL',
    message: error.message,
    ...(fix === undefined ? {} : { fix })
  }
}

/** Returns one line for a status page: the message, then the fix after a semicolon, if there is one. */
export function sentence(error: unknown): string {
  const { message, fix } = explain(error)
  return fix === undefined ? message : `${message}; ${fix}`
}

/**
 * Makes a server listen, and resolves once it does.
 * `setting`: the name of the setting that the user changes when the address is not free; it is part of the error's
 * fix.
 * `onLater`: called with errors of the server after that, for example when the process has no file descriptor left
 * for a new connection. The server goes on listening. Without a listener, Node would end the process.
 * Errors: AppError PORT_IN_USE (EADDRINUSE), LISTEN_FAILED (all other errors of bind and listen).
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
