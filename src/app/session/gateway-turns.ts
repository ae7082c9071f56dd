// On a node: when another cluster does not answer through one gateway of this cluster, the node goes on to the next. The
// order of the gateways is the same for the node and for the other cluster (core/host/nodes.ts), so as a rule the first
// one is right. It is not where only the path between that gateway and the other cluster is cut, or where a host of the
// other cluster does not know nodes yet. As the two have no word between them, the node looks for the gateway by which
// answers come back.
// Invariants
//   1. A cluster that answers is left alone. One that does not is tried by each gateway in turn.
//   2. A turn lasts TURN_MS at first, and twice as long after each round of all gateways, up to TURN_MS_MAX.
//   3. When the order of the gateways changes, the first one is tried again.
import type { ClusterName } from '../../core/model/values.ts'

/** Milliseconds: three probes, of which the first starts the handshake with a gateway that was not used before. */
const TURN_MS = 3_000
/** Milliseconds: a cluster that is gone for long is tried now and then. */
const TURN_MS_MAX = 60_000

interface Turn {
  readonly count: number
  /** Monotonic time since when the cluster has not answered through this gateway. */
  readonly sinceMs: number
}

/** What is known once a second. */
interface TurnFacts {
  readonly nowMs: number
  /** The other clusters, and whether one of their gateways answers. */
  readonly clusters: ReadonlyMap<ClusterName, boolean>
  /** The gateways of this cluster in the order in which the node uses them, as one text. */
  readonly order: string
  readonly gateways: number
}

/** The turns of one session; bounded by the clusters of the view. */
export class GatewayTurns {
  readonly #turns = new Map<ClusterName, Turn>()
  #order = ''

  /** How often the node has gone on to another gateway for this cluster. */
  of(cluster: ClusterName): number {
    return this.#turns.get(cluster)?.count ?? 0
  }

  /** Called once a second. */
  update({ nowMs, clusters, order, gateways }: TurnFacts): void {
    if (order !== this.#order) this.#turns.clear() // 3
    this.#order = order
    for (const name of this.#turns.keys()) if (!clusters.has(name)) this.#turns.delete(name)
    for (const [name, answers] of clusters) {
      const { count, sinceMs } = this.#turns.get(name) ?? { count: 0, sinceMs: nowMs }
      if (answers || gateways < 2) this.#turns.set(name, { count, sinceMs: nowMs })
      else if (nowMs - sinceMs < lengthMs(count, gateways)) this.#turns.set(name, { count, sinceMs })
      else this.#turns.set(name, { count: count + 1, sinceMs: nowMs })
    }
  }
}

function lengthMs(count: number, gateways: number): number {
  return Math.min(TURN_MS_MAX, TURN_MS * 2 ** Math.min(10, Math.floor(count / gateways)))
}
