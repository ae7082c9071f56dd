// Finds the Nodes of a Kubernetes cluster on which no agent runs: their pods cannot reach other clusters. Pure;
// agent/part-watch.ts calls it once a second and sets the fault NODES_WITHOUT_AGENT.
import type { FaultText } from '../observe/health.ts'
import type { KubeNode } from './source.ts'

// The message names this many Nodes and counts the others.
const SHOWN_MAX = 3

/**
 * Returns the fault, or undefined when every Linux Node has an agent, or none has. `served`: node names that the agents of
 * this cluster announce; it is empty until the first agent is in the mesh.
 */
export function nodesWithoutAgent(
  all: readonly KubeNode[],
  served: readonly string[]
): FaultText | undefined {
  const nodes = all.filter(({ isLinux }) => isLinux)
  const known = new Set(served)
  const without = nodes.filter(({ name }) => !known.has(name))
  // When no agent runs on a Node, the agents run on gateway hosts outside the cluster. How pods reach those is not
  // known here, so there is no fault.
  if (without.length === 0 || without.length === nodes.length) return undefined
  const names = without.slice(0, SHOWN_MAX).map(({ name }) => name)
  const rest = without.length - names.length
  const list = `${names.join(', ')}${rest === 0 ? '' : ` and ${rest} more`}`
  const isMeshPossible = nodes.every(({ podCidrs }) => podCidrs.length > 0)
  return {
    severity: 'warning',
    message: `pods on ${without.length} of ${nodes.length} nodes (${list}) neither reach other clusters nor are reached: no agent of the mesh runs there`,
    fix: isMeshPossible
      ? 'run an agent on every node: `meshctl install --mode nodes`, or mode: nodes in the values of the chart (mode mesh makes each node a gateway)'
      : 'run the pods that take part on nodes with the label rhizome.io/gateway: a Node of this cluster has no spec.podCIDR, so an agent per node cannot serve them'
  }
}
