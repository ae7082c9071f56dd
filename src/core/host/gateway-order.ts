// The order in which the gateways of a cluster are used for one key: a pod prefix of the cluster, or the PeerId of one of its
// nodes. The hosts of all other clusters and the node itself choose by it without a word between them, so it is a pure
// function of what all of them know.
// Invariants
//   1. The health of the tunnel comes first: while a gateway is up, no gateway that is down is chosen, also when the first one hands over.
//   2. Among gateways of one health, one that hands over comes last. So it is chosen only if no other gateway is as healthy,
//      and a cluster whose gateways all hand over is served as if none did.
//   3. Among equal ones the order is that of rendezvous hashing, so a gateway that hands over moves only its own keys, and
//      gets the same ones back.
import type { AgentView } from '../view/view.ts'
import type { Origin } from '../model/values.ts'
import { rendezvous } from './rendezvous.ts'
import type { GatewayHealth } from './tunnel-state.ts'

/** Gateways with a lower rank are preferred. */
const RANKS = { up: 0, silent: 1, connecting: 2, down: 3 } as const satisfies Record<GatewayHealth, number>

/** What the order reads of a gateway. */
type Candidate = Pick<AgentView, 'origin'> & { readonly agent: Pick<AgentView['agent'], 'handOver'> }

/** The state of the tunnel to a gateway. */
export type HealthOf = (origin: Origin) => GatewayHealth

/** Returns the gateways in the order in which `key` uses them: the first one carries it. */
export function gatewaysInOrder<T extends Candidate>(
  key: string,
  gateways: readonly T[],
  health: HealthOf
): readonly T[] {
  const rank = ({ origin, agent }: T): number =>
    2 * RANKS[health(origin)] + (agent.handOver === undefined ? 0 : 1)
  return rendezvous(key, gateways, ({ origin }) => origin).toSorted((a, b) => rank(a) - rank(b))
}
