// `meshctl key rotate` gives this agent a new key of WireGuard, and with --cluster the cluster a new key (below). The request is POST /v1/key/rotate. No administrator takes
// part: the new key is proved by a signature in the record of the agent (docs/trust.md, "Keys"), so the trust set does not
// change, and the keys of the agent, its cluster and its seats stay as they are.
import { Argument, type Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import type { ClusterKeyRotatedAnswer } from '../../api/membership-answers.ts'
import { addExamples, contextOf, print, type Rendered } from '../meshd/context.ts'
import { readToken } from '../meshd/token.ts'
import { badArgument } from '../output/errors.ts'

/** The flags of the command; the others belong to --cluster. */
interface Options {
  readonly cluster?: boolean
  readonly tokenFile?: string
  readonly keep?: readonly string[]
  readonly force?: boolean
}

// Milliseconds. meshd waits up to 20 s for the device, and then answers that the key is pending; the rest is for the disk.
const TIMEOUT_MS = 40_000

/**
 * Adds the command `key`. The answer has the new key and the one before in base64, as `wg show` prints them, and `pending`
 * while the device has not taken the new one. Errors of meshd: NOT_JOINED (exit code 4); KEY_CHANGING while an earlier
 * rotation is pending; NO_MEMBER when other clusters are known and none is connected: none would hear of the new key, so all
 * tunnels of this gateway would end.
 */
export function addKey(program: Command): void {
  const command = program
    .command('key')
    .addArgument(new Argument('<action>', 'rotate: make a new tunnel key').choices(['rotate']))
    .summary('change the tunnel key of this gateway')
    .description(
      'Makes a new WireGuard key for this gateway. The other clusters take it over by themselves. ' +
        'Each tunnel of this gateway needs one new handshake. What this gateway sends meanwhile, up to 2 s on a busy host, ' +
        'waits in WireGuard: up to 128 packets for each peer. So slow flows lose no packet, and fast ones lose those above 128. ' +
        'What it receives is not affected. ' +
        'A member that has no control connection at that time gets no packets of this gateway until it is connected again. ' +
        'PeerId, certificates and names stay as they are.\n\n' +
        'With --cluster the key of the cluster is replaced in its place: name, prefixes and tunnels stay, and the old key is out on ' +
        'every member that hears of it. A seat of this agent that covers the name of the cluster signs that, or an ' +
        'administrator elsewhere makes a token for it (`meshctl invite <cluster> --replace --force`). ' +
        'With Kubernetes the other gateways take the new key from the Secret within seconds. At a site without it, ' +
        'name those that are yours with --keep: each asks this gateway for the new key by itself, also after it was down, for 30 days. ' +
        'This gateway has to run until they have it; the agents that are not named end with the old key (--force). ' +
        'Backups and open invites of gateways that were made with the old key are worth nothing afterwards.'
    )
    .option('--cluster', 'replace the key of the cluster in place of the tunnel key')
    .option('--token-file <file>', 'with --cluster: file that holds the token; - reads it from stdin')
    .option('--keep <PeerId...>', 'with --cluster: gateways of this site that get the new key by themselves')
    .option(
      '--force',
      'with --cluster: also when other gateways of this site, which --keep does not name, end'
    )
    .action(async (_action: string, options: Options) => {
      const context = contextOf(command)
      if (options.cluster === true) return rotateCluster(context, options)
      const stray = strayFlag(options)
      if (stray !== undefined)
        throw badArgument(stray, 'it is for --cluster only', 'leave it out, or add --cluster')
      const answer = await context.client.request(ENDPOINTS.keyRotate, {
        field: 'wireguardKey',
        doing: 'changing the tunnel key',
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, (clean) =>
        clean.pending === true
          ? {
              body: `The new WireGuard key ${clean.wireguardKey} is not in use yet: WireGuard has not taken it.`,
              note: 'The key is published as soon as the device has it. meshctl status says what keeps it from it'
            }
          : { body: `The WireGuard key is now ${clean.wireguardKey} (before: ${clean.before}).` }
      )
    })
  addExamples(command, [
    ['Change the tunnel key of this gateway', 'meshctl key rotate'],
    ['The new key for a script', 'meshctl key rotate --json | jq -r .wireguardKey'],
    ['The key of the cluster has leaked', 'meshctl key rotate --cluster'],
    ['At a site with a second gateway', 'meshctl key rotate --cluster --keep 12D3KooW…'],
    ['The same where no administrator is', 'meshctl key rotate --cluster --token-file east.token']
  ])
}

/** A flag of --cluster that is given without it. */
function strayFlag({ tokenFile, keep, force }: Options): string | undefined {
  if (tokenFile !== undefined) return '--token-file'
  if (keep !== undefined) return '--keep'
  return force === true ? '--force' : undefined
}

/**
 * POST /v1/key/rotate/cluster. Errors of meshd: GATEWAYS_END without --force; NO_SEAT and SEAT_EXCEEDED without a token; TOKEN_OTHER_CLUSTER;
 * MESH_* when the invite does not count any more.
 */
async function rotateCluster(
  context: ReturnType<typeof contextOf>,
  { tokenFile, keep = [], force = false }: Options
): Promise<void> {
  const token = tokenFile === undefined ? {} : { token: await readToken(undefined, tokenFile) }
  const answer = await context.client.request(ENDPOINTS.clusterKeyRotate, {
    send: { ...token, keep: [...keep], force },
    field: 'clusterKey',
    doing: 'replacing the key of the cluster',
    timeoutMs: TIMEOUT_MS
  })
  print(context, answer, renderCluster)
}

function renderCluster({
  cluster,
  before,
  clusterKey,
  neighbours,
  kept = [],
  ended = []
}: Omit<ClusterKeyRotatedAnswer, 'warnings'>): Rendered {
  const told =
    neighbours === 0
      ? ['No member is connected now: they learn of the new key when one is.']
      : [
          `${neighbours} connected members were told. A member that is away accepts the old key until it hears of the new one.`
        ]
  const follow = kept.map((peer) => `The gateway ${peer} takes the new key when it can reach this one.`)
  const anew = ended.map(
    (peer) =>
      `The agent ${peer} has the old key only: if it is yours, run \`meshctl leave\` there, then \`meshctl join\` with a token of \`meshctl invite --gateway\`.`
  )
  return {
    body: `The key of cluster ${cluster} is now ${clusterKey.slice(0, 16)} (before: ${before.slice(0, 16)}).`,
    note: [...told, ...follow, ...anew].join('\n')
  }
}
