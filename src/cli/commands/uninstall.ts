// `meshctl uninstall` removes an installation from its cluster, in this order: the webhook's configuration, what the
// agents made on the hosts, the objects of the installation, the zones in the cluster's DNS, and the ServiceImports. The webhook comes
// first, because the API server would otherwise call it while no agent answers. DNS and ServiceImports come last, because a
// running agent would write them again. The chart's cleanup job runs this command before `helm uninstall`, with --keep-objects
// (deploy/chart/rhizome/templates/cleanup.yaml). No meshd is asked; the command talks to the Kubernetes API.
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import { setTimeout as pause } from 'node:timers/promises'
import { API_VERSION, type Answer } from '../../api/answers.ts'
import { CLUSTER_DNS_PATHS, unwire } from '../../core/coredns/cluster-dns.ts'
import type { Fields } from '../../core/model/field-check.ts'
import { AGENT_OBJECTS, cleanupPatch, pathOf, rolledOut } from '../../core/kube/install.ts'
import { AGENT_SETS, GATEWAY_LABEL } from '../../core/kube/install-nodes.ts'
import {
  fieldsAt,
  getObject,
  hasStatus,
  listObjects,
  MERGE_PATCH,
  textAt,
  type KubeApi,
  type KubeObject
} from '../../core/kube/kube-api.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { badArgument, CliError } from '../output/errors.ts'
import {
  agentsPath,
  homesOf,
  listOurs,
  refuseElsewhere,
  refuseHelm,
  remove,
  removeImports
} from '../kube/kube-objects.ts'
import { addKubeOptions, kubeOptionsOf, type KubeFlags } from '../kube/kube-options.ts'
import { openKube, type KubeTarget } from '../kube/kube.ts'
import { count } from '../output/units.ts'

interface Options extends KubeFlags {
  readonly yes?: boolean
  readonly keepState?: boolean
  readonly keepObjects?: boolean
  readonly skipHosts?: boolean
  readonly clusterDnsNamespace: string
}

// The answer of `uninstall --json`, which meshctl makes itself.
interface UninstalledAnswer extends Answer {
  readonly namespace: string
  /** The URL of the API server. */
  readonly server: string
  /** The number of objects of the cluster's own DNS from which the zones of the mesh were taken. */
  readonly unwired: number
  /** The number of nodes on which the agents have cleaned up; 0 with --skip-hosts or without agents. */
  readonly cleanedNodes: number
  /** "<kind> <name>" of each object, and one text for each Node that lost its label. */
  readonly removed: readonly string[]
}

// The longest wait for all nodes. They have the image already, so a pod starts within seconds; each node replaces one
// pod.
const CLEANUP_MS = 120_000
// The pause between two reads of the DaemonSet.
const POLL_MS = 1000
// Attempts to change the cluster's DNS. Another client may write the same object between our read and our write, which
// the API server reports as 409; each attempt reads the object again.
const CONFLICTS_MAX = 5

/**
 * Adds the command `uninstall`, which asks the user first, unless --yes is given. Errors: those of findInstallation;
 * CliError TIMEOUT when nodes are not clean in time, and then no object is deleted; those of unwireDns
 * and of the API.
 */
export function addUninstall(program: Command): void {
  const command = program
    .command('uninstall')
    .summary('remove the agents from a Kubernetes or OpenShift cluster')
    .description(
      'Takes the zones out of the cluster’s own DNS, removes tunnel, routes and load balancer from the nodes, and deletes every object of the ' +
        'installation. Run `meshctl leave` in an agent first, so that the other clusters forget this one at once.'
    )
    .option('-y, --yes', 'do not ask')
    .option(
      '--keep-state',
      'keep the folder with the keys on the nodes, so that a later installation is the same member'
    )
    .option('--keep-objects', 'clean only DNS and nodes; for Helm, which deletes its objects itself')
    .option('--skip-hosts', 'do not clean the nodes; for nodes that do not exist any more')
    .option('--cluster-dns-namespace <name>', 'namespace of CoreDNS', 'kube-system')
  addKubeOptions(command)
  command.action(async () => {
    const context = contextOf(command)
    const options = command.opts<Options>()
    const { namespace } = options
    const timeoutMs =
      (command.optsWithGlobals<{ readonly timeout?: number }>().timeout ?? CLEANUP_MS / 1000) * 1000
    const api = await openKube(kubeOptionsOf(options))
    if (options.yes !== true) requireTerminal()
    const { agents, ours, isAlone } = await findInstallation(api, options)
    if (options.yes !== true) await confirm(api, namespace)
    if (options.keepObjects !== true && isAlone)
      await remove(api, pathOf({ kind: 'MutatingWebhookConfiguration', metadata: { name: 'rhizome' } }))
    const cleanedNodes =
      options.skipHosts === true ? 0 : await cleanHosts(api, agents, { purge: purges(options), timeoutMs })
    const removed = options.keepObjects === true ? [] : await removeObjects(api, { ours, namespace, isAlone })
    const unwired = isAlone ? await unwireDns(api, options.clusterDnsNamespace) : 0
    const imports = isAlone ? await removeImports(api) : 0
    if (imports > 0) removed.push(count(imports, 'ServiceImport'))
    const answer: UninstalledAnswer = {
      apiVersion: API_VERSION,
      namespace,
      server: api.server,
      unwired,
      cleanedNodes,
      removed
    }
    print(context, answer, (clean) => ({
      body: `Uninstalled from ${clean.server}: ${count(clean.removed.length, 'object')} removed, ${count(clean.cleanedNodes, 'node')} cleaned, ${count(clean.unwired, 'DNS object')} restored.`
    }))
  })
  addExamples(command, [
    ['Uninstall, after a confirmation', 'meshctl uninstall'],
    ['In a script; the nodes keep their keys', 'meshctl uninstall --yes --keep-state'],
    ['Wait up to 10 minutes for the nodes to be clean (default 2)', 'meshctl uninstall --timeout 10m']
  ])
}

/**
 * Finds what is to be removed, before anything is. `isAlone`: no other namespace has an installation. Errors: CliError
 * CONFLICT when Helm manages the installation, or when only another namespace has one.
 */
async function findInstallation(
  api: KubeApi,
  { namespace, keepObjects }: Options
): Promise<{
  readonly agents: readonly Fields[]
  readonly ours: readonly KubeObject[]
  readonly isAlone: boolean
}> {
  const found = await Promise.all(AGENT_SETS.map((name) => getObject(api, agentsPath(namespace, name))))
  const agents = found.filter((each) => each !== undefined)
  // Here Helm deletes the objects, and the account of the chart's cleanup job may not list them.
  if (keepObjects === true) return { agents, ours: [], isAlone: true }
  refuseHelm(agents[0], 'use `helm uninstall`, which cleans DNS and nodes, too')
  const ours = await listOurs(api)
  const homes = homesOf(ours)
  if (!homes.has(namespace)) refuseElsewhere(ours, namespace, (found) => `to remove it use -n ${found}`)
  return { agents, ours, isAlone: [...homes].every((home) => home === namespace) }
}

/**
 * Whether the folder of keys on the nodes is emptied. It is not with --keep-objects, so that a chart that is installed
 * again finds the membership of the cluster.
 */
function purges(options: Options): boolean {
  return options.keepState !== true && options.keepObjects !== true
}

/**
 * Removes the zones of the mesh from the cluster's own DNS, in all three places where an agent can have written them.
 * Resolves to the number of objects that were changed. Errors: CliError CLUSTER_DNS_DAMAGED when the marks of our block
 * are not a pair, so that its end is not known; 409 of the API after CONFLICTS_MAX attempts; other errors of the API.
 */
async function unwireDns(api: KubeApi, namespace: string): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    const read = (path: string): Promise<Fields | undefined> => visible(api, path)
    const wiring = unwire(
      {
        operator: await read(CLUSTER_DNS_PATHS.operator()),
        coredns: await read(CLUSTER_DNS_PATHS.coredns(namespace)),
        custom: await read(CLUSTER_DNS_PATHS.custom(namespace))
      },
      namespace
    )
    if (wiring.kind === 'refused') throw new CliError('CLUSTER_DNS_DAMAGED', wiring.reason, wiring.fix)
    try {
      for (const call of wiring.calls) await api.request(call)
      return wiring.calls.length
    } catch (error) {
      if (!hasStatus(error, 409) || attempt === CONFLICTS_MAX) throw error
    }
  }
}

/**
 * Returns an object, or undefined when it does not exist or this account may not read it (403). The account of the
 * cleanup job has only the rights for the kind of DNS that the chart has set up, and the agents have changed no other
 * kind.
 */
async function visible(api: KubeApi, path: string): Promise<Fields | undefined> {
  try {
    return await getObject(api, path)
  } catch (error) {
    if (hasStatus(error, 403)) return undefined
    throw error
  }
}

/**
 * Makes every agent remove its tunnel, routes and tables, with `purge` also its folder, and waits for it. A patch of each
 * DaemonSet puts the cleanup into init containers (cleanupPatch), so it runs on every node with the rights of the
 * agent, and Kubernetes reports when it is done. A repeated call goes on with the same patch. Resolves to the number of
 * nodes. Errors: CliError TIMEOUT after `timeoutMs`; NO_AGENT_CONTAINER; those of the API.
 */
async function cleanHosts(
  api: KubeApi,
  agents: readonly Fields[],
  options: { purge: boolean; timeoutMs: number }
): Promise<number> {
  // Without nodes there is nothing to clean, and the controller may never update the status.
  const sets = agents
    .map((set) => ({
      set,
      path: pathOf({ kind: 'DaemonSet', metadata: (set as unknown as KubeObject).metadata }),
      nodes: Number(fieldsAt(set, 'status')['desiredNumberScheduled'] ?? 0)
    }))
    .filter(({ nodes }) => nodes > 0)
  for (const { set, path } of sets) {
    const body = cleanupPatch(set, options.purge)
    if (body === undefined) {
      throw new CliError(
        'NO_AGENT_CONTAINER',
        `the DaemonSet ${textAt(set, 'metadata', 'name')} has no container "meshd", so the nodes cannot be cleaned; the objects of the installation were not deleted`,
        'run `meshd cleanup` on each node, then `meshctl uninstall --skip-hosts`'
      )
    }
    await api.request({ method: 'PATCH', path, contentType: MERGE_PATCH, body })
  }
  const end = performance.now() + options.timeoutMs
  for (;;) {
    const now = await Promise.all(sets.map(({ path }) => getObject(api, path)))
    // If another client has deleted a DaemonSet meanwhile, there is no pod left to wait for.
    if (now.every((set) => set === undefined || rolledOut(set)))
      return sets.reduce((sum, { nodes }) => sum + nodes, 0)
    if (performance.now() > end) {
      throw new CliError(
        'TIMEOUT',
        `the nodes are not clean after ${options.timeoutMs / 1000} s; the objects of the installation were not deleted`,
        'look at the pods of the DaemonSets rhizome and rhizome-node; then run the command again, with --timeout 5m for more time or with --skip-hosts if nodes cannot be reached'
      )
    }
    await pause(POLL_MS)
  }
}

/**
 * Removes the objects that the agents made, then all objects with the label of the installation in the reverse order of
 * creation, so that the namespace comes last, and then the gateway labels of Nodes. Where another namespace has an
 * installation, too (not `isAlone`), only the objects of `namespace` go, because the other one needs the rest. Resolves to
 * the names of what was removed.
 */
async function removeObjects(
  api: KubeApi,
  {
    ours,
    namespace,
    isAlone
  }: { readonly ours: readonly KubeObject[]; readonly namespace: string; readonly isAlone: boolean }
): Promise<string[]> {
  const made = AGENT_OBJECTS.map(({ kind, name }) => ({ kind, metadata: { name, namespace } }))
  const own = isAlone
    ? ours
    : ours.filter(({ kind, metadata }) =>
        kind === 'Namespace' ? metadata.name === namespace : metadata.namespace === namespace
      )
  const removed: string[] = []
  for (const object of [...made, ...own.toReversed()]) {
    if (await remove(api, pathOf(object))) removed.push(`${object.kind} ${object.metadata.name}`)
  }
  return isAlone ? [...removed, ...(await unlabelNodes(api))] : removed
}

/** Removes the gateway label from all Nodes that have it. In a merge patch (RFC 7396) null removes a field. */
async function unlabelNodes(api: KubeApi): Promise<string[]> {
  const call = { path: '/api/v1/nodes', query: { labelSelector: GATEWAY_LABEL } }
  const names = (await listObjects(api, call, (node) => textAt(node, 'metadata', 'name') ?? '')) ?? []
  for (const name of names) {
    const body = { metadata: { labels: { [GATEWAY_LABEL]: null } } }
    await api.request({ method: 'PATCH', path: `/api/v1/nodes/${name}`, contentType: MERGE_PATCH, body })
  }
  return names.map((name) => `label ${GATEWAY_LABEL} of Node ${name}`)
}

/** Errors: CliError BAD_ARGUMENT without a terminal to ask on. */
function requireTerminal(): void {
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw badArgument('uninstall', 'there is no terminal to ask on', 'add --yes when you are sure')
}

/**
 * Asks the user, and returns when the reply is yes. Errors: CliError INTERRUPTED (exit code 130) for any other reply. The
 * question goes to stderr, so that stdout has only the answer.
 */
async function confirm(api: KubeTarget, namespace: string): Promise<void> {
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const reply = await lines.question(`Remove Rhizome from ${api.server}, namespace ${namespace}? [y/N] `)
    if (/^y(es)?$/i.test(reply.trim())) return
  } finally {
    lines.close()
  }
  throw new CliError('INTERRUPTED', 'not confirmed: nothing was changed')
}
