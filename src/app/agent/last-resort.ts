// Handles errors that no other code caught, and rejections that no code handles, which Node raises as exceptions too.
// Such an error is a fault of the program, whose state may be inconsistent: the error is logged with stack and causes,
// and the process ends with exit code 70. Tunnel, routes and services stay in the kernel, and the service manager
// starts the agent again (docs/decisions/0058).
import { inspect } from 'node:util'
import { EXIT } from './exit-codes.ts'
import type { Log } from '../observe/log.ts'

// The number of nested causes that are logged. A longer chain most likely contains itself.
const CAUSES_MAX = 8

/** Installs the handler of uncaught errors. Called once by `meshd run`, before any part starts. */
export function installLastResort(log: Pick<Log, 'fatal'>): void {
  let isEnding = false
  process.on('uncaughtException', (error: unknown, origin) => {
    if (isEnding) return // the error comes from the lines below; it must not start them again
    isEnding = true
    try {
      log.fatal(
        { origin, error: whole(error) },
        `a fault of the program: the agent ends with exit code ${EXIT.unexpected}, and the host keeps tunnel, routes and services as they are`
      )
    } finally {
      process.exit(EXIT.unexpected)
    }
  })
}

/**
 * Converts an error for the log: name, code, message, stack and causes. Other properties are left out, because one may
 * hold a secret.
 */
export function whole(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return { thrown: inspect(error, { depth: 0 }).slice(0, 1000) }
  const { code } = error as Error & { code?: unknown }
  return {
    name: error.name,
    ...(typeof code === 'string' ? { code } : {}),
    message: error.message,
    stack: error.stack,
    ...(error.cause === undefined || depth >= CAUSES_MAX ? {} : { cause: whole(error.cause, depth + 1) }),
    ...(error instanceof AggregateError && depth < CAUSES_MAX
      ? { errors: error.errors.slice(0, CAUSES_MAX).map((each) => whole(each, depth + 1)) }
      : {})
  }
}
