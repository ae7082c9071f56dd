// The base class of all errors that leave a module of this program: a stable code for programs, a message and a fix
// for people. The admin API and meshctl show code, message and fix.

/** The arguments of CodedError. */
export interface CodedErrorDetails<Code extends string = string> {
  /** Stable over versions, upper case with underscores: "PORT_IN_USE". */
  readonly code: Code
  readonly message: string
  /** What the user can do about the error, as an instruction; undefined when there is no advice. */
  readonly fix?: string | undefined
  readonly cause?: unknown
}

/**
 * An error with a code that callers may compare. Each module derives its own class, which narrows `Code` to the codes
 * of that module.
 */
export class CodedError<Code extends string = string> extends Error {
  readonly code: Code
  readonly fix: string | undefined

  constructor({ code, message, fix, cause }: CodedErrorDetails<Code>) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.fix = fix
  }
}

/**
 * An error that always tells what to do. Classes that need nothing but a code, a message, a fix and a cause derive from
 * it; each narrows `Code` and sets `name`.
 */
export class AdvisedError<Code extends string = string> extends CodedError<Code> {
  declare readonly fix: string

  constructor(code: Code, text: { readonly message: string; readonly fix: string }, cause?: unknown) {
    super({ code, ...text, cause })
  }
}

/**
 * The code of a CodedError, or of an error of Node ("ENOENT"). undefined: the value is no error, or the error has no
 * code.
 */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

/**
 * The code of an error for one kind of a family, such as "TOKEN_NOT_YET_VALID" for the kind "notYetValid" of the family
 * "TOKEN". Kinds are the camelCase literals of unions in src/core. Every code of a kind is made here, because meshctl
 * chooses its exit code by the exact code.
 */
export function codeOfKind(family: string, kind: string): string {
  return `${family}_${kind.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`
}
