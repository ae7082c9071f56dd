// Which nodes of a cluster run an agent, and in which role. The chart says the same (templates/agent.yaml);
// test/lab/deploy.test.ts compares. Each DaemonSet has the pod template of the chart's only one in the mode mesh, which the
// manifests have.
import { isFields, type Fields } from '../model/field-check.ts'
import { fieldsAt, type KubeObject } from './kube-api.ts'

/** Nodes with this label are gateways in the modes "nodes" and "gateway". */
export const GATEWAY_LABEL = 'rhizome.io/gateway'

/**
 * mesh: a gateway on every node. nodes: a gateway on each node that has the gateway label, and on each other node an agent
 * with the role "node". gateway: gateways only, and pods on other nodes do not take part.
 */
export const MODES = ['gateway', 'nodes', 'mesh'] as const
export type Mode = (typeof MODES)[number]

/** The names of the DaemonSets with agents, gateways first. An installation of the mode "nodes" has both. */
export const AGENT_SETS = ['rhizome', 'rhizome-node'] as const

/** The DaemonSets of a mode. `daemonSet`: that of the manifests, which has a gateway on every node. */
export function agentSets(daemonSet: KubeObject, mode: Mode): readonly KubeObject[] {
  if (mode === 'mesh') return [daemonSet]
  const gateways = withPod(daemonSet, (pod) => ({
    ...pod,
    nodeSelector: { ...fieldsAt(pod, 'nodeSelector'), [GATEWAY_LABEL]: '' }
  }))
  return mode === 'gateway' ? [gateways] : [gateways, nodeSet(daemonSet)]
}

/** The mode that a DaemonSet "rhizome" shows, with or without a DaemonSet "rhizome-node" beside it. */
export function modeOfSets(gateways: Fields, hasNodeSet: boolean): Mode {
  if (hasNodeSet) return 'nodes'
  const selector = fieldsAt(gateways, 'spec', 'template', 'spec', 'nodeSelector')
  return Object.hasOwn(selector, GATEWAY_LABEL) ? 'gateway' : 'mesh'
}

/** Agents with the role "node" on all nodes without the gateway label. Their own label keeps them out of the Services. */
function nodeSet(daemonSet: KubeObject): KubeObject {
  const [, name] = AGENT_SETS
  const component = { 'app.kubernetes.io/component': 'node' }
  const spec = fieldsAt(daemonSet, 'spec')
  const template = fieldsAt(spec, 'template')
  const metadata = fieldsAt(template, 'metadata')
  const matchExpressions = [{ key: GATEWAY_LABEL, operator: 'NotIn', values: [''] }]
  const nodeAffinity = {
    requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions }] }
  }
  return withPod(
    {
      ...daemonSet,
      metadata: { ...daemonSet.metadata, name, labels: { ...daemonSet.metadata.labels, ...component } },
      spec: {
        ...spec,
        selector: { matchLabels: { ...fieldsAt(spec, 'selector', 'matchLabels'), ...component } },
        template: {
          ...template,
          metadata: { ...metadata, labels: { ...fieldsAt(metadata, 'labels'), ...component } }
        }
      }
    },
    (pod) => ({
      ...pod,
      affinity: { nodeAffinity },
      containers: listOf(pod['containers']).map((container) => ({
        ...container,
        env: withRole(listOf(container['env']))
      }))
    })
  )
}

/** The environment with the role, at the place where the chart has it: before the settings, after what the API tells. */
function withRole(env: readonly Fields[]): readonly Fields[] {
  const at = env.findLastIndex((entry) => 'valueFrom' in entry) + 1
  return env.toSpliced(at, 0, { name: 'RHIZOME_ROLE', value: 'node' })
}

function withPod(daemonSet: KubeObject, change: (pod: Fields) => Fields): KubeObject {
  const spec = fieldsAt(daemonSet, 'spec')
  const template = fieldsAt(spec, 'template')
  const pod = change(fieldsAt(template, 'spec'))
  return { ...daemonSet, spec: { ...spec, template: { ...template, spec: pod } } }
}

function listOf(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.filter(isFields) : []
}
