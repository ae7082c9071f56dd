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
    await program.parseAsync(withoutHelpCommand(argv))
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
 * --help` and `meshctl trust nonsense --help` commander would print the help above it and end with 0, so a script with a
 * typing error would seem to succeed.
 */
function refuseUnknownCommand(program: Command, argv: readonly string[]): void {
  const words = operandsOf(argv)
  const { command, rest } = commandAt(program, words[0] === 'help' ? words.slice(1) : words)
  const [wanted] = rest
  if (wanted === undefined || wanted === 'help') return
  // `meshctl invite east` means `meshctl invite create east`, so the word behind `invite` may be any name.
  if (command.commands.length === 0 || command.name() === 'invite') return
  const meant = nearest(
    wanted,
    command
      .createHelp()
      .visibleCommands(command)
      .map((each) => each.name())
  )
  const above = pathOf(command)
  throw new CliError(
    'BAD_ARGUMENT',
    `unknown command ${quote([...above.slice(1), wanted].join(' '))}`,
    `${meant === undefined ? '' : `Did you mean ${meant}? `}\`${above.join(' ')} --help\` lists the commands, with examples`
  )
}

/**
 * `meshctl help invite create` as `meshctl invite create --help`, since commander's help takes one name only. Every other
 * line is as it was.
 */
function withoutHelpCommand(argv: readonly string[]): readonly string[] {
  const [first, ...topic] = operandsOf(argv)
  return first === 'help' && topic.length > 1 ? [...argv.slice(0, 2), ...topic, '--help'] : argv
}

/** The words of a command line that are no options, up to the first option that meshctl itself does not have. */
function operandsOf(argv: readonly string[]): readonly string[] {
  // A second program reads the words, because parseOptions keeps the values that it has read.
  // After a help flag it would read no operand, so `meshctl --help nonsense` would be no error.
  return createProgram().parseOptions(argv.slice(2).filter((word) => word !== '-h' && word !== '--help'))
    .operands
}

/** The command that the words name, as deep as each of them is one, and the words behind its name. */
function commandAt(
  program: Command,
  words: readonly string[]
): { readonly command: Command; readonly rest: readonly string[] } {
  const [word, ...rest] = words
  const below = program.commands.find((each) => each.name() === word)
  return below === undefined ? { command: program, rest: words } : commandAt(below, rest)
}

/** "meshctl", "trust", "status" of that command. */
function pathOf(command: Command): string[] {
  return [...(command.parent === null ? [] : pathOf(command.parent)), command.name()]
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
  const help = `${pathOf(commandAt(program, program.args).command).join(' ')} --help`
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
