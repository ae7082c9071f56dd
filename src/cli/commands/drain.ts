// `meshctl drain` and `meshctl undrain`: before maintenance, the other gateways of this cluster take over the traffic of this
// gateway, and afterwards it takes it back (docs/decisions/0075). The requests are POST /v1/drain and POST /v1/undrain, and
// GET /v1/hand-over while the command waits.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import type { HandOverAnswer, MoveRow } from '../../api/hand-over-answer.ts'
import { addExamples, contextOf, print, type Context, type Rendered } from '../meshd/context.ts'
import { CliError } from '../output/errors.ts'
import { clean } from '../output/text.ts'
import { showProgress } from '../output/progress.ts'
import { formatDuration } from '../output/units.ts'

/** The flags of `drain`. */
interface Options {
  /** Also when no other gateway of the cluster lives. */
  readonly force?: boolean
  /** False with --no-wait: the command returns once the hand-over is announced. */
  readonly wait: boolean
}

/** The longest wait without --timeout. A host moves within a second, and within some seconds when it is busy. */
const WAIT_SECONDS = 30
/** Milliseconds between two requests while the command waits: as long as between two probes of a host. */
const LOOK_MS = 200
/** A message names so many hosts; `--no-wait -o json` has all. */
const NAMED_MAX = 5

/**
 * Adds the command `drain`. Errors of meshd: NOT_JOINED (exit code 4); ONLY_GATEWAY and NOT_A_GATEWAY (5). NOT_ALL_MOVED (6)
 * when a host has not moved in time.
 */
export function addDrain(program: Command): void {
  const command = program
    .command('drain')
    .summary('hand the traffic of this gateway over to the others of its cluster')
    .description(
      'Announces that this gateway hands over: the other clusters and the nodes of this cluster move their traffic to the ' +
        'other gateways of this cluster. Open connections go on. The command returns when all hosts that have a tunnel to this ' +
        `gateway have moved, or with exit code 6 after ${WAIT_SECONDS} s, or the time of --timeout. What still comes is forwarded. ` +
        'Traffic of the pods on this host stays with it. ' +
        'The gateway stays drained, also after a restart, until `meshctl undrain`. ' +
        'Without another gateway that lives the command is refused.'
    )
    .option(
      '--force',
      'also when no other gateway of this cluster lives: it is announced, and nothing moves yet'
    )
    .option('--no-wait', 'return at once; the answer of -o json says who has moved')
    .action(async (options: Options) => {
      const context = contextOf(command)
      const first = await context.client.request(ENDPOINTS.drain, {
        send: { force: options.force === true },
        field: 'state',
        doing: 'announcing the hand-over'
      })
      const answer = options.wait && first.takers.length > 0 ? await waitUntilMoved(context, first) : first
      print(context, answer, renderDrained)
    })
  addExamples(command, [
    ['Before maintenance of this host', 'meshctl drain'],
    [
      'Who has not moved yet?',
      `meshctl drain --no-wait -o json | jq '.hosts[] | select(.state == "waiting")'`
    ],
    ['Afterwards', 'meshctl undrain']
  ])
}

/** Adds the command `undrain`. Errors of meshd: NOT_JOINED (exit code 4), NOT_A_GATEWAY (5). */
export function addUndrain(program: Command): void {
  const command = program
    .command('undrain')
    .summary('take the traffic back after meshctl drain')
    .description(
      'Ends what `meshctl drain` has begun: the other clusters and the nodes of this cluster use this gateway as before. ' +
        'On a gateway that is not drained it changes nothing.'
    )
    .action(async () => {
      const context = contextOf(command)
      const answer = await context.client.request(ENDPOINTS.undrain, {
        send: {},
        field: 'state',
        doing: 'taking the traffic back'
      })
      print(context, answer, ({ node, cluster }) => ({
        body: `Gateway ${node} of cluster ${cluster} carries traffic again.`
      }))
    })
  addExamples(command, [['After maintenance of this host', 'meshctl undrain']])
}

/**
 * Asks meshd until all hosts have moved. A drain that is taken back meanwhile, and the end of the last other gateway, end the
 * wait, too. Errors: CliError NOT_ALL_MOVED, and those of the requests.
 */
async function waitUntilMoved(context: Context, first: HandOverAnswer): Promise<HandOverAnswer> {
  const waitMs = context.timeoutMs ?? WAIT_SECONDS * 1000
  const deadlineMs = performance.now() + waitMs
  const done = ['json', 'yaml'].includes(context.format)
    ? () => undefined
    : showProgress('waiting until all hosts have moved', waitMs)
  try {
    for (let answer = first; ;) {
      if (answer.moved) return answer
      if (answer.state !== 'drained' || answer.takers.length === 0) throw notAllMoved(answer, 'Meanwhile')
      if (performance.now() >= deadlineMs) throw notAllMoved(answer, `After ${formatDuration(waitMs / 1000)}`)
      await sleep(LOOK_MS)
      answer = await context.client.request(ENDPOINTS.handOver, {
        field: 'state',
        doing: 'reading who has moved'
      })
    }
  } finally {
    done()
  }
}

/**
 * Returns the error of a wait that has failed. `when` begins its message. The gateway stays drained in all cases, because the
 * hosts that have moved would otherwise move twice.
 */
function notAllMoved({ state, cluster, takers, hosts }: HandOverAnswer, when: string): CliError {
  const stays = 'The gateway stays drained; `meshctl undrain` takes the traffic back'
  if (state !== 'drained')
    return new CliError('NOT_ALL_MOVED', `${when} the drain was taken back`, 'run `meshctl drain` again')
  if (takers.length === 0)
    return new CliError(
      'NOT_ALL_MOVED',
      `${when} the other gateways of cluster ${clean(cluster)} have ended or hand over, too: nothing else can carry the traffic`,
      `start another gateway. ${stays}`
    )
  const waiting = hosts.filter((host) => host.state === 'waiting')
  const untold = hosts.filter((host) => host.state === 'untold')
  const parts = [
    ...(waiting.length === 0 ? [] : [`${named(waiting)} have not said that they have moved`]),
    ...(untold.length === 0
      ? []
      : [`${named(untold)} cannot say so, because they send no probes (probe-port 0)`])
  ]
  return new CliError(
    'NOT_ALL_MOVED',
    `${when}, ${parts.join('; ')}`,
    `run \`meshctl peers\` there: a host moves when its tunnel to another gateway of this cluster is up, and its version must know drained gateways. ${stays}`
  )
}

/** Cluster, name and version of each host: an old version is the most frequent cause. */
function named(hosts: readonly MoveRow[]): string {
  const names = hosts
    .slice(0, NAMED_MAX)
    .map(({ cluster, node, version }) => `${clean(cluster)} ${clean(node)} (${clean(version)})`)
  const more = hosts.length - names.length
  return `${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

/** The result of `drain`, also with --no-wait and --force, where not all hosts have moved. */
function renderDrained({ node, cluster, takers, hosts, moved }: Omit<HandOverAnswer, 'warnings'>): Rendered {
  if (takers.length === 0)
    return {
      body: `Gateway ${node} of cluster ${cluster} is drained, but no other gateway lives: it carries the traffic until one does.`
    }
  const body = `Gateway ${node} of cluster ${cluster} is drained: ${takers.join(', ')} ${takers.length === 1 ? 'carries' : 'carry'} its traffic.`
  const away = hosts.filter(({ state }) => state === 'away').length
  const notes = [
    ...(moved ? [] : ['Not all hosts have moved yet.']),
    ...(away === 0 ? [] : [`${away} of ${hosts.length} hosts do not answer through their tunnels now.`])
  ]
  return notes.length === 0 ? { body } : { body, note: notes.join('\n') }
}
