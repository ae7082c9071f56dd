// What every command has: a client, a format, a style. Made from the global options, once per run.
import { Option, type Command } from 'commander'
import type { Answer } from '../app/api.ts'
import { parseSeconds } from './arguments.ts'
import { createClient, type Client } from './client.ts'
import { styleFor, type Style } from './style.ts'
import { cleanDeep, safeJson } from './text.ts'

export interface Context {
  readonly client: Client
  readonly format: Format
  readonly style: Style
}

export type Format = 'table' | 'wide' | 'json'

const SOCKET_DEFAULT = '/run/rhizome/meshd.sock'

interface GlobalOptions {
  readonly socket: string
  readonly json?: boolean
  readonly output: Format
  readonly timeout?: number
  readonly color: boolean
}

export function addGlobalOptions(program: Command): void {
  program
    .addOption(
      new Option('--socket <path>', 'admin socket of meshd').env('RHIZOME_SOCKET').default(SOCKET_DEFAULT)
    )
    .addOption(
      new Option('-o, --output <format>', 'table, wide (more columns for peers) or json')
        .choices(['table', 'wide', 'json'])
        .default('table')
    )
    .option('--json', 'same as -o json: the answer of meshd as it is, errors as JSON on stderr')
    .option('--timeout <time>', 'longest wait for an answer, as in 30s or 2m', (text) =>
      parseSeconds('--timeout', text)
    )
    .option('--no-color', 'no colours (NO_COLOR=1 does the same)')
}

export function contextOf(command: Command): Context {
  const options = command.optsWithGlobals<GlobalOptions>()
  const format = options.json === true ? 'json' : options.output
  return {
    client: createClient({
      socket: options.socket,
      timeoutMs: options.timeout === undefined ? undefined : options.timeout * 1000,
      progress: format !== 'json'
    }),
    format,
    style: styleFor(process.stdout, { color: options.color, env: process.env })
  }
}

/** For people: `body` is the answer and goes to stdout, `note` explains and goes to stderr. */
export interface Rendered {
  readonly body?: string
  readonly note?: string
}

/** Prints an answer: as it is with --json, else as `render` has it. `render` sees clean strings only (text.ts). */
export function print<T extends Answer>(context: Context, answer: T, render: (answer: T) => Rendered): void {
  if (context.format === 'json') {
    process.stdout.write(`${safeJson(answer, 2)}\n`)
    return
  }
  const { body, note } = render(cleanDeep(answer))
  if (body !== undefined) process.stdout.write(`${body}\n`)
  if (note !== undefined) process.stderr.write(`${note}\n`)
}

/** `meshctl <command> --help` ends with these. */
export function addExamples(
  command: Command,
  examples: readonly (readonly [what: string, line: string])[],
  notes = ''
): void {
  const lines = examples.map(([what, line]) => `  # ${what}\n  ${line}`)
  command.addHelpText('after', `\nExamples:\n${lines.join('\n\n')}${notes === '' ? '' : `\n\n${notes}`}`)
}
