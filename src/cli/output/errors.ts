// The errors of meshctl: a stable code (see exit-codes.ts), what is wrong, and what to do about it.
import { CodedError } from '../../core/model/coded-error.ts'

export class CliError extends CodedError {
  override readonly name = 'CliError'

  constructor(code: string, message: string, fix?: string, options?: ErrorOptions) {
    super({ code, message, fix, cause: options?.cause })
  }
}

/** The error for an invalid value on the command line; `what` names the flag or argument. */
export function badArgument(what: string, problem: string, fix: string): CliError {
  return new CliError('BAD_ARGUMENT', `${what}: ${problem}`, fix)
}
