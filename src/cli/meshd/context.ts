// The context of a command: client, format and style. It is made once per run from the global options.
import { Option, type Command } from 'commander'
import { stringify } from 'yaml'
import type { Answer } from '../../api/answers.ts'
import { parseSeconds } from './arguments.ts'
import { createClient, type Client } from './client.ts'
import { EXIT, type ExitCode } from '../output/exit-codes.ts'
import { styleFor, type Style } from '../output/style.ts'
import { cleanDeep, safeJson } from '../output/text.ts'

export interface Context {
  readonly client: Client
  readonly format: Format
  readonly style: Style
  /** From --timeout. */
  readonly timeoutMs: number | undefined
  /** False: rows only, no column titles, no notes before the table. */
  readonly headers: boolean
  /** Cells of a line of the terminal; undefined: stdout is no terminal, and nothing is folded. */
  readonly width: number | undefined
}

export type Format = (typeof FORMATS)[number]

const FORMATS = ['table', 'wide', 'json', 'yaml', 'name'] as const

const SOCKET_DEFAULT = '/run/rhizome/meshd.sock'

interface GlobalOptions {
  readonly socket: string
  readonly json?: boolean
  readonly output: Format
  readonly timeout?: number
  readonly color: boolean
  readonly headers: boolean
}

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
    .option('--json', 'same as -o json: the answer of meshd as it is, errors as JSON on stderr')
    .option('--no-headers', 'tables without column titles, for scripts')
    .option('--timeout <time>', 'longest wait for an answer, as in 30s or 2m', (text) =>
      parseSeconds('--timeout', text)
    )
    .option('--no-color', 'no colours (NO_COLOR=1 does the same)')
}

export function contextOf(command: Command): Context {
  const options = command.optsWithGlobals<GlobalOptions>()
  const format = options.json === true ? 'json' : options.output
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
    width: process.stdout.isTTY ? process.stdout.columns || undefined : undefined,
    style: styleFor(process.stdout, { color: options.color, env: process.env })
  }
}

/** Formats for programs: they have the whole answer, and errors in the same format. */
export function isData(format: Format): format is 'json' | 'yaml' {
  return format === 'json' || format === 'yaml'
}

/** An answer for programs. YAML is a superset of JSON in what a reader takes; both have the same values. */
export function formatData(format: 'json' | 'yaml', answer: unknown, indent?: number): string {
  if (format === 'json') return safeJson(answer, indent)
  return stringify(cleanDeep(answer), { lineWidth: 0, aliasDuplicateObjects: false }).trimEnd()
}

let exit: ExitCode = EXIT.ok

/** Sets the exit code of a run whose answer was printed but reports a failure, such as NXDOMAIN. */
export function endWith(code: ExitCode): void {
  exit = code
}

export function endedWith(): ExitCode {
  return exit
}

/** For people: `body` is the answer and goes to stdout, `note` explains and goes to stderr. */
export interface Rendered {
  readonly body?: string
  readonly note?: string
}

/** Prints an answer: as it is with --json, else as `render` has it. `render` sees clean strings only (text.ts). */
export function print<T extends Answer>(context: Context, answer: T, render: (answer: T) => Rendered): void {
  if (isData(context.format)) {
    process.stdout.write(`${formatData(context.format, answer, 2)}\n`)
    return
  }
  const { body, note } = render(cleanDeep(answer))
  if (body !== undefined) process.stdout.write(`${body}\n`)
  if (note !== undefined) process.stderr.write(`${note}\n`)
}

/** Adds examples and notes to the end of `meshctl <command> --help`. */
export function addExamples(
  command: Command,
  examples: readonly (readonly [what: string, line: string])[],
  notes = ''
): void {
  const lines = examples.map(([what, line]) => `  # ${what}\n  ${line}`)
  command.addHelpText('after', `\nExamples:\n${lines.join('\n\n')}${notes === '' ? '' : `\n\n${notes}`}`)
}
