// `meshctl invite` makes a token with which one new cluster can join; with --gateway, one for one more gateway of the own
// cluster (invite-gateway.ts). meshd signs the name, the prefixes and the dates
// into it, so the new cluster cannot choose others. The token alone goes to stdout, so that it can be piped into
// `meshctl join` or a file. It works on an agent with the seat of an administrator; others answer NO_SEAT. The request is
// POST /v1/invite. `invite list` and `invite cancel` are about the invites that this agent has made.
//
// An invite is no statement of the trust set until a member has let a cluster in by it: members learn it from the token. So
// only the agent that made it knows that it is open, and reserves its prefixes.
import type { Command } from 'commander'
import type { InviteAnswer } from '../../api/membership-answers.ts'
import type { InviteRow } from '../../api/trust-answers.ts'
import { realPrefixFields, withRealPrefixes, type RealPrefixOptions } from '../meshd/real-prefixes.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import type { Sent } from '../../api/requests.ts'
import { collect, parseClusterName, parsePrefix, parseSeconds, quote } from '../meshd/arguments.ts'
import { addExamples, contextOf, print, type Context, type Rendered } from '../meshd/context.ts'
import { badArgument } from '../output/errors.ts'
import { renderStatement } from '../meshd/statement.ts'
import { formatFields, formatTable } from '../output/table.ts'
import { formatDuration, formatTime } from '../output/units.ts'
import { cancelGateways, inviteGateway } from './invite-gateway.ts'
import { fetchPart } from './trust.ts'

/** The flags of `invite create`. */
interface Options extends Omit<RealPrefixOptions, 'translate'> {
  readonly podCidr?: readonly string[]
  readonly serviceCidr?: readonly string[]
  /** Namespaces that the cluster may export; without them all. */
  readonly namespace?: readonly string[]
  /** "24h" by default: a day is enough to set up a gateway, and ends a token that was forgotten in a chat or a file. */
  readonly expires: string
  /** Names of clusters; the token has at most 6 addresses in all. */
  readonly bootstrap?: readonly string[]
  /** True without a name: the cluster that has the invited name. */
  readonly replace?: string | true
  readonly force?: boolean
  /** One more gateway of the own cluster, in place of a new cluster. */
  readonly gateway?: boolean
}

// The limit of meshd for ttlSeconds (src/api/requests.ts), a leap year. It is checked here, too, because the error
// names the flag.
const SECONDS_MAX = 366 * 86_400

/**
 * Adds the command `invite`. Empty lists in the request leave the choice of prefixes and of bootstrap clusters to
 * meshd.
 */
export function addInvite(program: Command): void {
  const invite = program
    .command('invite')
    .summary('make a token with which one new cluster, or one more gateway, can join')
    .description(
      'Makes, lists and takes back invites. `meshctl invite <cluster>` is short for `meshctl invite create <cluster>`: ' +
        '`meshctl invite create --help` has its flags, such as --pod-cidr, --expires and --replace.'
    )
    .usage('[create] <cluster>|--gateway | list | cancel <cluster>|--gateway')
  addCreate(invite)
  addList(invite)
  addCancel(invite)
  addExamples(invite, [
    ['A token for cluster east', 'meshctl invite east'],
    ['A token for one more gateway of this cluster', 'meshctl invite --gateway'],
    ['Invites that can still be used', 'meshctl invite list'],
    ['Take one back', 'meshctl invite cancel east']
  ])
}

/**
 * `invite list` shows the invites of this agent; other administrators keep their own. STATE is open, used (a member has let
 * a cluster in), cancelled (its seat fell, or this agent was killed while it cancelled the invite) or expired. PREFIXES are those that the invite
 * reserves, REPLACES the cluster whose place the invited one takes. FOR is a new cluster, or one more gateway of the own
 * cluster, and then USED BY names the agent that has used the token. A token itself is not shown, because no agent keeps it.
 */
function addList(invite: Command): void {
  const command = invite
    .command('list')
    .summary('the invites that this agent has made')
    .description(
      'Lists the invites of this agent that no cluster of that name has used yet, and those of further gateways of its ' +
        'cluster, with the PeerId of the agent that has used each. `meshctl invite cancel` takes an invite off the list. ' +
        'The state of an invite is cancelled when the seat that signed it was removed. An invite that shows as expired ' +
        'may still be used for 5 minutes, in which members tolerate that clocks differ.'
    )
    .action(async () => {
      const context = contextOf(command, { hasTable: true })
      print(context, await fetchPart(context, 'invites'), ({ invites }) =>
        context.format === 'name'
          ? { body: invites.map(({ cluster }) => cluster).join('\n') }
          : {
              body: formatTable<InviteRow>(
                invites,
                [
                  { title: 'CLUSTER', value: (row) => row.cluster },
                  { title: 'FOR', value: (row) => (row.gateway === undefined ? 'cluster' : 'gateway') },
                  { title: 'STATE', value: (row) => row.state },
                  { title: 'EXPIRES', value: (row) => formatTime(row.expires) },
                  { title: 'REPLACES', value: (row) => row.replaces ?? '-' },
                  { title: 'PREFIXES', value: (row) => row.cidrs.join(',') || '-', fold: 0 },
                  { title: 'USED BY', value: (row) => row.gateway?.usedBy ?? '-' }
                ],
                context
              )
            }
      )
    })
  addExamples(command, [['Invites that can still be used', 'meshctl invite list']])
}

/**
 * `invite cancel` takes open invites back by a Void, which each member asks before it lets a cluster in. Their prefixes are
 * free at once. Errors of meshd: NO_INVITE when this agent keeps no invite of that cluster, because another agent made it or
 * the cluster has joined; NO_SEAT; NOT_JOINED.
 */
function addCancel(invite: Command): void {
  const command = invite
    .command('cancel')
    .summary('take the open invite of a cluster back')
    .description(
      'Takes the invite back: no member lets a cluster in with its token any more. A cluster that has joined with it stays; ' +
        'end it with `meshctl remove`. With --gateway: takes back all open invites of further gateways that this agent has ' +
        'made. A gateway that has joined stays; end it with `meshctl revoke <PeerId>`.'
    )
    .argument('[cluster]', 'name of the invited cluster')
    .option(
      '--gateway',
      'the open invites of further gateways of this cluster, in place of that of a cluster'
    )
    .action(async (cluster: string | undefined, options: { readonly gateway?: boolean }) => {
      const context = contextOf(command)
      if (options.gateway === true) {
        refuseWithGateway({ cluster })
        return cancelGateways(context)
      }
      if (cluster === undefined) throw noCluster('cancel')
      const answer = await context.client.request(ENDPOINTS.cancel, {
        send: { cluster },
        field: 'done',
        doing: 'cancelling the invite'
      })
      print(context, answer, renderStatement)
    })
  addExamples(command, [
    ['A token that went to the wrong person', 'meshctl invite cancel east'],
    ['Tokens of further gateways of this cluster', 'meshctl invite cancel --gateway']
  ])
}

/**
 * `invite create`, the default of `invite`. A second invite of the same cluster takes the open one back. Errors of meshd:
 *   NO_SEAT, SEAT_EXCEEDED: no seat of this agent stands, or none covers the name;
 *   NAME_TAKEN: a member has the name, and --replace is not given;
 *   UNKNOWN_CLUSTER, AMBIGUOUS_CLUSTER: no cluster, or several, bear the name that is to be replaced;
 *   OWN_CLUSTER: it is the cluster of this agent; STILL_ALIVE: its tunnel answers, and --force is not given;
 *   PREFIX_OVERLAP: a member or an open invite has a prefix that overlaps;
 *   PREFIX_HIDES: a prefix contains an address by which a member or this host is reached;
 *   BAD_ARGUMENT: prefixes or span exceed the rights of the seat, or no member can be dialled from outside.
 */
function addCreate(invite: Command): void {
  const command = withFlags(invite.command('create', { isDefault: true }))
    .summary('make a token (the default)')
    .description(
      'Makes a token that lets the named cluster, and no other, join this mesh with the given prefixes. The token ' +
        'goes to stdout, everything else to stderr. It can be used once. Its holder can join under that name until it expires.\n\n' +
        'With --replace it takes the place of a cluster that is a member: its name, or the new one, and its prefixes. ' +
        'When a host joins with the token, the key of the replaced cluster is out on all members at once: tunnel, routes ' +
        'and names of its hosts end, and `meshctl remove` is not needed. Until then nothing changes. Use it when the ' +
        'disk with the key is lost, or when the key was stolen, and join on a host with an empty state folder. It wants --force while the tunnel to the cluster answers.\n\n' +
        'With --gateway, on a site without Kubernetes: makes a token for one more gateway of this cluster. Any gateway of the ' +
        'cluster can make one. The new host gets the key of the cluster from this agent, once, and only this agent can give ' +
        'it, so meshd has to run here until the new host has joined.'
    )
    .action((name: string | undefined, options: Options) => create(contextOf(command), name, options))
  addExamples(command, [
    [
      'A token for cluster east, with the prefixes that it has',
      'meshctl invite east --pod-cidr 10.2.0.0/16 --service-cidr 10.102.0.0/16'
    ],
    [
      'A partner’s cluster, of which only two namespaces are taken',
      'meshctl invite partner --namespace shop,payments'
    ],
    ['A new disk for cluster east, whose key is lost', 'meshctl invite east --replace > east.token'],
    [
      'A new key for cluster east, whose key was stolen',
      'meshctl invite east --replace --force > east.token'
    ],
    [
      'A token for one more gateway of this cluster, valid for an hour',
      '(umask 077; meshctl invite --gateway --expires 1h > gateway.token)'
    ],
    ['Into a file that only you can read', '(umask 077; meshctl invite east > east.token)'],
    [
      'Directly into the new cluster',
      'meshctl invite east --expires 10m | ssh east-gateway sudo meshctl join'
    ]
  ])
}

/** Makes the token of a new cluster, or with --gateway that of one more gateway. */
async function create(context: Context, name: string | undefined, options: Options): Promise<void> {
  if (options.gateway === true) {
    refuseWithGateway({
      cluster: name,
      '--pod-cidr': options.podCidr,
      '--service-cidr': options.serviceCidr,
      '--real-pod-cidr': options.realPodCidr,
      '--real-service-cidr': options.realServiceCidr,
      '--namespace': options.namespace,
      '--bootstrap': options.bootstrap,
      '--replace': options.replace
    })
    return inviteGateway(context, parseExpiry(options.expires))
  }
  if (name === undefined) throw noCluster('create')
  const cluster = parseClusterName('cluster', name)
  const body: Sent['invite'] = {
    cluster,
    podCidrs: options.podCidr ?? [],
    serviceCidrs: options.serviceCidr ?? [],
    ...realPrefixFields(options),
    namespaces: options.namespace ?? [],
    ttlSeconds: parseExpiry(options.expires),
    bootstrap: options.bootstrap ?? [],
    ...replacing(cluster, options)
  }
  const answer = await context.client.request(ENDPOINTS.invite, {
    send: body,
    field: 'token',
    doing: 'making the token'
  })
  // The duration is the one that was asked for: the difference of the clocks' times would read "23h59m".
  print(context, answer, (clean) => renderInvite(clean, body))
}

/** Adds the argument and the flags of `invite create`. */
function withFlags(command: Command): Command {
  const named = command
    .argument('[cluster]', 'name that the new cluster will have')
    .option('--gateway', 'one more gateway of this cluster, in place of a new cluster')
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
  return withRealPrefixes(named, 'a free prefix of the same length is chosen, which stands for it')
    .option(
      '--namespace <name>',
      'namespace that the new cluster may export; repeat the flag or use commas (default: all)',
      collect('--namespace', (_flag, name) => name)
    )
    .option(
      '--bootstrap <cluster>',
      'cluster that the new cluster dials first; repeat the flag or separate names with commas (default: this cluster and others)',
      collect('--bootstrap', parseClusterName)
    )
    .option(
      '--replace [cluster]',
      'take the place of this cluster; without a name, of the one that has the invited name'
    )
    .option('--force', 'with --replace: also when the tunnel to that cluster answers')
    .option(
      '--expires <time>',
      'how long the token may be used, as in 30m, 24h or 7d; members accept it for 5 minutes more, since clocks differ',
      '24h'
    )
}

/** The fields of the request by which the invite replaces a cluster. */
function replacing(
  cluster: string,
  { replace, force = false }: Options
): Pick<Sent['invite'], 'replace' | 'force'> {
  if (replace === undefined) {
    if (force) throw badArgument('--force', 'it is for --replace only', 'leave it out, or add --replace')
    return {}
  }
  return { replace: replace === true ? cluster : parseClusterName('--replace', replace), force }
}

/** What belongs to a new cluster means nothing for a gateway. Errors: CliError BAD_ARGUMENT, which names the field. */
function refuseWithGateway(given: Readonly<Record<string, unknown>>): void {
  const [field] = Object.entries(given).find(([, value]) => value !== undefined) ?? []
  if (field === undefined) return
  throw badArgument(
    field,
    'it belongs to a new cluster, and --gateway is about one more gateway of this cluster',
    'leave one of the two out'
  )
}

function noCluster(command: 'create' | 'cancel'): Error {
  const short = command === 'create' ? 'meshctl invite' : 'meshctl invite cancel'
  return badArgument(
    'cluster',
    'no cluster was named',
    `write \`${short} <cluster>\`, or \`${short} --gateway\``
  )
}

/** Returns the seconds of --expires, from 1 s to 366 days. */
function parseExpiry(text: string): number {
  const seconds = parseSeconds('--expires', text)
  if (seconds <= SECONDS_MAX) return seconds
  throw badArgument('--expires', `${quote(text)} is more than 366 days`, 'use at most 366d')
}

/** Returns the token as the body, and everything else as the note, which goes to stderr. */
function renderInvite(answer: InviteAnswer, request: Sent['invite']): Rendered {
  const { ttlSeconds, realPodCidrs = [], realServiceCidrs = [] } = request
  const flags = [
    ...realPodCidrs.map((cidr) => ` --real-pod-cidr ${cidr}`),
    ...realServiceCidrs.map((cidr) => ` --real-service-cidr ${cidr}`)
  ].join('')
  const fields = formatFields([
    ['Valid until', `${formatTime(answer.expires)} (${formatDuration(ttlSeconds)})`],
    ...(answer.replaces === undefined ? [] : [['Replaces', answer.replaces] as const]),
    ['Pods', answer.podCidrs.join(', ') || 'none'],
    ['Services', answer.serviceCidrs.join(', ') || 'none'],
    ['Bootstrap', answer.bootstrap.join(', ') || 'none'],
    ...(answer.takesBack ?? []).map(({ cluster, made }): [string, string] => [
      'Takes back',
      `the open invite of ${cluster} made at ${formatTime(made)}: its token lets no cluster in any more`
    ]),
    ...(answer.warnings ?? []).map((warning): [string, string] => ['Warning', warning])
  ])
  const host =
    answer.replaces === undefined
      ? `a gateway host of ${answer.cluster}`
      : 'a host with an empty state folder'
  return {
    body: answer.token,
    note: `\nToken for cluster ${answer.cluster}. Keep it secret, like a password.\n\n${fields}

On ${host}, with meshd running:
  meshctl join --token-file <file>${flags}     (or give it on stdin)`
  }
}
