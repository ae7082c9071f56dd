// `meshctl __complete -- <words>`: candidates for the last word, from the tree of commands and, for names, from meshd.
// It is called at each press of Tab: it never prints an error, and asks meshd for half a second at most.
import type { Argument, Command, Option } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { createClient, type Client } from '../meshd/client.ts'
import { RECORD_TYPES } from '../commands/dns.ts'
import { CliError } from '../output/errors.ts'
import { clean } from '../output/text.ts'

export function addComplete(program: Command): void {
  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .action(async (words: readonly string[]) => {
      for (const { value, help } of await complete(program, words)) {
        process.stdout.write(help === undefined ? `${value}\n` : `${value}\t${help}\n`)
      }
    })
}

interface Candidate {
  readonly value: string
  readonly help?: string | undefined
}

const FILES: readonly Candidate[] = [{ value: ':files' }]
const TIMEOUT_MS = 500

async function complete(program: Command, given: readonly string[]): Promise<readonly Candidate[]> {
  const { words, current, prefix } = split(given)
  const place = walk(program, words)
  if (prefix !== '' || place.pending !== undefined) {
    const flag = prefix === '' ? place.pending : findOption(place, prefix.slice(0, -1))
    return matching(await valuesOfOption(flag, place), current, prefix)
  }
  if (current.startsWith('-')) return matching(flags(place), current)
  if (place.command === program) return matching(commands(program), current)
  return matching(await valuesOfArgument(place), current)
}

interface Place {
  readonly command: Command
  readonly program: Command
  /** An option that still lacks its value. */
  readonly pending: Option | undefined
  readonly positionals: number
  readonly socket: string
}

/** Splits "--flag=val" at the end, which bash gives as the three words --flag, = and val. */
function split(given: readonly string[]): { words: string[]; current: string; prefix: string } {
  const words = [...given]
  let current = words.pop() ?? ''
  if (current === '=') current = ''
  const [, prefix, value] = /^(--[a-z-]+=)(.*)$/s.exec(current) ?? []
  return { words, current: value ?? current, prefix: prefix ?? '' }
}

function walk(program: Command, words: readonly string[]): Place {
  let place: Place = {
    command: program,
    program,
    pending: undefined,
    positionals: 0,
    socket: program.opts<{ readonly socket: string }>().socket
  }
  for (const word of words.filter((word) => word !== '=')) place = step(place, word)
  return place
}

function step(place: Place, word: string): Place {
  if (place.pending !== undefined) {
    const socket = place.pending.long === '--socket' ? word : place.socket
    return { ...place, pending: undefined, socket }
  }
  if (word.startsWith('-')) {
    const [name, value] = word.split('=', 2)
    const option = findOption(place, name ?? '')
    if (option?.long === '--socket' && value !== undefined) return { ...place, socket: value }
    return { ...place, pending: option?.required === true && value === undefined ? option : undefined }
  }
  const next = place.command === place.program ? named(place.program, word) : undefined
  return next === undefined ? { ...place, positionals: place.positionals + 1 } : { ...place, command: next }
}

function named(program: Command, word: string): Command | undefined {
  return program.commands.find((command) => command.name() === word)
}

function findOption({ command, program }: Place, name: string): Option | undefined {
  return [...command.options, ...program.options].find(
    (option) => option.long === name || option.short === name
  )
}

function commands(program: Command): Candidate[] {
  const visible = program.createHelp().visibleCommands(program)
  return visible.map((command) => ({
    value: command.name(),
    help: command.summary() || command.description()
  }))
}

function flags({ command, program }: Place): Candidate[] {
  const help = program.createHelp()
  const options = [
    ...help.visibleOptions(command),
    ...(command === program ? [] : help.visibleOptions(program))
  ]
  const known = new Map(options.map((option) => [option.long ?? '', option.description]))
  return [...known].map(([value, help]) => ({ value, help }))
}

async function valuesOfOption(option: Option | undefined, place: Place): Promise<readonly Candidate[]> {
  if (option?.argChoices !== undefined) return option.argChoices.map((value) => ({ value }))
  switch (option?.long ?? '') {
    case '--socket':
    case '--token-file':
    case '--kubeconfig':
      return FILES
    case '--type':
      return RECORD_TYPES.map((value) => ({ value }))
    case '--bootstrap':
    case '--cluster':
      // The name that `init` gives is a new one.
      return place.command.name() === 'init' ? [] : names(place, clusterNames)
    case '--namespace':
      return names(place, namespaces)
    default:
      return []
  }
}

async function valuesOfArgument(place: Place): Promise<readonly Candidate[]> {
  if (place.command.name() === 'help') return commands(place.program)
  const argument: Argument | undefined = place.command.registeredArguments[place.positionals]
  if (argument?.argChoices !== undefined) return argument.argChoices.map((value) => ({ value }))
  return place.command.name() === 'dns' && argument !== undefined ? names(place, dnsNames) : []
}

async function names(place: Place, ask: (client: Client) => Promise<string[]>): Promise<Candidate[]> {
  try {
    const found = await ask(createClient({ socket: place.socket, timeoutMs: TIMEOUT_MS, progress: false }))
    return [...new Set(found)].sort().map((value) => ({ value }))
  } catch (error) {
    if (error instanceof CliError) return [] // no agent, no names: the shell shows nothing
    throw error
  }
}

async function clusterNames(client: Client): Promise<string[]> {
  const { peers } = await client.request(ENDPOINTS.peers, { field: 'peers', doing: '' })
  return peers.map((peer) => peer.cluster)
}

async function namespaces(client: Client): Promise<string[]> {
  const { services } = await client.request(ENDPOINTS.services, {
    field: 'services',
    doing: ''
  })
  return services.map((service) => service.namespace)
}

async function dnsNames(client: Client): Promise<string[]> {
  const { services } = await client.request(ENDPOINTS.services, {
    field: 'services',
    doing: ''
  })
  const { zones } = await client.request(ENDPOINTS.dns, { field: 'zones', doing: '' })
  return [...services.map((service) => service.dnsName), ...(zones ?? []).map((zone) => zone.zone)]
}

function matching(candidates: readonly Candidate[], current: string, prefix = ''): Candidate[] {
  if (candidates === FILES) return [...FILES]
  return candidates
    .filter(({ value }) => value.startsWith(current))
    .map(({ value, help }) => ({
      value: prefix + clean(value),
      help: help === undefined ? help : clean(help)
    }))
}
