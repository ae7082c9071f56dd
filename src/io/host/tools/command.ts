// Commands that change a host, as data. `meshctl plan` prints and a pass runs the same values, so that the two cannot
// differ.
// Invariant: a command has no secret. A secret on stdin has a name here, and the caller of runCommand gives its text.
import type { Run } from '../ports.ts'

/** One call of a tool. */
export interface Command {
  readonly tool: string
  readonly args: readonly string[]
  /** Text for standard input, or the name of the secret that goes there, such as "PRIVATE-KEY". */
  readonly stdin?: string | { readonly secret: string }
  /** True if the tool opens /dev/stdin by name (RunOptions.stdinAsFile). */
  readonly stdinAsFile?: boolean
}

/** Returns the command as a person would type it in a shell. A secret is shown as `< NAME`. */
export function commandText({ tool, args, stdin }: Command): string {
  const line = [tool, ...args].map(quoted).join(' ')
  if (stdin === undefined) return line
  if (typeof stdin !== 'string') return `${line} < ${stdin.secret}`
  return `${line} <<'END'\n${stdin.endsWith('\n') ? stdin : `${stdin}\n`}END`
}

/** Quotes a word for a POSIX shell where it has other than harmless characters. */
function quoted(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`
}

/** Runs the command. `secret` returns the text for a stdin that is a secret. Errors: those of `run` and of `secret`. */
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
