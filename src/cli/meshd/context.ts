// The context of a command: the client of meshd, the output format and the style, made from the global options once per
// run. Commands take everything about the terminal from here, so that a format or a flag works in each of them.
// Printing of answers is here, too: JSON and YAML get the answer as meshd sent it, people get a text that the command
// renders.
import { Option, type Command } from 'commander'
import { stringify } from 'yaml'
import type { Answer } from '../../api/answers.ts'
import { parseSeconds } from './arguments.ts'
import { createClient, type Client } from './client.ts'
import { badArgument } from '../output/errors.ts'
import { EXIT, type ExitCode } from '../output/exit-codes.ts'
import { styleFor, type Style } from '../output/style.ts'
import { cleanDeep, safeJson } from '../output/text.ts'

/** What a command needs besides its own options. */
export interface Context {
  /** The client for the socket of --socket. */
  readonly client: Client
  readonly format: Format
  readonly style: Style
  /** The value of --timeout in milliseconds; undefined when the flag is not given. */
  readonly timeoutMs: number | undefined
  /**
   * False with --no-headers and -o name: tables have rows only, without column titles and without notes before them.
   */
  readonly headers: boolean
  /** The width of the terminal in columns. undefined: stdout is no terminal, and rows are not folded. */
  readonly width: number | undefined
}

/**
 * The values of --output. `wide` is a table with more columns; `name` prints the first column only, for other commands.
 */
type Format = (typeof FORMATS)[number]

const FORMATS = ['table', 'wide', 'json', 'yaml', 'name'] as const

// The same path as meshd's default for its setting `socket`.
const SOCKET_DEFAULT = '/run/rhizome/meshd.sock'

// The options as commander has parsed them.
interface GlobalOptions {
  readonly socket: string
  readonly json?: boolean
  readonly output: Format
  /** Seconds. */
  readonly timeout?: number
  readonly color: boolean
  readonly headers: boolean
}

/** Adds the options that every command has. They may stand before or after the name of the command. */
export function addGlobalOptions(program: Command): void {
  program
    .addOption(
      new Option('--socket <path>', 'admin socket of meshd').env('RHIZOME_SOCKET').default(SOCKET_DEFAULT)
    )
    .addOption(
      new Option(
        '-o, --output <format>',
        'table, wide (more columns), name (the first column only), json or yaml'
      )
        .choices(FORMATS)
        .default('table')
    )
    .option(
      '--json',
      'same as -o json: the answer of meshd, less what filters leave out, and errors as JSON on stderr'
    )
    .option('--no-headers', 'tables without column titles, for scripts')
    .option('--timeout <time>', 'longest wait for an answer, as in 30s or 2m', (text) =>
      parseSeconds('--timeout', text)
    )
    .option('--no-color', 'no colours (NO_COLOR=1 does the same)')
}

/**
 * Returns the context of a command that commander has parsed. Actions of commands call it first. It has no effects.
 * `hasTable`: the command prints a table, so it also takes -o name. Errors: CliError BAD_ARGUMENT for -o name where there
 * is no table.
 */
export function contextOf(command: Command, { hasTable = false } = {}): Context {
  const options = command.optsWithGlobals<GlobalOptions>()
  const format = options.json === true ? 'json' : options.output
  if (format === 'name' && !hasTable) {
    throw badArgument(
      '-o name',
      `\`${typed(command)}\` prints no table`,
      'use -o json or -o yaml; peers, services, routes, dns, events, trust, admin list and invite list take -o name'
    )
  }
  const timeoutMs = options.timeout === undefined ? undefined : options.timeout * 1000
  return {
    timeoutMs,
    client: createClient({
      socket: options.socket,
      timeoutMs,
      progress: !isData(format)
    }),
    format,
    headers: options.headers && format !== 'name',
    // Some terminals report 0 columns, which means that the width is not known.
    width: process.stdout.isTTY ? process.stdout.columns || undefined : undefined,
    style: styleFor(process.stdout, { color: options.color, env: process.env })
  }
}

/** The command as it was typed, without its flags and arguments: "meshctl root status". */
function typed(command: Command): string {
  const above = command.parent
  return above === null ? command.name() : `${typed(above)} ${command.name()}`
}

/** Whether a format is for programs. Such output has the whole answer and no progress line. */
export function isData(format: Format): format is 'json' | 'yaml' {
  return format === 'json' || format === 'yaml'
}

/**
 * Returns an answer as text for programs; both formats have the same values. JSON shows unsafe characters as \u
 * escapes, from which a parser restores them; YAML shows them as `clean` writes them. `indent` is for JSON; without it
 * JSON is one line.
 */
export function formatData(format: 'json' | 'yaml', answer: unknown, indent?: number): string {
  if (format === 'json') return safeJson(answer, indent)
  return stringify(cleanDeep(answer), { lineWidth: 0, aliasDuplicateObjects: false }).trimEnd()
}

// The exit code of this run, if no error is thrown. One process runs one command, so one variable is enough.
let exit: ExitCode = EXIT.ok

/** Sets the exit code of a run whose answer was printed but reports a failure, such as NXDOMAIN. Default: EXIT.ok. */
export function endWith(code: ExitCode): void {
  exit = code
}

/** Returns the exit code of a command that has ended without an error. Only main.ts calls it. */
export function endedWith(): ExitCode {
  return exit
}

/** An answer as text for people: `body` is the answer and goes to stdout, `note` explains it and goes to stderr. */
export interface Rendered {
  readonly body?: string
  readonly note?: string
}

/**
 * Prints an answer once: with -o json or yaml as meshd sent it, else as `render` returns it. `render` gets a copy of
 * the answer whose strings are clean (text.ts), so that a command cannot forget to clean one.
 */
export function print<T extends Answer>(context: Context, answer: T, render: (answer: T) => Rendered): void {
  if (isData(context.format)) {
    process.stdout.write(`${formatData(context.format, answer, 2)}\n`)
    return
  }
  const { body, note } = render(cleanDeep(answer))
  // The names of an empty list are no line; a table without rows still has its titles.
  if (body !== undefined && body !== '') process.stdout.write(`${body}\n`)
  if (note !== undefined) process.stderr.write(`${note}\n`)
}

/** Adds examples, each a comment and a command line, and `notes` to the end of `meshctl <command> --help`. */
export function addExamples(
  command: Command,
  examples: readonly (readonly [what: string, line: string])[],
  notes = ''
): void {
  const lines = examples.map(([what, line]) => `  # ${what}\n  ${line}`)
  command.addHelpText('after', `\nExamples:\n${lines.join('\n\n')}${notes === '' ? '' : `\n\n${notes}`}`)
}
