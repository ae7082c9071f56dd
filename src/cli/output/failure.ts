// An error as text or as an ErrorAnswer, and its exit code. The only place where errors are printed from.
import { API_VERSION, type ErrorAnswer } from '../../api/answers.ts'
import { CliError } from './errors.ts'
import { EXIT, exitCodeOf, type ExitCode } from './exit-codes.ts'
import { clean, safeJson } from './text.ts'

/** "error: what is wrong" and, on a line of its own, "fix: what to do". */
export function describeError(error: Error): string {
  const { message, fix } = errorAnswer(error).error
  return [`error: ${clean(message)}`, ...(fix === undefined ? [] : [`  fix: ${clean(fix)}`])].join('\n')
}

/** Writes to stderr; with `json` one line that is an ErrorAnswer, so that stdout holds answers only. */
export function reportFailure(error: Error, json: boolean): ExitCode {
  process.stderr.write(`${json ? safeJson(errorAnswer(error)) : describeError(error)}\n`)
  return error instanceof CliError ? exitCodeOf(error.code) : EXIT.failed
}

function errorAnswer(error: Error): ErrorAnswer {
  if (error instanceof CliError) {
    const { code, message, fix } = error
    return { apiVersion: API_VERSION, error: { code, message, ...(fix === undefined ? {} : { fix }) } }
  }
  return {
    apiVersion: API_VERSION,
    error: {
      code: 'INTERNAL',
      message: `a fault in meshctl: ${error.message}`,
      fix: 'please report it with the command line; RHIZOME_DEBUG=1 prints the stack'
    }
  }
}
