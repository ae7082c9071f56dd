// `meshctl install` applies the objects of the chart to the cluster of a kubeconfig, or prints them with --dry-run. It
// needs no meshd: it talks to the Kubernetes API, and the agents that it installs join with the token in a Secret.
// Running it again is the upgrade: server-side apply (KEP-555) sets the fields that have changed, and objects that are
// not wanted any more are removed. core/kube/install.ts makes the objects; this file checks, sends and reports.
import { Option, type Command } from 'commander'
import { API_VERSION, type Answer } from '../../api/answers.ts'
import {
  CLUSTER_DNS_TARGETS,
  installObjects,
  isOptional,
  MANAGED_BY,
  MANAGER,
  pathOf,
  TOKEN_SECRET,
  undoCleanupPatch,
  type ClusterDnsTarget
} from '../../core/kube/install.ts'
import { GATEWAY_LABEL, MODES, type Mode } from '../../core/kube/install-nodes.ts'
import {
  APPLY_PATCH,
  getObject,
  hasStatus,
  MERGE_PATCH,
  textAt,
  type KubeApi,
  type KubeObject
} from '../../core/kube/kube-api.ts'
import { addExamples, contextOf, print, type Context } from '../meshd/context.ts'
import { badArgument } from '../output/errors.ts'
import type { ChosenMode } from '../kube/install-checks.ts'
import { agentsPath, listOurs, refuseElsewhere, refuseHelm, remove } from '../kube/kube-objects.ts'
import { kubeOptionsOf, addKubeOptions, type KubeFlags } from '../kube/kube-options.ts'
import { openKube, type KubeTarget } from '../kube/kube.ts'
import { safeJson } from '../output/text.ts'
import { readToken, warnOfArgument } from '../meshd/token.ts'

// The options as commander has parsed them. Help texts are in addOptions.
interface Options extends KubeFlags {
  /** false: --no-token. undefined: neither flag is given, and readToken looks in the other places. */
  readonly token?: string | boolean
  readonly tokenFile?: string
  readonly dryRun?: boolean
  /** undefined: the cluster is asked; with --dry-run it is taken for one without OpenShift. */
  readonly openshift?: boolean
  readonly webhook?: boolean
  readonly image?: string
  readonly mode: Mode | 'auto'
  /** Names of Nodes that get the gateway label. */
  readonly gateway?: readonly string[]
  readonly clusterDns?: ClusterDnsTarget
  /** Seconds of the global option --timeout. undefined: the flag is not given. */
  readonly timeout?: number
  /** Settings of meshd by key; checkSettings has checked them before they are used. */
  readonly set?: Readonly<Record<string, string>>
}

// The answer of `install --json`. meshctl makes it in the form of meshd's answers, so that scripts read all commands
// alike.
interface InstalledAnswer extends Answer {
  readonly namespace: string
  /** The URL of the API server. */
  readonly server: string
  /** "<kind> <name>" of each object, such as "DaemonSet rhizome". */
  readonly applied: readonly string[]
  readonly removed: readonly string[]
}

/**
 * Adds the command `install`. Errors: CliError CONFLICT when Helm or another namespace has an installation; FORBIDDEN
 * when the account may not create objects of the whole cluster; and those of install().
 */
export function addInstall(program: Command): void {
  const command = addOptions(program.command('install'))
    .summary('install the agents in a Kubernetes or OpenShift cluster')
    .description(
      'Applies the objects of the chart with server-side apply, or prints them with --dry-run. Run it again to upgrade. The token ' +
        'goes into a Secret. The first cluster of a mesh has no token: use --no-token, and then run `meshctl init` in one of its agents.'
    )
  addKubeOptions(command)
  command.action(() => install(command))
  addExamples(command, [
    ['Install with a token', 'meshctl install --token-file east.token --gateway node-1'],
    ['Print the objects for OpenShift', 'meshctl install --dry-run --openshift --token-file east.token'],
    ['The first cluster', 'meshctl install --no-token --gateway node-1'],
    ['Change a setting of meshd', 'meshctl install --no-token --set load-balancer=nftables']
  ])
}

function addOptions(command: Command): Command {
  return command
    .option('--token <token>', 'token from `meshctl invite`; - reads it from stdin')
    .option('--no-token', 'install without a token')
    .option('--token-file <file>', 'file that holds the token; - reads it from stdin')
    .option('--dry-run', 'print the objects as YAML and change nothing')
    .option('--openshift', 'add the objects that OpenShift needs (default: ask the cluster)')
    .option('--no-openshift', 'leave out the objects that OpenShift needs')
    .option('--webhook', 'add the admission webhook, for clusters whose DNS cannot be extended')
    .option(
      '--gateway <node>',
      'label this node as a gateway; repeat the flag for more nodes',
      (node, before: readonly string[] | undefined) => [...(before ?? []), node]
    )
    .addOption(
      new Option(
        '--mode <mode>',
        'mesh: a gateway on every node; nodes: gateways on the nodes with the gateway label, and on each other node an agent that reaches the other clusters through them; gateway: gateways only; auto: the installed mode, or in a new installation gateway if a Node has no spec.podCIDR, else nodes if --gateway is given or a Node has the gateway label, and else mesh'
      )
        .choices([...MODES, 'auto'])
        .default('auto')
    )
    .addOption(
      new Option(
        '--cluster-dns <target>',
        'where the agent adds the zones of the mesh to the cluster’s own DNS'
      ).choices(CLUSTER_DNS_TARGETS)
    )
    .option('--image <image>', 'image of the agent')
    .option('--set <key=value>', 'set a setting of meshd; repeat the flag for more settings', collectSetting)
}

/**
 * Runs the command. Everything that can be checked without the cluster is checked before anything is applied. With
 * --dry-run it prints the objects and sends nothing. Errors: CliError of readToken and of the checks; those of the API.
 */
async function install(command: Command): Promise<void> {
  const context = contextOf(command)
  const options = command.optsWithGlobals<Options>()
  // Settings and tokens are read with libraries that the other commands need not load.
  const { checkSettings, checkToken } = await import('../kube/install-checks.ts')
  const token = await tokenOf(options)
  if (token !== undefined) checkToken(token)
  checkSettings(options.set ?? {})
  const { namespace } = options
  const openshift = options.openshift ?? (options.dryRun === true ? false : await isOpenshift(options))
  const { formatManifests, readManifests } = await import('../kube/manifests.ts')
  const chosen = await modeOf(options)
  const objects = installObjects(await readManifests({ openshift, webhook: options.webhook === true }), {
    namespace,
    image: options.image,
    token,
    mode: chosen.mode,
    clusterDns: options.clusterDns,
    settings: options.set ?? {}
  })
  if (options.dryRun === true) {
    process.stdout.write(
      context.format === 'json'
        ? `${safeJson({ apiVersion: 'v1', kind: 'List', items: objects }, 2)}\n`
        : formatManifests(objects)
    )
    return
  }
  await applyAll(context, { options, objects, chosen })
}

/**
 * Applies the objects and prints the answer. An error on the way leaves the objects that were applied before; the same
 * command can be run again. The order is: refuse a foreign installation, take an unfinished
 * uninstallation back, apply, remove the rest, label the gateways.
 */
async function applyAll(
  context: Context,
  wanted: {
    readonly options: Options
    readonly objects: readonly KubeObject[]
    readonly chosen: ChosenMode
  }
): Promise<void> {
  const { options, objects, chosen } = wanted
  const { namespace } = options
  const api = await open(options)
  const agents = await getObject(api, agentsPath(namespace))
  refuseHelm(agents, 'use `helm upgrade`, or `helm uninstall` first')
  // The list is read before the apply, because a second installation must be refused before anything is changed.
  const before = await listOurs(api)
  refuseElsewhere(
    before,
    namespace,
    (found) =>
      `to upgrade it use -n ${found}; to move it run \`meshctl uninstall -n ${found}\` first, which asks before it removes the key of this cluster`
  )
  const own = await withoutOthersNamespace(api, objects, namespace)
  await undoCleanup(api, own)
  const applied = await apply(api, own)
  const removed = await prune(api, { before, wanted: own, namespace })
  for (const node of options.gateway ?? []) await labelNode(api, node)
  const answer: InstalledAnswer = {
    apiVersion: API_VERSION,
    namespace,
    server: api.server,
    applied,
    removed
  }
  print(context, answer, (clean) => ({
    body: `Installed in ${clean.namespace} of ${clean.server}: ${clean.applied.length} objects applied, ${clean.removed.length} removed.`,
    note: next(options, { namespace, chosen, madeNamespace: own.length === objects.length })
  }))
}

/** Opens the API of the cluster. --timeout limits the wait for each answer. */
function open(options: Options): Promise<KubeTarget> {
  const { timeout } = options
  return openKube(kubeOptionsOf(options, timeout === undefined ? undefined : timeout * 1000))
}

/** Returns the token of the options, or undefined with --no-token. Errors: those of readToken. */
async function tokenOf(options: Options): Promise<string | undefined> {
  if (options.token === false) return undefined
  const argument = typeof options.token === 'string' ? options.token : undefined
  if (argument !== undefined && argument !== '-') warnOfArgument()
  return readToken(argument, options.tokenFile, '; the first cluster of a mesh has none: use --no-token')
}

/** commander's accumulator for --set. A later value of a key wins. The value may have "=" and line breaks in it. */
function collectSetting(
  text: string,
  before: Readonly<Record<string, string>> = {}
): Readonly<Record<string, string>> {
  const match = /^([a-z]+(?:-[a-z]+)*)=(.*)$/s.exec(text)
  if (match === null)
    throw badArgument(
      '--set',
      `"${text}" is not key=value`,
      'use a setting of `meshd --help`, as in --set log-level=debug'
    )
  return { ...before, [match[1] ?? '']: match[2] ?? '' }
}

/**
 * Returns the mode: that of --mode; else with --dry-run, where no cluster is asked, nodes with --gateway and mesh without;
 * else that of the installation, unless --gateway asks for another; else the one that fits the Nodes (chooseMode).
 */
async function modeOf(options: Options): Promise<ChosenMode> {
  const { mode, gateway } = options
  if (mode !== 'auto') return { mode, note: undefined }
  if (options.dryRun === true) return { mode: gateway === undefined ? 'mesh' : 'nodes', note: undefined }
  const { chooseMode, installedMode } = await import('../kube/install-checks.ts')
  const api = await open(options)
  // A second `meshctl install` upgrades the installation, so it keeps the mode that is installed.
  const installed = await installedMode(api, options.namespace)
  return installed === undefined || (installed === 'mesh' && gateway !== undefined)
    ? chooseMode(api, gateway ?? [])
    : { mode: installed, note: undefined }
}

/**
 * Whether the cluster is OpenShift: it has the API group of SecurityContextConstraints, which the pods of the agents
 * need.
 */
async function isOpenshift(options: Options): Promise<boolean> {
  const api = await open(options)
  return (await getObject(api, '/apis/security.openshift.io/v1')) !== undefined
}

/** Leaves the Namespace out where it existed before the installation: then meshctl neither labels nor removes it. */
async function withoutOthersNamespace(
  api: KubeApi,
  objects: readonly KubeObject[],
  namespace: string
): Promise<readonly KubeObject[]> {
  const found = await getObject(api, `/api/v1/namespaces/${namespace}`)
  const ours = found === undefined || textAt(found, 'metadata', 'labels', MANAGED_BY) === MANAGER
  return ours ? objects : objects.filter(({ kind }) => kind !== 'Namespace')
}

/**
 * Applies the objects in their order and returns "<kind> <name>" of each that the API server has a kind for. `force` takes over fields that another
 * manager has set. `Strict` makes the API server refuse unknown fields, which it would otherwise drop with a warning.
 */
async function apply(api: KubeApi, objects: readonly KubeObject[]): Promise<string[]> {
  const applied: KubeObject[] = []
  for (const object of objects) {
    try {
      await api.request({
        method: 'PATCH',
        path: pathOf(object),
        query: { fieldManager: MANAGER, force: 'true', fieldValidation: 'Strict' },
        contentType: APPLY_PATCH,
        body: object
      })
    } catch (error) {
      // Apply makes what is missing, so 404 says that the API server does not have the kind.
      if (!isOptional(object) || !hasStatus(error, 404)) throw error
      continue
    }
    applied.push(object)
  }
  return applied.map(({ kind, metadata }) => `${kind} ${metadata.name}`)
}

/** Takes the patch of an uninstallation back that did not end, so that the agents run again. */
async function undoCleanup(api: KubeApi, objects: readonly KubeObject[]): Promise<void> {
  for (const wanted of objects.filter(({ kind }) => kind === 'DaemonSet')) {
    const path = pathOf(wanted)
    const body = undoCleanupPatch(await getObject(api, path), wanted)
    if (body !== undefined) await api.request({ method: 'PATCH', path, contentType: MERGE_PATCH, body })
  }
}

/**
 * Removes what an earlier installation in this namespace had and this one has not, such as the webhook. It removes no
 * namespace, no token, no object outside the namespaces of this installation, and no object of another manager.
 * Resolves to "<kind> <name>" of each removed object.
 */
async function prune(
  api: KubeApi,
  options: {
    readonly before: readonly KubeObject[]
    readonly wanted: readonly KubeObject[]
    readonly namespace: string
  }
): Promise<string[]> {
  const wanted = new Set(options.wanted.map(pathOf))
  const namespaces = new Set([undefined, ...options.wanted.map(({ metadata }) => metadata.namespace)])
  const removed: string[] = []
  for (const object of options.before.toReversed()) {
    const { kind, metadata } = object
    const kept =
      kind === 'Namespace' ||
      metadata.name === TOKEN_SECRET ||
      metadata.labels?.[MANAGED_BY] !== MANAGER ||
      !namespaces.has(metadata.namespace)
    if (!kept && !wanted.has(pathOf(object)) && (await remove(api, pathOf(object))))
      removed.push(`${kind} ${metadata.name}`)
  }
  return removed
}

/**
 * Gives a Node the gateway label; gateways in the modes "nodes" and "gateway" run only there. `uninstall` removes it. Errors: 404 of the
 * API.
 */
async function labelNode(api: KubeApi, node: string): Promise<void> {
  const body = { metadata: { labels: { [GATEWAY_LABEL]: '' } } }
  await api.request({
    method: 'PATCH',
    path: `/api/v1/nodes/${encodeURIComponent(node)}`,
    contentType: MERGE_PATCH,
    body
  })
}

/**
 * Returns the note with the next steps, each as a command that can be copied. Steps that were done already are left
 * out.
 */
function next(
  options: Options,
  {
    namespace,
    chosen,
    madeNamespace
  }: { readonly namespace: string; readonly chosen: ChosenMode; readonly madeNamespace: boolean }
): string {
  const lines = [
    ...(madeNamespace
      ? []
      : [
          `The namespace existed before. If it refuses the pods: kubectl label ns ${namespace} pod-security.kubernetes.io/enforce=privileged --overwrite`
        ]),
    ...(chosen.note === undefined ? [] : [chosen.note]),
    ...(chosen.mode !== 'mesh' && options.gateway === undefined
      ? [`Name the gateways: kubectl label node <node> ${GATEWAY_LABEL}=`]
      : []),
    ...(options.token === false
      ? [
          `Make the mesh: kubectl -n ${namespace} exec ds/rhizome -- meshctl init --cluster <name> --pod-cidr <cidr> --service-cidr <cidr>`
        ]
      : []),
    `See the mesh: kubectl -n ${namespace} exec ds/rhizome -- meshctl peers`
  ]
  return `\n${lines.join('\n')}`
}
