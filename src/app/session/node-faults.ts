// The faults that only a node has (core/host/nodes.ts): its pods need a gateway of their own cluster, and a prefix by
// which the gateways know them. path-faults.ts has the others.
import type { TunnelState } from '../../core/host/tunnel-state.ts'
import type { ClusterName, Origin } from '../../core/model/values.ts'
import type { AgentView } from '../../core/view/view.ts'
import type { FaultText } from '../observe/health.ts'

/** What a node knows of the gateways of its cluster. */
export interface OfNode {
  readonly gateways: readonly AgentView[]
  /** The gateway by which the node reaches a cluster; undefined: its own cluster has none. */
  readonly carrier: (cluster: ClusterName) => AgentView | undefined
  /** True when the gateways have a pod prefix of this node, so that its pods are served. */
  readonly hasPods: boolean
}

/** Returns the fault of a node without a gateway that answers; none while one does, or may soon. */
export function ownGatewaysFault(
  { gateways }: OfNode,
  state: (origin: Origin) => TunnelState['state'] | undefined
): readonly (FaultText & { readonly subject: string })[] {
  if (gateways.some(({ origin }) => state(origin) !== 'down')) return []
  const names = gateways.map(({ agent }) => agent.node).join(', ')
  return [
    {
      subject: '',
      severity: 'critical',
      message:
        gateways.length === 0
          ? 'this node reaches no other cluster: its own cluster has no gateway'
          : `this node reaches no other cluster: no gateway of its own cluster answers through the tunnel (${names})`,
      fix:
        gateways.length === 0
          ? 'run meshd with `role: gateway` on a host of this cluster; in Kubernetes, label a Node: kubectl label node <node> rhizome.io/gateway='
          : 'check that meshd runs on the gateways and that UDP of the WireGuard port passes between this node and them; `meshctl peers` shows each tunnel'
    }
  ]
}

/** Returns the fault of a node whose pods the gateways cannot tell from others. */
export function noPodsFault({ hasPods }: OfNode): readonly (FaultText & { readonly subject: string })[] {
  if (hasPods) return []
  return [
    {
      subject: '',
      severity: 'error',
      message:
        'pods on this node neither reach other clusters nor are reached: the node has no pod prefix of its own, so the gateways cannot send it their traffic',
      fix: 'give the Node a spec.podCIDR, or set node-prefixes to the pod prefixes that only this host uses; where the network plugin gives a node no prefix, run the pods that take part on a gateway. A prefix that another agent of this cluster announces does not count'
    }
  ]
}

/** Why a cluster does not answer, as far as a node can tell: it sees the whole way through its gateway only. */
export function carriedCause(gateway: AgentView | undefined): {
  readonly cause: string
  readonly fix: string
} {
  const name = gateway?.agent.node
  return name === undefined
    ? {
        cause: 'this cluster has no gateway',
        fix: 'run meshd with `role: gateway` on a host of this cluster'
      }
    : {
        cause: `it does not answer through ${name}, a gateway of this cluster`,
        fix: `run \`meshctl status\` on ${name}: it sees the tunnel to that cluster`
      }
}
