// `meshctl leave` takes this cluster out of the mesh, after the user has confirmed it. meshd withdraws its records, so
// that the others forget it at once, cleans the host and deletes the membership. The request is POST /v1/leave.
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import type { LeftAnswer } from '../../api/membership-answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print, type Context } from '../meshd/context.ts'
import { badArgument, CliError } from '../output/errors.ts'
import { cleanDeep } from '../output/text.ts'

/** The flags of the command. */
interface Options {
  readonly yes?: boolean
  /** Also when the mesh has no other seat, and its root keys are in no file: nothing can be invited or removed later. */
  readonly force?: boolean
}

// Milliseconds. meshd answers after it has withdrawn the records and cleaned the host.
const TIMEOUT_MS = 60_000

/** Adds the command `leave`. Errors of meshd: NOT_JOINED (exit code 4), LAST_SEAT, ALREADY_CHANGING, LEAVE_UNFINISHED. */
export function addLeave(program: Command): void {
  const command = program
    .command('leave')
    .summary('take this cluster out of the mesh and clean this host')
    .description(
      'Withdraws the services of this cluster in all others, removes tunnel, routes and load balancer from this ' +
        'host, and forgets the mesh. To join again, this cluster needs a new token: ' +
        'the mesh keeps a statement that this one has left. ' +
        'When a step fails, repeat the command: it continues with what is not done. ' +
        'Before this cluster has joined, the command discards the token that no member has answered. ' +
        'It asks for confirmation, unless --yes is given.'
    )
    .option('-y, --yes', 'do not ask')
    .option('--force', 'also when this agent has the only administrator’s seat of the mesh')
    .action(async (options: Options) => {
      const context = contextOf(command)
      if (options.yes !== true) await confirm(context)
      const answer = await context.client.request(ENDPOINTS.leave, {
        send: { force: options.force === true },
        field: 'cluster',
        doing: 'leaving the mesh',
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, (clean) => ({
        body:
          clean.pending === true
            ? `The token of cluster ${clean.cluster}, which no member had answered, is discarded.`
            : `Cluster ${clean.cluster} has left the mesh.`,
        note: notes(clean)
      }))
    })
  addExamples(command, [
    ['Leave, after a confirmation', 'meshctl leave'],
    ['In a script', 'meshctl leave --yes']
  ])
}

/**
 * The lines on stderr after a leave: what an administrator has to say where no member could be told, for which agents the
 * cluster stays in the mesh, and how this agent joins again. Each names the command to run.
 */
function notes({
  cluster,
  repair,
  endedMesh,
  keptFor = []
}: Pick<LeftAnswer, 'cluster' | 'repair' | 'endedMesh' | 'keptFor'>): string {
  if (endedMesh === true)
    return 'It was the last cluster, so the mesh has ended. To make a new one: run meshctl init here, or meshctl join with a token of another mesh'
  const again =
    'To join again: run meshctl join here, with a new token (meshctl invite on an administrator’s agent makes one)'
  const untold =
    repair === undefined
      ? []
      : [
          `No other member could be told. Run ${repair} on an administrator’s agent; until then the mesh counts this one as a member.`
        ]
  const kept =
    keptFor.length === 0
      ? []
      : [
          `Only this agent has left. The cluster stays in the mesh for ${keptFor.join(', ')}, which ${keptFor.length === 1 ? 'has' : 'have'} its key and may still run. If that is over: run meshctl remove ${cluster} on an administrator’s agent`
        ]
  return [...untold, ...kept, again].join('\n')
}

/**
 * Asks the user, and returns when the reply is yes. Errors: CliError BAD_ARGUMENT when stdin or stderr is no terminal,
 * since a script must say --yes; INTERRUPTED (exit code 130) for another reply, Ctrl-C or the end of stdin.
 */
async function confirm(context: Context): Promise<void> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw badArgument('leave', 'there is no terminal to ask on', 'add --yes when you are sure')
  }
  const status = cleanDeep(
    await context.client.request(ENDPOINTS.status, {
      field: 'state',
      doing: 'reading the status'
    })
  )
  // There is nothing to confirm, and meshd refuses the request with its own code.
  if (status.state === 'unjoined') return
  const question =
    `Cluster ${status.cluster ?? ''} leaves the mesh: no other cluster reaches its services any more, ` +
    'and to join again it needs a new token.\nLeave? [y/N] '
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  const interrupted = new AbortController()
  // `question` stays pending for ever when stdin ends, so both events end it.
  lines.once('SIGINT', () => interrupted.abort())
  lines.once('close', () => interrupted.abort())
  try {
    const reply = await lines.question(question, { signal: interrupted.signal })
    if (/^y(es)?$/i.test(reply.trim())) return
  } catch (error) {
    process.stderr.write('\n')
    throw new CliError('INTERRUPTED', 'nothing was changed', undefined, { cause: error })
  } finally {
    lines.close()
  }
  throw new CliError('INTERRUPTED', 'not confirmed: nothing was changed')
}
