// meshd: reads the settings, starts the agent, ends it cleanly on a signal.
import { Command, CommanderError } from 'commander'
import { existsSync } from 'node:fs'
import { startAgent } from './agent/agent.ts'
import { cleanup } from './agent/cleanup.ts'
import { explain } from './observe/errors.ts'
import { EXIT, EXIT_MEANINGS } from './agent/exit-codes.ts'
import { installLastResort } from './agent/last-resort.ts'
import { createLog } from './observe/log.ts'
import { textOfListen } from './settings/listen-address.ts'
import { envOf, misspeltEnvironment, resolveSettings, SETTINGS, type Settings } from './settings/settings.ts'
import { VERSION } from './observe/version.ts'

const FILE = '/etc/rhizome/meshd.yaml'
// Closing takes a second; what hangs longer must not keep the service manager waiting.
const STOP_DEADLINE_MS = 15_000

async function main(): Promise<void> {
  // `meshd --help | head` has read enough. A running agent writes nothing there, and lives on without a reader.
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
    // Not only the code: something half started may hold the process.
    process.exit(code === 'BAD_SETTING' ? EXIT.usage : EXIT.failed)
  }
}

function command(): Command {
  const program = new Command('meshd')
    .description(
      'The gateway agent of Rhizome: joins this cluster with others into one network, without a master.'
    )
    .version(VERSION)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(usageText(text)) })
    .option('--config <file>', `YAML file of settings; RHIZOME_CONFIG (default: ${FILE} if it is there)`)
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
      'remove tunnel, routes, tables and services of a stopped agent from this host, and restore its sysctls'
    )
    .action(() => cleanup(settingsOf(program)))
  return program
}

/** As every other error of meshd: who says it, what is wrong, and the fix on a line of its own. */
function usageText(text: string): string {
  const [problem = '', hint] = text
    .trim()
    .replace(/^error: /, '')
    .split('\n')
  const suggestion = hint === undefined ? '' : `${hint.replace(/^\(|\)$/g, '')} `
  return `meshd: ${problem}\n  fix: ${suggestion}\`meshd --help\` lists all options and commands\n`
}

async function run(settings: Settings): Promise<void> {
  const log = createLog(settings)
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
    log.warn({ name }, `the environment variable ${name} is no setting; did you mean ${meant}?`)
  const asked = Promise.withResolvers<void>()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // From the start on: what is half started is ended in order, too. A second signal ends it at once.
    process.once(signal, () => {
      log.info({ signal }, 'stopping; the host keeps tunnel and routes')
      setTimeout(() => {
        log.error('something did not end in time: the agent ends without it')
        process.exit(EXIT.failed)
      }, STOP_DEADLINE_MS).unref()
      asked.resolve()
    })
  }
  const agent = await startAgent(settings, log)
  await asked.promise
  await agent.stop()
  process.exit(EXIT.ok) // libraries may hold timers; everything of ours is closed
}

function settingsOf(program: Command): Settings {
  const options = program.opts<Record<string, unknown>>()
  const flags: Record<string, unknown> = {}
  for (const key of Object.keys(SETTINGS)) flags[key] = options[camelCase(key)]
  const named = (options['config'] as string | undefined) ?? process.env['RHIZOME_CONFIG']
  return resolveSettings({ flags, env: process.env, file: named ?? (existsSync(FILE) ? FILE : undefined) })
}

function camelCase(key: string): string {
  return key.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())
}

const EXAMPLES = `
A fresh agent waits until it is told what to do:
  meshctl init --cluster west --pod-cidr 10.1.0.0/16 --service-cidr 10.101.0.0/16   the first cluster makes the mesh
  meshctl join <token>                                                             every other one joins with a token

Settings come from flags, the environment and the file, in this order.

Exit codes:
${EXIT_MEANINGS.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`).join('\n')}`

await main()
