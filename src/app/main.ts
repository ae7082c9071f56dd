// The program meshd. It reads the settings of flags, environment and file, starts the agent (agent/agent.ts) and stops
// it cleanly on SIGINT or SIGTERM. `meshd cleanup` cleans the host of a stopped agent. Flags and help come from the
// table in settings/settings.ts.
import { Command, CommanderError } from 'commander'
import { existsSync } from 'node:fs'
import { startAgent } from './agent/agent.ts'
import { cleanup } from './agent/cleanup.ts'
import { explain } from './observe/errors.ts'
import { EXIT, EXIT_MEANINGS } from './agent/exit-codes.ts'
import { installLastResort } from './agent/last-resort.ts'
import { createLog } from './observe/log.ts'
import { LogRing } from './observe/log-ring.ts'
import { textOfListen } from './settings/listen-address.ts'
import { misspeltEnvironment } from './settings/misspelt.ts'
import { envOf, resolveSettings, SETTINGS, type Settings } from './settings/settings.ts'
import { VERSION } from './observe/version.ts'
import { HAND_OVER_MS_MAX } from './session/hand-over.ts'

// Read if it exists. A file that --config or RHIZOME_CONFIG names must exist.
const FILE = '/etc/rhizome/meshd.yaml'
// A clean stop takes about a second after the hand-over. The deadline is below the time after which service managers kill:
// 30 s in the systemd unit and in the DaemonSet.
const STOP_DEADLINE_MS = 15_000 + HAND_OVER_MS_MAX

/**
 * Parses the command line and runs one command. Errors of the command are printed as one line with the fix, and decide
 * the exit code.
 */
async function main(): Promise<void> {
  // EPIPE is no fault: `meshd --help | head` closes the pipe before all is written. The log has a handler of its own
  // (observe/log.ts).
  process.stdout.on('error', () => undefined)
  process.stderr.on('error', () => undefined)
  const program = command()
  try {
    await program.parseAsync()
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
      return
    }
    const { code, message, fix } = explain(error)
    process.stderr.write(`meshd: ${message}${fix === undefined ? '' : `\n  fix: ${fix}`}\n`)
    if (code === 'INTERNAL' && error instanceof Error) process.stderr.write(`${error.stack}\n`)
    // To set process.exitCode is not enough: a timer or socket of a part that had started could keep the process alive.
    process.exit(code === 'BAD_SETTING' ? EXIT.usage : EXIT.failed)
  }
}

/** The commands and flags of meshd. `run` is the default command. */
function command(): Command {
  const program = new Command('meshd')
    .description(
      'The gateway agent of Rhizome: joins this cluster with others into one network, without a master.'
    )
    .version(VERSION)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(usageText(text)) })
    .option('--config <file>', `YAML file of settings; RHIZOME_CONFIG (default: ${FILE} if it exists)`)
    .addHelpText('after', EXAMPLES)
  for (const [key, { initial, help }] of Object.entries(SETTINGS)) {
    const shown = Array.isArray(initial) ? initial.join(',') : String(initial)
    program.option(`--${key} <value>`, `${help}; ${envOf(key)}${shown === '' ? '' : ` (default: ${shown})`}`)
  }
  program
    .command('run', { isDefault: true })
    .description('run the agent until SIGINT or SIGTERM; traffic flows on when it ends')
    .action(() => run(settingsOf(program)))
  program
    .command('cleanup')
    .description(
      'remove tunnel, routes, tables and services of a stopped agent from this host, restore its sysctls, and print what was removed'
    )
    .action(async () => void process.stdout.write(await cleanup(settingsOf(program))))
  return program
}

/**
 * Converts a usage error of commander to the form of all errors of meshd: the program, the problem, and the fix on a
 * line of its own.
 */
function usageText(text: string): string {
  const [problem = '', hint] = text
    .trim()
    .replace(/^error: /, '')
    .split('\n')
  const suggestion = hint === undefined ? '' : `${hint.replace(/^\(|\)$/g, '')} `
  return `meshd: ${problem}\n  fix: ${suggestion}\`meshd --help\` lists all options and commands\n`
}

/** Runs the agent until a signal arrives. Ends the process itself. */
async function run(settings: Settings): Promise<void> {
  const lines = new LogRing()
  const log = createLog(settings, lines)
  installLastResort(log)
  log.info(
    {
      version: VERSION,
      node: process.version,
      listen: settings.listen,
      wireguardPort: settings['wireguard-port'],
      socket: settings.socket,
      stateDir: settings['state-dir'],
      http: textOfListen(settings['http-listen'])
    },
    'meshd is starting'
  )
  for (const { name, meant } of misspeltEnvironment(process.env))
    log.warn({ name }, `the environment variable ${name} is not a setting; did you mean ${meant}?`)
  const asked = Promise.withResolvers<void>()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // Installed before the start, so that a signal during the start ends in a clean stop, too. A second signal has no
    // handler any more and kills the process at once.
    process.once(signal, () => {
      log.info({ signal }, 'stopping; the host keeps tunnel and routes')
      setTimeout(() => {
        log.error(
          `a part of the agent did not stop within ${STOP_DEADLINE_MS / 1000} s; the process ends without it`
        )
        process.exit(EXIT.failed)
      }, STOP_DEADLINE_MS).unref()
      asked.resolve()
    })
  }
  const agent = await startAgent(settings, log, lines)
  await asked.promise
  await agent.stop()
  process.exit(EXIT.ok) // all parts are closed; timers of libraries could still keep the process alive
}

/** Collects the sources of settings. Errors: SettingsError. */
function settingsOf(program: Command): Settings {
  const options = program.opts<Record<string, unknown>>()
  const flags: Record<string, unknown> = {}
  for (const key of Object.keys(SETTINGS)) flags[key] = options[camelCase(key)]
  const named = (options['config'] as string | undefined) ?? process.env['RHIZOME_CONFIG']
  return resolveSettings({ flags, env: process.env, file: named ?? (existsSync(FILE) ? FILE : undefined) })
}

/** Commander stores --dns-listen under dnsListen. */
function camelCase(key: string): string {
  return key.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())
}

const EXAMPLES = `
A new agent waits for one of these commands:
  meshctl init --cluster west --pod-cidr 10.1.0.0/16 --service-cidr 10.101.0.0/16   the first cluster makes the mesh
  meshctl join <token>                                                             each other cluster joins with a token

Settings come from flags, the environment and the file, in this order.

Exit codes:
${EXIT_MEANINGS.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`).join('\n')}`

await main()
