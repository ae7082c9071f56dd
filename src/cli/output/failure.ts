// Prints an error as text or as an ErrorAnswer, and finds its exit code. main.ts calls it for the error that ends a
// run, and watch.ts for one that does not. Every error is printed from here, so each is cleaned (text.ts) and has the
// same form.
import { API_VERSION, type ErrorAnswer } from '../../api/answers.ts'
import { CliError } from './errors.ts'
import { EXIT, exitCodeOf, type ExitCode } from './exit-codes.ts'
import { clean, safeJson } from './text.ts'

/** Returns the text for people: "error: what is wrong" and, on a line of its own, "fix: what to do". */
export function describeError(error: Error): string {
  const { message, fix } = errorAnswer(error).error
  return [`error: ${clean(message)}`, ...(fix === undefined ? [] : [`  fix: ${clean(fix)}`])].join('\n')
}

/**
 * Writes the error to stderr and returns its exit code. With `json` it is one line that is an ErrorAnswer. stdout holds
 * only answers, so a program that reads it never gets an error in place of one.
 */
export function reportFailure(error: Error, json: boolean): ExitCode {
  process.stderr.write(`${json ? safeJson(errorAnswer(error)) : describeError(error)}\n`)
  return error instanceof CliError ? exitCodeOf(error.code) : EXIT.failed
}

/**
 * Returns the error as an ErrorAnswer. An error that is no CliError is a fault of meshctl and has the code INTERNAL.
 */
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
