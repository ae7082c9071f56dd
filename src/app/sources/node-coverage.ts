// Which Nodes of a Kubernetes cluster have no agent: their pods have no way to the mesh. Pure.
import type { FaultText } from '../observe/health.ts'
import type { KubeNode } from './source.ts'

// Nodes that a message names; the rest is counted.
const SHOWN_MAX = 3

/** `served`: names of the nodes on which agents of this cluster run; none yet: nothing is said before the first agent is in the mesh. */
export function nodesWithoutAgent(
  nodes: readonly KubeNode[],
  served: readonly string[]
): FaultText | undefined {
  const known = new Set(served)
  const without = nodes.filter(({ name }) => !known.has(name))
  // Agents outside the cluster, on gateway hosts of their own, are no Nodes: how pods get there is not known here.
  if (without.length === 0 || without.length === nodes.length) return undefined
  const names = without.slice(0, SHOWN_MAX).map(({ name }) => name)
  const rest = without.length - names.length
  const list = `${names.join(', ')}${rest === 0 ? '' : ` and ${rest} more`}`
  const isMeshPossible = nodes.every(({ podCidrs }) => podCidrs.length > 0)
  return {
    severity: 'warning',
    message: `pods on ${without.length} of ${nodes.length} nodes (${list}) neither reach other clusters nor are reached: no agent of the mesh runs there`,
    fix: isMeshPossible
      ? 'run an agent on every node: `meshctl install --mode mesh`, or mode: mesh in the values of the chart'
      : 'run the pods that take part on nodes with the label rhizome.io/gateway: a Node of this cluster has no spec.podCIDR, so an agent per node cannot serve them'
  }
}
