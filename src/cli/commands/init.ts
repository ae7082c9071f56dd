// `meshctl init` makes a new mesh with this cluster as its first member. meshd creates the root key, and with it signs the
// first administrator's seat and the founding certificate of this cluster. The seat invites: `meshctl invite` works on this
// agent, and on each agent that gets a seat by `meshctl admin add`. The root key stays on this host until
// `meshctl root export` takes it away. The command is run once per mesh. The request is POST /v1/init.
import type { Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import type { InitRequest } from '../../api/requests.ts'
import { collect, parseClusterName, parsePrefix } from '../meshd/arguments.ts'
import { realPrefixFields, withTranslation, type RealPrefixOptions } from '../meshd/real-prefixes.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { badArgument } from '../output/errors.ts'
import { renderJoined } from './joined.ts'

/** The flags of the command. */
interface Options extends RealPrefixOptions {
  readonly cluster: string
  readonly podCidr?: readonly string[]
  readonly serviceCidr?: readonly string[]
  readonly roots?: { readonly k: number; readonly number: number }
}

// meshd may ask the Kubernetes API for prefixes and for the cluster's key, and starts all its services, before it
// answers.
const TIMEOUT_MS = 30_000

/**
 * Adds the command `init`. If a kind of prefix is not given, the list is empty, and meshd finds or chooses one. Errors
 * of meshd: ALREADY_JOINED; BAD_ARGUMENT; CLUSTER_KEY_TAKEN when another gateway of this cluster is in a mesh;
 * ALREADY_CHANGING while another init, join or leave is under way.
 */
export function addInit(program: Command): void {
  const command = program
    .command('init')
    .summary('start a new mesh with this cluster as its first member')
    .description(
      'Makes the root key of a new mesh and the first administrator’s seat on this host, and admits this cluster. Run it ' +
        'once, in one cluster; the other clusters join. The prefixes must be those that the pods and services of this ' +
        'cluster really have, unless --real-pod-cidr, --real-service-cidr or --translate say that they stand for others: ' +
        'then clusters with the same addresses can be in one mesh.'
    )
    .requiredOption('--cluster <name>', 'name of this cluster, and of its DNS zone cluster.<name>', (text) =>
      parseClusterName('--cluster', text)
    )
    .option(
      '--pod-cidr <prefix>',
      'pod prefix of this cluster; repeat the flag or separate prefixes with commas (default: the prefix that the Kubernetes API reports; without Kubernetes a free prefix)',
      collect('--pod-cidr', parsePrefix)
    )
    .option(
      '--service-cidr <prefix>',
      'service prefix of this cluster; given and found like the pod prefix',
      collect('--service-cidr', parsePrefix)
    )
    .option(
      '--roots <k>of<n>',
      'root keys of the mesh: n are made, at most 5, and k of them must sign, as in 2of3 (default: 1of1)',
      parseRoots
    )
    .action(async (options: Options) => {
      const context = contextOf(command)
      const body: InitRequest = {
        cluster: options.cluster,
        podCidrs: options.podCidr ?? [],
        serviceCidrs: options.serviceCidr ?? [],
        ...realPrefixFields(options),
        ...(options.roots === undefined ? {} : { roots: options.roots })
      }
      const answer = await context.client.request(ENDPOINTS.init, {
        send: body,
        field: 'meshId',
        doing: 'making the mesh',
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, (clean) =>
        renderJoined(
          clean,
          `Made a new mesh with cluster ${clean.cluster}.`,
          '\nNext, for each cluster that is to join: meshctl invite <cluster>'
        )
      )
    })
  withTranslation(command)
  addInitExamples(command)
}

/** Root keys of one mesh (docs/trust-set.md). */
const ROOTS_MAX = 5

/** Parses "2of3". Errors: CliError BAD_ARGUMENT. */
function parseRoots(text: string): { readonly k: number; readonly number: number } {
  const [, k = 0, number = 0] = (/^(\d)of(\d)$/i.exec(text) ?? []).map(Number)
  if (k >= 1 && k <= number && number <= ROOTS_MAX) return { k, number }
  throw badArgument(
    '--roots',
    `${JSON.stringify(text)} does not say how many of how many root keys must sign`,
    `write it as in 2of3: from 1of1 to ${ROOTS_MAX}of${ROOTS_MAX}`
  )
}

/** The examples of the help, and where the prefixes come from. */
function addInitExamples(command: Command): void {
  addExamples(
    command,
    [
      [
        'Start with cluster west',
        'meshctl init --cluster west --pod-cidr 10.1.0.0/16 --service-cidr 10.101.0.0/16'
      ],
      [
        'Three root keys, of which two must sign',
        'meshctl init --cluster west --pod-cidr 10.1.0.0/16 --service-cidr 10.101.0.0/16 --roots 2of3'
      ],
      [
        'With prefixes that other clusters have, too',
        'meshctl init --cluster west --real-pod-cidr 10.1.0.0/16 --real-service-cidr 10.101.0.0/16'
      ],
      [
        'Dual stack',
        'meshctl init --cluster west --pod-cidr 10.1.0.0/16,fd00:1::/48 --service-cidr 10.101.0.0/16,fd00:101::/112'
      ]
    ],
    'With Kubernetes, meshd finds the prefixes: service prefixes in the ServiceCIDR API, pod prefixes in the Nodes. A network plugin with\naddress pools of its own needs --pod-cidr. Without Kubernetes, meshd chooses free prefixes.'
  )
}
