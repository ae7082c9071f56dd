// Handles errors that no other code caught. Such an error is a fault of the program, whose state may be inconsistent: the error is logged
// with stack and causes, and the process ends with exit code 70. Tunnel, routes and services stay in the kernel.
import { inspect } from 'node:util'
import { EXIT } from './exit-codes.ts'
import type { Log } from '../observe/log.ts'

// Causes of causes: a chain that is longer than this is a ring.
const CAUSES_MAX = 8

/** To be called once, before anything starts. */
export function installLastResort(log: Pick<Log, 'fatal'>): void {
  let isEnding = false
  process.on('uncaughtException', (error: unknown, origin) => {
    if (isEnding) return // of the lines below
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

/** Name, code, message, stack and causes. Other properties stay out: one may be a secret. */
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
