// The entry point of meshctl, which bin/meshctl starts. It runs the command line and turns every result and error into
// text and an exit code (output/exit-codes.ts). Answers go to stdout, errors to stderr. A command throws a CliError for
// every failure that it knows; any other Error is a fault of the program and is printed as INTERNAL.
import { CommanderError, type Command } from 'commander'
import { nearest } from '../core/model/nearest.ts'
import { quote } from './meshd/arguments.ts'
import { endedWith } from './meshd/context.ts'
import { CliError } from './output/errors.ts'
import { EXIT, type ExitCode } from './output/exit-codes.ts'
import { reportFailure } from './output/failure.ts'
import { createProgram } from './program.ts'

process.stdout.on('error', endQuietly)
process.stderr.on('error', endQuietly)
// The exit code is set and process.exit is not called, so that writes that are still pending are completed first.
process.exitCode = await main(process.argv)

/**
 * Runs one command line, given as process.argv, to its end, and returns the exit code. Every error becomes an exit
 * code.
 */
async function main(argv: readonly string[]): Promise<ExitCode> {
  const program = createProgram()
  try {
    refuseUnknownCommand(program, argv)
    await program.parseAsync(argv)
    return endedWith()
  } catch (error) {
    const failure = error instanceof Error ? error : new Error(String(error))
    if (failure instanceof CommanderError) {
      // commander throws for help and version, too. Help that was not requested is a usage error.
      if (failure.code === 'commander.help') return argv.includes('help') ? EXIT.ok : EXIT.usage
      if (failure.exitCode === 0) return EXIT.ok
      return reportFailure(usageError(failure, program), wantsJson(argv))
    }
    // The stack is for reports of faults, so it is printed only on request.
    if (process.env['RHIZOME_DEBUG']) process.stderr.write(`${failure.stack}\n`)
    return reportFailure(failure, wantsJson(argv))
  }
}

/**
 * Throws CliError BAD_ARGUMENT when the command does not exist, before commander reads the line. For `meshctl nonsense
 * --help` commander would print the general help and end with 0, so a script with a typing error would seem to succeed.
 */
function refuseUnknownCommand(program: Command, argv: readonly string[]): void {
  // A second program reads the words, because parseOptions keeps the values that it has read.
  // After a help flag it would read no operand, so `meshctl --help nonsense` would be no error.
  const words = argv.slice(2).filter((word) => word !== '-h' && word !== '--help')
  const [name, topic] = createProgram().parseOptions(words).operands
  const wanted = name === 'help' ? topic : name
  if (wanted === undefined || wanted === 'help') return
  const known = program.commands.map((command) => command.name())
  if (known.includes(wanted)) return
  const meant = nearest(
    wanted,
    program
      .createHelp()
      .visibleCommands(program)
      .map((command) => command.name())
  )
  throw new CliError(
    'BAD_ARGUMENT',
    `unknown command ${quote(wanted)}`,
    `${meant === undefined ? '' : `Did you mean ${meant}? `}\`meshctl --help\` lists the commands, with examples`
  )
}

/** Ends with 0 when the reader has closed the pipe: a reader such as `head` may do so early, which is not a failure. */
function endQuietly(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(EXIT.ok)
  throw error
}

/**
 * Turns commander's error into a CliError BAD_ARGUMENT with the help of the command as the fix. The second line of
 * commander's message, if there is one, is its suggestion in parentheses: "(Did you mean --cluster?)".
 */
function usageError(error: CommanderError, program: Command): CliError {
  const [problem = '', hint] = error.message.replace(/^error: /, '').split('\n')
  const name = program.args[0]
  const command = program.commands.find((command) => command.name() === name)
  const help = command === undefined ? 'meshctl --help' : `meshctl ${command.name()} --help`
  const suggestion = hint === undefined ? '' : `${hint.replace(/^\(|\)$/g, '')} `
  return new CliError(
    'BAD_ARGUMENT',
    problem,
    `${suggestion}\`${help}\` lists what is possible, with examples`
  )
}

/**
 * Whether the user asked for JSON, so that an error is printed as JSON, too. It reads the words of the command line,
 * because options are not parsed when the command line is wrong. Words after "--" are arguments, not options.
 */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--')
  const words = end < 0 ? argv : argv.slice(0, end)
  return words.some(
    (word, index) =>
      word === '--json' ||
      word === '-ojson' ||
      word === '--output=json' ||
      (word === 'json' && ['-o', '--output'].includes(words[index - 1] ?? ''))
  )
}
