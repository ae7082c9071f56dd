// The hidden command `meshctl __complete -- <words>`, which the scripts of commands/completion.ts call at each press of
// Tab. It prints the candidates for the last word: commands and flags from commander's tree, names from meshd. An error
// would disturb the line that the user types, so it prints none, and it waits at most 500 ms for each answer of meshd, or
// as long as --timeout before __complete says.
// Output: one candidate per line as "value<Tab>description"; the line ":files" asks the shell for names of files.
import type { Argument, Command, Option } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { createClient, type Client } from '../meshd/client.ts'
import { RECORD_TYPES } from '../commands/dns.ts'
import { CliError } from '../output/errors.ts'
import { clean } from '../output/text.ts'

/**
 * Adds the command `__complete`. `words` are the words after `meshctl`; the last one is the word to complete and may be
 * ''.
 */
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

// `help` is the description that zsh and fish show beside the value.
interface Candidate {
  readonly value: string
  readonly help?: string | undefined
}

// The candidate that makes the shell's script complete names of files. It is compared by identity, so that no name
// from meshd can be mistaken for it.
const FILES: readonly Candidate[] = [{ value: ':files' }]
// The default timeout of one request. The user waits this long only when meshd hangs; otherwise it answers within
// milliseconds.
const TIMEOUT_MS = 500

/**
 * Returns the candidates. In this order the last word is the value of a flag, a flag, the name of a command, or an
 * argument of the command before it.
 */
async function complete(program: Command, given: readonly string[]): Promise<readonly Candidate[]> {
  const { words, current, prefix } = split(given)
  const place = walk(program, words)
  if (prefix !== '' || isPending(place, current)) {
    const flag = prefix === '' ? place.pending : findOption(place, prefix.slice(0, -1))
    return matching(await valuesOfOption(flag, place), current, prefix)
  }
  if (current.startsWith('-')) return matching(flags(place), current)
  if (hasCommands(place)) return matching(commands(place.command), current)
  return matching(await valuesOfArgument(place), current)
}

// What the words before the last one mean.
interface Place {
  /** The command that was named, or the program itself while none is. */
  readonly command: Command
  readonly program: Command
  /** The option whose value the last word may be; undefined when the last option before it has its value or takes none. */
  readonly pending: Option | undefined
  /** The number of arguments of the command so far. */
  readonly positionals: number
  /** The value of --socket in these words, or its default. Names come from the meshd that listens there. */
  readonly socket: string
  /** The longest wait for one answer of meshd, in ms. */
  readonly timeoutMs: number
}

/**
 * Splits the last word "--flag=val" into the prefix "--flag=" and the value, since candidates replace the whole word.
 * bash gives three words instead, --flag, = and val, because = is in its COMP_WORDBREAKS; there the last word is the
 * value alone.
 */
function split(given: readonly string[]): { words: string[]; current: string; prefix: string } {
  const words = [...given]
  let current = words.pop() ?? ''
  if (current === '=') current = ''
  const [, prefix, value] = /^(--[a-z-]+=)(.*)$/s.exec(current) ?? []
  return { words, current: value ?? current, prefix: prefix ?? '' }
}

/** Reads the words before the last one in their order. The words "=" of bash carry no information and are skipped. */
function walk(program: Command, words: readonly string[]): Place {
  const { socket, timeout } = program.opts<{ readonly socket: string; readonly timeout?: number }>()
  let place: Place = {
    command: program,
    program,
    pending: undefined,
    positionals: 0,
    socket,
    timeoutMs: timeout === undefined ? TIMEOUT_MS : timeout * 1000
  }
  for (const word of words.filter((word) => word !== '=')) place = step(place, word)
  return place
}

/** Returns the place after one more word. An unknown option counts as one without a value. */
function step(place: Place, word: string): Place {
  if (isPending(place, word)) {
    const socket = place.pending?.long === '--socket' ? word : place.socket
    return { ...place, pending: undefined, socket }
  }
  if (word.startsWith('-')) {
    const [name, value] = word.split('=', 2)
    const option = findOption(place, name ?? '')
    if (option?.long === '--socket' && value !== undefined) return { ...place, socket: value }
    return { ...place, pending: option?.isBoolean() === false && value === undefined ? option : undefined }
  }
  const next = place.positionals === 0 ? named(place.command, word) : undefined
  return next === undefined ? { ...place, positionals: place.positionals + 1 } : { ...place, command: next }
}

/** Whether a word is the value of the option before it. One whose value may be left out takes no flag for it. */
function isPending({ pending }: Place, word: string): boolean {
  return pending !== undefined && !(pending.optional && word.startsWith('-'))
}

/** A command of this name below the given one: `invite` and `list` of "invite list". */
function named(parent: Command, word: string): Command | undefined {
  return parent.commands.find((command) => command.name() === word)
}

/** Whether the next word can be the name of a command. */
function hasCommands({ command, program, positionals }: Place): boolean {
  return command === program || (command.commands.length > 0 && positionals === 0)
}

/** Finds an option by its long or short form. Options of the command come first, as commander has it. */
function findOption({ command, program }: Place, name: string): Option | undefined {
  return [...optionsOf(command), ...program.options].find(
    (option) => option.long === name || option.short === name
  )
}

/** The options of a command; of one that has commands below it, also theirs, since one of them may be left out. */
function optionsOf(command: Command): readonly Option[] {
  return [...command.options, ...command.commands.flatMap((below) => below.options)]
}

function commands(parent: Command): Candidate[] {
  const visible = parent.createHelp().visibleCommands(parent)
  return visible.map((command) => ({
    value: command.name(),
    help: command.summary() || command.description()
  }))
}

/** The visible flags of the command and the global ones, each once. */
function flags({ command, program }: Place): Candidate[] {
  const help = program.createHelp()
  const options = [
    ...help.visibleOptions(command),
    ...(command === program ? [] : command.commands.flatMap((below) => help.visibleOptions(below))),
    ...(command === program ? [] : help.visibleOptions(program))
  ]
  const known = new Map(options.map((option) => [option.long ?? '', option.description]))
  return [...known].map(([value, help]) => ({ value, help }))
}

/** The candidates for the value of an option; [] when its values are not known, such as those of --timeout. */
async function valuesOfOption(option: Option | undefined, place: Place): Promise<readonly Candidate[]> {
  if (option?.argChoices !== undefined) return option.argChoices.map((value) => ({ value }))
  switch (option?.long ?? '') {
    case '--socket':
    case '--token-file':
    case '--passphrase-file':
    case '--kubeconfig':
      return FILES
    case '--type':
      return RECORD_TYPES.map((value) => ({ value }))
    case '--bootstrap':
    case '--replace':
    case '--cluster':
      // `init` gives a new name, so the names of other clusters would mislead.
      return place.command.name() === 'init' ? [] : names(place, clusterNames)
    case '--namespace':
      return names(place, namespaces)
    default:
      return []
  }
}

/** The candidates for an argument: choices that commander knows, topics of `help`, or names for `dns`, `why`, `ping` and `verify`. */
async function valuesOfArgument(place: Place): Promise<readonly Candidate[]> {
  if (place.command.name() === 'help') return commands(place.program)
  const argument: Argument | undefined = place.command.registeredArguments[place.positionals]
  if (argument?.argChoices !== undefined) return argument.argChoices.map((value) => ({ value }))
  if (argument?.name() === 'file') return FILES
  if (['ping', 'verify'].includes(place.command.name()) && argument !== undefined)
    return names(place, otherClusterNames)
  return ['dns', 'why'].includes(place.command.name()) && argument !== undefined ? names(place, dnsNames) : []
}

/**
 * Asks meshd for names, and returns them sorted and each once; [] when meshd does not answer or has refused the
 * request.
 */
async function names(place: Place, ask: (client: Client) => Promise<string[]>): Promise<Candidate[]> {
  try {
    const found = await ask(
      createClient({ socket: place.socket, timeoutMs: place.timeoutMs, progress: false })
    )
    return [...new Set(found)].sort().map((value) => ({ value }))
  } catch (error) {
    if (error instanceof CliError) return [] // without an agent there are no names, and the shell shows nothing
    throw error
  }
}

async function clusterNames(client: Client): Promise<string[]> {
  const { peers } = await client.request(ENDPOINTS.peers, { field: 'peers', doing: '' })
  return peers.map((peer) => peer.cluster)
}

/** Without the cluster of this agent, to which there is no tunnel. */
async function otherClusterNames(client: Client): Promise<string[]> {
  const { peers } = await client.request(ENDPOINTS.peers, { field: 'peers', doing: '' })
  const own = peers.find(({ state }) => state === 'self')?.cluster
  return peers.map(({ cluster }) => cluster).filter((cluster) => cluster !== own)
}

async function namespaces(client: Client): Promise<string[]> {
  const { services } = await client.request(ENDPOINTS.services, {
    field: 'services',
    doing: ''
  })
  return services.map((service) => service.namespace)
}

/** The names of all services and of all zones, in two requests. */
async function dnsNames(client: Client): Promise<string[]> {
  const { services } = await client.request(ENDPOINTS.services, {
    field: 'services',
    doing: ''
  })
  const { zones } = await client.request(ENDPOINTS.dns, { field: 'zones', doing: '' })
  return [...services.map((service) => service.dnsName), ...(zones ?? []).map((zone) => zone.zone)]
}

/**
 * Returns the candidates that begin with the current word, with the prefix of split() in front. Values and descriptions
 * are cleaned: a line break in a name of another cluster would be read as one more candidate.
 */
function matching(candidates: readonly Candidate[], current: string, prefix = ''): Candidate[] {
  if (candidates === FILES) return [...FILES]
  return candidates
    .filter(({ value }) => value.startsWith(current))
    .map(({ value, help }) => ({
      value: prefix + clean(value),
      help: help === undefined ? help : clean(help)
    }))
}
