// What `meshctl install` applies to a cluster: the manifests of the chart with the chosen options. Objects in,
// objects out; install.ts of src/cli/commands reads the manifests and sends the result, uninstall.ts uses the same
// table of kinds for removal. The chart alone defines what an installation consists of. This file changes only
// values, as Helm would (test/core/kube/install.test.ts compares the two).
import { isFields, type Fields } from '../model/field-check.ts'
import { probesOf, withPorts } from './install-listens.ts'
import { agentSets, type Mode } from './install-nodes.ts'
import { fieldsAt, type KubeCall, type KubeObject } from './kube-api.ts'

/** The namespace in the manifests; installObjects replaces it with the chosen one. */
export const MANIFEST_NAMESPACE = 'rhizome-system'
/**
 * The field manager of server-side apply, and the value of the label MANAGED_BY on each object that meshctl applied.
 */
export const MANAGER = 'meshctl'
/** The Secret with the join token, which the agents read at their start. */
export const TOKEN_SECRET = 'rhizome-token'
/**
 * The name of the agent's container in the DaemonSet. Other programs may add containers, so the place in the list says
 * nothing.
 */
const AGENT_CONTAINER = 'meshd'
/** The name of the init container that cleans a node; only a DaemonSet that is being uninstalled has it. */
const CLEANUP_CONTAINER = 'cleanup'
/** The label that every object of an installation has. */
export const PART_OF = { 'app.kubernetes.io/part-of': 'rhizome' } as const
export const MANAGED_BY = 'app.kubernetes.io/managed-by'

/**
 * The values of --cluster-dns. "auto" lets the agent choose by the objects that it finds
 * (core/coredns/cluster-dns.ts); "off" writes nothing.
 */
export const CLUSTER_DNS_TARGETS = ['auto', 'openshift', 'coredns', 'coredns-custom', 'off'] as const
export type ClusterDnsTarget = (typeof CLUSTER_DNS_TARGETS)[number]

/** The options of `meshctl install`, parsed and checked. */
export interface InstallOptions {
  readonly namespace: string
  /** undefined: the image that the manifests name. */
  readonly image?: string | undefined
  /** undefined: no Secret is made, because this cluster makes its mesh with `meshctl init` or joined before. */
  readonly token?: string | undefined
  readonly mode: Mode
  /** undefined: the value of the manifests stays. */
  readonly clusterDns?: ClusterDnsTarget | undefined
  /** Settings of meshd by key; they become the file meshd.yaml of the ConfigMap. */
  readonly settings: Readonly<Record<string, string>>
}

/**
 * The objects of an installation, in the order in which they must be created: an object comes after those that it
 * needs.
 */
export function installObjects(
  manifests: readonly KubeObject[],
  options: InstallOptions
): readonly KubeObject[] {
  const objects = manifests
    .map((object) => inNamespace(object, options.namespace))
    .filter((object) => options.clusterDns !== 'off' || componentOf(object) !== 'cluster-dns')
    .flatMap((object) => (object.kind === 'DaemonSet' ? agentSets(object, options.mode) : [object]))
    .map((object) => adapt(object, options))
  const token = options.token === undefined ? [] : [tokenSecret(options.namespace, options.token)]
  return [...objects, ...token]
    .map((object) => withLabels(object, { [MANAGED_BY]: MANAGER }))
    .toSorted((a, b) => rank(a.kind) - rank(b.kind))
}

/** The object with the chosen options. With --cluster-dns=off the ClusterRole loses its rights on dnses, too. */
function adapt(object: KubeObject, options: InstallOptions): KubeObject {
  switch (object.kind) {
    case 'DaemonSet':
      return adaptAgent(object, options)
    case 'Service': {
      const spec = fieldsAt(object, 'spec')
      return {
        ...object,
        spec: { ...spec, ports: withPorts(spec['ports'], ['targetPort'], options.settings) }
      }
    }
    case 'ConfigMap':
      return { ...object, data: { 'meshd.yaml': settingsText(options.settings) } }
    case 'ClusterRole': {
      if (options.clusterDns !== 'off') return object
      const rules = Array.isArray(object['rules']) ? (object['rules'] as readonly Fields[]) : []
      return {
        ...object,
        rules: rules.filter(({ resources }) => !(Array.isArray(resources) && resources.includes('dnses')))
      }
    }
    default:
      return object
  }
}

function adaptAgent(object: KubeObject, options: InstallOptions): KubeObject {
  const template = fieldsAt(object, 'spec', 'template')
  const pod = fieldsAt(template, 'spec')
  const container = named(pod['containers'], AGENT_CONTAINER)
  const env = (container?.['env'] ?? []) as readonly { readonly name: string }[]
  const given = new Set(
    Object.keys(options.settings)
      // The role of the DaemonSet of nodes is no choice of the settings.
      .filter((key) => key !== 'role')
      .map((key) => `RHIZOME_${key.toUpperCase().replaceAll('-', '_')}`)
  )
  const agent = {
    ...container,
    ...(options.image === undefined ? {} : { image: options.image }),
    env: env
      // The environment takes precedence over the file, so a setting that the user gives must not be in the
      // environment.
      .filter(({ name }) => !given.has(name))
      .map((entry) =>
        entry.name === 'RHIZOME_CLUSTER_DNS' && options.clusterDns !== undefined
          ? { ...entry, value: options.clusterDns }
          : entry
      ),
    ports: withPorts(container?.['ports'], ['containerPort', 'hostPort'], options.settings),
    ...probesOf(container ?? {}, options.settings['http-listen'])
  }
  const annotations = {
    ...fieldsAt(template, 'metadata', 'annotations'),
    // meshd reads settings only at its start. Another annotation makes the DaemonSet replace its pods.
    'checksum/settings': settingsText(options.settings)
  }
  return {
    ...object,
    spec: {
      ...fieldsAt(object, 'spec'),
      template: {
        metadata: { ...fieldsAt(template, 'metadata'), annotations },
        spec: { ...pod, containers: [agent] }
      }
    }
  }
}

/** The settings as JSON, which is valid YAML. */
function settingsText(settings: Readonly<Record<string, string>>): string {
  return `${JSON.stringify(settings)}\n`
}

function tokenSecret(namespace: string, token: string): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: TOKEN_SECRET,
      namespace,
      labels: { ...PART_OF, 'app.kubernetes.io/name': 'rhizome', 'app.kubernetes.io/component': 'agent' }
    },
    type: 'Opaque',
    stringData: { token }
  }
}

/**
 * The object with each value that is exactly MANIFEST_NAMESPACE replaced, and with the namespace of accounts in the expressions of
 * a policy. No other text in the manifests has that value.
 */
function inNamespace(object: KubeObject, namespace: string): KubeObject {
  const replace = (value: unknown): unknown => {
    if (value === MANIFEST_NAMESPACE) return namespace
    if (typeof value === 'string')
      return value.replaceAll(`serviceaccount:${MANIFEST_NAMESPACE}:`, () => `serviceaccount:${namespace}:`)
    if (Array.isArray(value)) return value.map(replace)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, replace(inner)]))
  }
  return replace(object) as KubeObject
}

function withLabels(object: KubeObject, labels: Readonly<Record<string, string>>): KubeObject {
  return { ...object, metadata: { ...object.metadata, labels: { ...object.metadata.labels, ...labels } } }
}

function componentOf(object: KubeObject): string | undefined {
  return object.metadata.labels?.['app.kubernetes.io/component']
}

/** The entry of a list of containers with this name; undefined when there is none, or no list. */
function named(containers: unknown, name: string): Fields | undefined {
  return Array.isArray(containers)
    ? containers.filter(isFields).find((container) => container['name'] === name)
    : undefined
}

// ------------------------------------------------------------------ where objects live

/** How the API server names a kind in its paths. */
interface Resource {
  readonly kind: string
  /** The path of the API group: "/api/v1" or "/apis/<group>/<version>". */
  readonly base: string
  readonly plural: string
  readonly namespaced: boolean
}

/** Every kind that an installation has or an agent creates, in the order of creation. Removal runs in reverse. */
export const RESOURCES: readonly Resource[] = [
  row('Namespace', '/api/v1', 'namespaces', false),
  row('SecurityContextConstraints', '/apis/security.openshift.io/v1', 'securitycontextconstraints', false),
  row('CustomResourceDefinition', '/apis/apiextensions.k8s.io/v1', 'customresourcedefinitions', false),
  // Before the rights that they bound.
  policy('ValidatingAdmissionPolicy', 'validatingadmissionpolicies'),
  policy('ValidatingAdmissionPolicyBinding', 'validatingadmissionpolicybindings'),
  row('ServiceAccount', '/api/v1', 'serviceaccounts', true),
  row('ClusterRole', '/apis/rbac.authorization.k8s.io/v1', 'clusterroles', false),
  row('ClusterRoleBinding', '/apis/rbac.authorization.k8s.io/v1', 'clusterrolebindings', false),
  row('Role', '/apis/rbac.authorization.k8s.io/v1', 'roles', true),
  row('RoleBinding', '/apis/rbac.authorization.k8s.io/v1', 'rolebindings', true),
  row('Secret', '/api/v1', 'secrets', true),
  row('ConfigMap', '/api/v1', 'configmaps', true),
  row('Lease', '/apis/coordination.k8s.io/v1', 'leases', true),
  row('Service', '/api/v1', 'services', true),
  row('PodDisruptionBudget', '/apis/policy/v1', 'poddisruptionbudgets', true),
  row('DaemonSet', '/apis/apps/v1', 'daemonsets', true),
  row(
    'MutatingWebhookConfiguration',
    '/apis/admissionregistration.k8s.io/v1',
    'mutatingwebhookconfigurations',
    false
  )
]

/**
 * Objects that the agents create themselves, without the label PART_OF. Their namespace is that of the installation.
 */
export const AGENT_OBJECTS: readonly { readonly kind: string; readonly name: string }[] = [
  { kind: 'Lease', name: 'rhizome-speaker' }
]

/** The path of one object at the API server. Throws an Error for a kind that is not in RESOURCES. */
export function pathOf(object: {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
}): string {
  const { kind, metadata } = object
  const resource = RESOURCES.find((resource) => resource.kind === kind)
  if (resource === undefined) throw new Error(`no path for the kind ${kind}`)
  const namespace = resource.namespaced ? `/namespaces/${metadata.namespace ?? 'default'}` : ''
  return `${resource.base}${namespace}/${resource.plural}/${metadata.name}`
}

/** A request for all objects of one kind with the label PART_OF, in every namespace. */
export function listCall(resource: Resource): KubeCall {
  const labelSelector = Object.entries(PART_OF)
    .map(([key, value]) => `${key}=${value}`)
    .join(',')
  return { path: `${resource.base}/${resource.plural}`, query: { labelSelector } }
}

function row(kind: string, base: string, plural: string, namespaced: boolean): Resource {
  return { kind, base, plural, namespaced }
}

function policy(kind: string, plural: string): Resource {
  return row(kind, '/apis/admissionregistration.k8s.io/v1', plural, false)
}

/**
 * Whether an API server may lack a kind and the installation works without it: policies exist since Kubernetes 1.30. They only
 * bound a right.
 */
export function isOptional({ kind }: Pick<KubeObject, 'kind'>): boolean {
  return kind.startsWith('ValidatingAdmissionPolicy')
}

/** The position of a kind in the order of creation; unknown kinds come last. */
function rank(kind: string): number {
  const at = RESOURCES.findIndex((resource) => resource.kind === kind)
  return at < 0 ? RESOURCES.length : at
}

// ------------------------------------------------------------------ leaving the hosts as they were

/**
 * A merge patch for the agent's DaemonSet, for uninstalling. On each node the agent stops, and init containers remove
 * its tunnel, routes and tables (`meshd cleanup`) and, with `purge`, empty its state folder. Then the pod only waits
 * to be deleted. All nodes change at once (maxUnavailable 100 %). The patch of a DaemonSet that has this patch already
 * is the same patch, so an uninstallation may be repeated. undefined: the DaemonSet has no container of the agent.
 */
export function cleanupPatch(daemonSet: Fields, purge: boolean): object | undefined {
  const agent = agentOf(daemonSet)
  if (agent === undefined) return undefined
  const { image, imagePullPolicy, args, env, securityContext, volumeMounts } = agent
  const common = { image, imagePullPolicy, securityContext }
  return {
    spec: {
      updateStrategy: { rollingUpdate: { maxUnavailable: '100%' } },
      template: {
        spec: {
          terminationGracePeriodSeconds: 1,
          initContainers: [
            { ...common, name: CLEANUP_CONTAINER, args: [...args, CLEANUP_COMMAND], env, volumeMounts },
            ...(purge ? [{ ...common, name: 'purge', command: PURGE, volumeMounts }] : [])
          ],
          containers: [
            {
              ...common,
              name: 'done',
              command: ['sleep', 'infinity'],
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } }
            }
          ]
        }
      }
    }
  }
}

/**
 * The container of the agent with the arguments that `meshd run` has. cleanupPatch replaces that container by an init
 * container that cleans the host; then the arguments are read from the init container.
 */
function agentOf(daemonSet: Fields): (Fields & { readonly args: readonly unknown[] }) | undefined {
  const pod = fieldsAt(daemonSet, 'spec', 'template', 'spec')
  const running = named(pod['containers'], AGENT_CONTAINER)
  const agent = running ?? named(pod['initContainers'], CLEANUP_CONTAINER)
  if (agent === undefined) return undefined
  const args: readonly unknown[] = Array.isArray(agent['args']) ? agent['args'] : []
  return { ...agent, args: running === undefined ? args.slice(0, -1) : args }
}

/**
 * A merge patch that turns a DaemonSet with the patch of cleanupPatch back into `wanted`, the DaemonSet of
 * installObjects. Server-side apply cannot do that alone, because it removes only what an earlier apply has set: the
 * init containers would stay and empty the state folder at each start. undefined: there is no cleanup to take back.
 */
export function undoCleanupPatch(daemonSet: Fields | undefined, wanted: Fields): object | undefined {
  const pod = fieldsAt(daemonSet, 'spec', 'template', 'spec')
  if (named(pod['initContainers'], CLEANUP_CONTAINER) === undefined) return undefined
  const spec = fieldsAt(wanted, 'spec')
  const template = fieldsAt(spec, 'template')
  return {
    spec: {
      ...spec,
      template: { ...template, spec: { ...fieldsAt(template, 'spec'), initContainers: null } }
    }
  }
}

/** The command of meshd that cleans a host; the last argument of the init container. */
const CLEANUP_COMMAND = 'cleanup'
const PURGE = ['find', '/var/lib/rhizome', '-mindepth', '1', '-delete'] as const

/**
 * Whether the DaemonSet's controller has brought every node to the current template, and the pods there are ready.
 */
export function rolledOut(daemonSet: Fields): boolean {
  const { generation } = fieldsAt(daemonSet, 'metadata')
  const {
    observedGeneration,
    desiredNumberScheduled = 0,
    updatedNumberScheduled = 0,
    numberReady = 0
  } = fieldsAt(daemonSet, 'status')
  return (
    typeof generation === 'number' &&
    typeof observedGeneration === 'number' &&
    observedGeneration >= generation &&
    updatedNumberScheduled === desiredNumberScheduled &&
    numberReady === desiredNumberScheduled
  )
}
