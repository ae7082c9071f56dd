// The errors of meshctl. Each has a stable code for programs, which decides the exit code (exit-codes.ts), a message
// that says what is wrong, and a fix that says what the user can do. failure.ts prints them.
import { CodedError } from '../../core/model/coded-error.ts'

/**
 * A failure that meshctl knows. Every other Error that reaches main.ts is reported as a fault of meshctl. Neither
 * message nor fix may have a token in it. A missing `fix` means that there is nothing to do.
 */
export class CliError extends CodedError {
  override readonly name = 'CliError'

  constructor(code: string, message: string, fix?: string, options?: ErrorOptions) {
    super({ code, message, fix, cause: options?.cause })
  }
}

/** Returns the error for an invalid value on the command line (exit code 2); `what` names the flag or argument. */
export function badArgument(what: string, problem: string, fix: string): CliError {
  return new CliError('BAD_ARGUMENT', `${what}: ${problem}`, fix)
}
