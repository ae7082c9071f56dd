// The endpoint of a gateway that announces no address, after its tunnel key has changed. Such a gateway dials this host,
// and only WireGuard knows where it is; a new key is a new peer, without that knowledge. The device of the gateway
// stays the same, so the endpoint of the old key is right for the new one. desired-host.ts calls it for each computation.
import type { Origin, PeerAddress, WireguardKey } from '../../core/model/values.ts'
import type { AgentView, MeshView } from '../../core/view/view.ts'

/** The key of one gateway, and the endpoint that its key before had; undefined: there was none before. */
interface Followed {
  readonly key: WireguardKey
  readonly endpoint: PeerAddress | undefined
}

/** The gateways of one session. Bounded by the members of the view. */
export class FollowedEndpoints {
  readonly #endpoint: (origin: Origin) => PeerAddress | undefined
  #known: ReadonlyMap<Origin, Followed> = new Map()

  /** `endpoint`: returns where WireGuard last reached a gateway, with the key that it had then. */
  constructor(endpoint: (origin: Origin) => PeerAddress | undefined) {
    this.#endpoint = endpoint
  }

  /** Returns the view in which gateways without an address have the endpoint of their key before. */
  follow(view: MeshView): MeshView {
    const known = new Map<Origin, Followed>()
    const clusters = [...view.clusters].map(([name, cluster]) => {
      const agents = cluster.agents.map((entry) => {
        const { origin, agent } = entry
        const last = this.#known.get(origin)
        const isNew = last !== undefined && last.key !== agent.wireguardKey
        const endpoint = isNew ? this.#endpoint(origin) : last?.endpoint
        known.set(origin, { key: agent.wireguardKey, endpoint })
        return withEndpoint(entry, endpoint)
      })
      return [name, { ...cluster, agents }] as const
    })
    this.#known = known
    return { ...view, clusters: new Map(clusters) }
  }
}

function withEndpoint(entry: AgentView, endpoint: PeerAddress | undefined): AgentView {
  if (endpoint === undefined || entry.agent.wireguardAddresses.length > 0) return entry
  return { ...entry, agent: { ...entry.agent, wireguardAddresses: [endpoint] } }
}
