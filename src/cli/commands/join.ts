// `meshctl join` makes this cluster a member of a mesh, with a token from `meshctl invite`. The answer comes when a
// member has accepted the cluster. The request is POST /v1/join; meshd checks the token and dials the members that it
// names.
import type { Command } from 'commander'
import type { JoinedAnswer } from '../../api/membership-answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import type { JoinRequest } from '../../api/requests.ts'
import { realPrefixFields, withTranslation, type RealPrefixOptions } from '../meshd/real-prefixes.ts'
import { addExamples, contextOf, isData, print, type Rendered } from '../meshd/context.ts'
import { renderJoined } from './joined.ts'
import { readToken, warnOfArgument } from '../meshd/token.ts'

interface Options extends RealPrefixOptions {
  readonly tokenFile?: string
}

// meshd reads the cluster's key and prefixes from the Kubernetes API, if there is one, and then waits 20 s for a member
// (JOIN_DEADLINE_MS in app/enrolment). This time is longer, so that meshd's error UNREACHABLE, which names the
// addresses, comes first.
const TIMEOUT_MS = 60_000

/**
 * Adds the command `join`. To join again with the token of this membership succeeds and changes nothing. Errors of
 * meshd: TOKEN_* for a bad token, MESH_* for a refusal by a member, PREFIX_MISMATCH, CLUSTER_KEY_*, ALREADY_JOINED;
 * UNREACHABLE (exit code 6) when no member answers within 20 s, after which the same command may be repeated.
 */
export function addJoin(program: Command): void {
  const command = program
    .command('join')
    .summary('enter a mesh with a token')
    .description(
      'Enters the mesh that the token names. The answer comes when a member has accepted this cluster. When a ' +
        'member refuses it, nothing is kept. When no member answers within 20 s, the token is kept, and the command ' +
        'can be repeated: another token replaces it, and `meshctl leave` discards it.\n\n' +
        'With a token of `meshctl invite --gateway` this host becomes one more gateway of the cluster that made it: it gets ' +
        'the key of the cluster from the gateway that made the token, which has to run.\n\n' +
        'The token is taken from the first of: the argument, --token-file, RHIZOME_TOKEN, stdin. An argument is ' +
        'visible in the process list and in the history of the shell: prefer the others.'
    )
    .argument('[token]', 'token from `meshctl invite`; - reads it from stdin')
    .option('--token-file <file>', 'file that holds the token; - reads it from stdin')
    .action(async (argument: string | undefined, options: Options) => {
      const context = contextOf(command)
      if (argument !== undefined && argument !== '-' && !isData(context.format)) warnOfArgument()
      const token = await readToken(argument, options.tokenFile)
      const body: JoinRequest = { token, ...realPrefixFields(options) }
      const answer = await context.client.request(ENDPOINTS.join, {
        send: body,
        field: 'meshId',
        doing: 'waiting for a member of the mesh to accept this cluster',
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, renderJoin)
    })
  withTranslation(command)
  addExamples(command, [
    ['From a file', 'meshctl join --token-file east.token'],
    ['One more gateway of a site', 'meshctl join --token-file gateway.token'],
    ['From another host', 'ssh west-gateway sudo meshctl invite east | sudo meshctl join'],
    [
      'Where another cluster has the same addresses',
      'meshctl join --token-file east.token --real-pod-cidr 10.1.0.0/16 --real-service-cidr 10.101.0.0/16'
    ],
    ['In a container', 'RHIZOME_TOKEN=… meshctl join']
  ])
}

/** The page of a join. Warnings go to stderr as notes: they are about this host, and not about the membership. */
function renderJoin({ warnings = [], ...joined }: JoinedAnswer): Rendered {
  const next = '\nNext: meshctl peers --watch shows the tunnels come up, meshctl services what can be reached'
  const notes = warnings.map((warning) => `note: ${warning}`)
  return renderJoined(joined, headline(joined), [...notes, next].join('\n'))
}

/** The first line of the page. */
function headline({ cluster, already, gateway }: Omit<JoinedAnswer, 'warnings'>): string {
  if (already === true) return `Cluster ${cluster} joined with this token before; nothing was changed.`
  return gateway === true
    ? `This host is one more gateway of cluster ${cluster}.`
    : `Cluster ${cluster} has joined.`
}
