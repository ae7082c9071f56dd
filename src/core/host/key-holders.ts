// Chooses the agent that gets the WireGuard peer of a key which several agents have proved: a state folder was copied,
// or a seed was stolen. WireGuard knows one peer for a key, and all prefixes of that peer go to one endpoint.
// Invariant: an agent that has the peer keeps it as long as it announces the key. So an agent that comes with a copy of
// the seed takes no traffic from the agent that was there before it.
import type { Origin, WireguardKey } from '../model/values.ts'
import type { MeshView } from '../view/view.ts'

/**
 * Returns the holder of each key among the gateways of the other clusters. `before`: the result of the last call. Of
 * several that are all new, the first in the order of cluster names and PeerIds holds the key.
 */
export function keyHolders(
  view: MeshView,
  before: ReadonlyMap<WireguardKey, Origin>
): ReadonlyMap<WireguardKey, Origin> {
  const holders = new Map<WireguardKey, Origin>()
  for (const { name, agents } of view.clusters.values()) {
    if (name === view.self) continue
    for (const { origin, agent } of agents) {
      if (agent.role !== 'gateway') continue
      const { wireguardKey } = agent
      if (!holders.has(wireguardKey) || before.get(wireguardKey) === origin) holders.set(wireguardKey, origin)
    }
  }
  return holders
}
