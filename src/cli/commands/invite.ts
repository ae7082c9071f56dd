// `meshctl invite` makes a token with which one new cluster can join. meshd signs the name, the prefixes and the dates
// into it, so the new cluster cannot choose others. The token alone goes to stdout, so that it can be piped into
// `meshctl join` or a file. It works on the agent with the root key of the mesh; others answer NO_ROOT_KEY. The request
// is POST /v1/invite.
import type { Command } from 'commander'
import type { InviteAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import type { InviteRequest } from '../../api/requests.ts'
import { collect, parseClusterName, parsePrefix, parseSeconds, quote } from '../meshd/arguments.ts'
import { addExamples, contextOf, print, type Rendered } from '../meshd/context.ts'
import { badArgument } from '../output/errors.ts'
import { formatFields } from '../output/table.ts'
import { formatDuration, formatTime } from '../output/units.ts'

interface Options {
  readonly podCidr?: readonly string[]
  readonly serviceCidr?: readonly string[]
  readonly expires: string
  readonly bootstrap?: readonly string[]
}

// The limit of meshd for ttlSeconds (src/api/requests.ts), a leap year. It is checked here, too, because the error
// names the flag.
const SECONDS_MAX = 366 * 86_400

/**
 * Adds the command `invite`. Empty lists in the request leave the choice of prefixes and of bootstrap clusters to
 * meshd.
 */
export function addInvite(program: Command): void {
  const command = program
    .command('invite')
    .summary('make a token with which one new cluster can join')
    .description(
      'Makes a token that lets the named cluster, and no other, join this mesh with the given prefixes. The token ' +
        'goes to stdout, everything else to stderr. Anyone with the token can join under that name until it expires.'
    )
    .argument('<cluster>', 'name that the new cluster will have')
    .option(
      '--pod-cidr <prefix>',
      'pod prefix of the new cluster; repeat the flag or separate prefixes with commas (default: the next free prefix)',
      collect('--pod-cidr', parsePrefix)
    )
    .option(
      '--service-cidr <prefix>',
      'service prefix of the new cluster; given like the pod prefix (default: the next free prefix)',
      collect('--service-cidr', parsePrefix)
    )
    .option(
      '--bootstrap <cluster>',
      'cluster that the new cluster dials first; repeat the flag or separate names with commas (default: this cluster and others)',
      collect('--bootstrap', parseClusterName)
    )
    .option('--expires <time>', 'how long the token may be used, as in 30m, 24h or 7d', '24h')
    .action(async (name: string, options: Options) => {
      const context = contextOf(command)
      const body: InviteRequest = {
        cluster: parseClusterName('cluster', name),
        podCidrs: options.podCidr ?? [],
        serviceCidrs: options.serviceCidr ?? [],
        ttlSeconds: parseExpiry(options.expires),
        bootstrap: options.bootstrap ?? []
      }
      const answer = await context.client.request(ENDPOINTS.invite, {
        send: body,
        field: 'token',
        doing: 'making the token'
      })
      // The duration is the one that was asked for: the difference of the clocks' times would read "23h59m".
      print(context, answer, (clean) => renderInvite(clean, body.ttlSeconds))
    })
  addExamples(command, [
    [
      'A token for cluster east, with the prefixes that it has',
      'meshctl invite east --pod-cidr 10.2.0.0/16 --service-cidr 10.102.0.0/16'
    ],
    ['Into a file that only you can read', '(umask 077; meshctl invite east > east.token)'],
    [
      'Directly into the new cluster',
      'meshctl invite east --expires 10m | ssh east-gateway sudo meshctl join'
    ]
  ])
}

/** Returns the seconds of --expires, from 1 s to 366 days. */
function parseExpiry(text: string): number {
  const seconds = parseSeconds('--expires', text)
  if (seconds <= SECONDS_MAX) return seconds
  throw badArgument('--expires', `${quote(text)} is more than 366 days`, 'use at most 366d')
}

/** Returns the token as the body, and everything else as the note, which goes to stderr. */
function renderInvite(answer: InviteAnswer, ttlSeconds: number): Rendered {
  const fields = formatFields([
    ['Valid until', `${formatTime(answer.expires)} (${formatDuration(ttlSeconds)})`],
    ['Pods', answer.podCidrs.join(', ') || 'none'],
    ['Services', answer.serviceCidrs.join(', ') || 'none'],
    ['Bootstrap', answer.bootstrap.join(', ') || 'none'],
    ...(answer.warnings ?? []).map((warning): [string, string] => ['Warning', warning])
  ])
  return {
    body: answer.token,
    note: `\nToken for cluster ${answer.cluster}. Keep it secret, like a password.\n\n${fields}

On a gateway host of ${answer.cluster}, with meshd running:
  meshctl join --token-file <file>     (or give it on stdin)`
  }
}
