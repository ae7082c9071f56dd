// The base of all errors that leave a part of this program: a stable code for programs, a message and a fix for people.

export interface CodedErrorDetails<Code extends string = string> {
  /** Stable, upper case with underscores: "PORT_IN_USE". */
  readonly code: Code
  readonly message: string
  /** What the user can do about it. */
  readonly fix?: string | undefined
  readonly cause?: unknown
}

export class CodedError<Code extends string = string> extends Error {
  readonly code: Code
  readonly fix: string | undefined

  constructor({ code, message, fix, cause }: CodedErrorDetails<Code>) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.fix = fix
  }
}

/** The code of a CodedError, or of an error of Node ("ENOENT"). undefined: the value is no error, or the error has no code. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
