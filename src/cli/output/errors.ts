// What meshctl says when it cannot do as asked: a stable code (see exit-codes.ts), what is wrong, and what to do about it.

export class CliError extends Error {
  override readonly name = 'CliError'
  readonly code: string
  readonly fix: string | undefined

  constructor(code: string, message: string, fix?: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.fix = fix
  }
}

/** A value on the command line that cannot be: `what` names the flag or argument. */
export function badArgument(what: string, problem: string, fix: string): CliError {
  return new CliError('BAD_ARGUMENT', `${what}: ${problem}`, fix)
}

/** "ENOENT" and the like; '' for errors without a code. */
export function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}
