// The paths of a node, which lead through the gateways of its own cluster (core/host/nodes.ts): which gateway carries which
// other cluster now. On a gateway there is nothing to choose, and all methods say so.
import { gatewayByCluster, gatewaysOf, nearGateways, nodeClaims, type TurnOf } from '../../core/host/nodes.ts'
import { gatewaysInOrder } from '../../core/host/gateway-order.ts'
import type { GatewayHealth } from '../../core/host/tunnel-state.ts'
import type { ClusterName, Origin, Role } from '../../core/model/values.ts'
import type { AgentView, MeshView } from '../../core/view/view.ts'
import { GatewayTurns } from './gateway-turns.ts'
import type { OfNode } from './node-faults.ts'

interface NodePathsOptions {
  readonly origin: Origin
  readonly role: Role
  /** The state of the tunnel to a gateway of the own cluster, or of the whole way to one of another cluster. */
  readonly state: (origin: Origin) => GatewayHealth
}

/** See the head of this file. One for each session. */
export class NodePaths {
  readonly #options: NodePathsOptions
  readonly #turns = new GatewayTurns()

  constructor(options: NodePathsOptions) {
    this.#options = options
  }

  /** How often this node has gone on to the next gateway for a cluster. */
  readonly turnOf: TurnOf = (cluster) => this.#turns.of(cluster)

  /** The gateway of each other cluster's traffic; undefined: this agent is a gateway itself. */
  carriers(view: MeshView): ReadonlyMap<ClusterName, AgentView> | undefined {
    const { origin: self, role, state } = this.#options
    return role === 'node' ? gatewayByCluster(view, { self, state, turnOf: this.turnOf }) : undefined
  }

  /** Goes on to the next gateway for each cluster that does not answer. Called once a second, after the tunnels were judged. */
  tick(view: MeshView, nowMs: number): void {
    const { origin, role, state } = this.#options
    if (role !== 'node') return
    const ordered = gatewaysInOrder(origin, nearGateways(view, origin), state)
    const others = [...view.clusters.values()].filter(({ name }) => name !== view.self)
    this.#turns.update({
      nowMs,
      clusters: new Map(
        others.map((cluster) => [
          cluster.name,
          gatewaysOf(cluster).some((each) => state(each.origin) === 'up')
        ])
      ),
      order: ordered.map((each) => each.origin).join(),
      gateways: ordered.length
    })
  }

  /** The facts for the faults of a node; undefined: this agent is a gateway, or is not in the view yet. */
  facts(view: MeshView): OfNode | undefined {
    const { origin } = this.#options
    const own = view.clusters.get(view.self)
    const carriers = this.carriers(view)
    const claim = own && nodeClaims(own).find(({ node }) => node.origin === origin)
    return carriers === undefined || claim === undefined
      ? undefined
      : {
          gateways: nearGateways(view, origin),
          carrier: (cluster) => carriers.get(cluster),
          hasPods: claim.pods.length > 0
        }
  }
}
