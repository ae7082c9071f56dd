// The commands that change a host, as data: what `meshctl plan` prints is made of the same values that are run.
// Invariant: a command holds no secret. A secret on stdin has a name here, and the caller of runCommand gives its text.
import type { Run } from '../ports.ts'

export interface Command {
  readonly tool: string
  readonly args: readonly string[]
  /** Text on stdin, or the name of a secret. */
  readonly stdin?: string | { readonly secret: string }
  /** The tool opens /dev/stdin by name. */
  readonly stdinAsFile?: boolean
}

/** As a person would type it. */
export function commandText({ tool, args, stdin }: Command): string {
  const line = [tool, ...args].map(quoted).join(' ')
  if (stdin === undefined) return line
  if (typeof stdin !== 'string') return `${line} < ${stdin.secret}`
  return `${line} <<'END'\n${stdin.endsWith('\n') ? stdin : `${stdin}\n`}END`
}

function quoted(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`
}

/** `secret` gives the text of a secret on stdin. Errors: those of `run`. */
export async function runCommand(
  run: Run,
  { tool, args, stdin, stdinAsFile }: Command,
  options: { readonly signal: AbortSignal; readonly secret?: () => string | Promise<string> }
): Promise<void> {
  const { signal, secret } = options
  const text = typeof stdin === 'string' || stdin === undefined ? stdin : `${await secret?.()}\n`
  await run(tool, args, {
    signal,
    ...(text === undefined ? {} : { stdin: text }),
    ...(stdinAsFile === undefined ? {} : { stdinAsFile })
  })
}
