// Orders the addresses that an agent offers for its tunnel: an address at which the agent was reached comes first.
// WireGuard sends to the first one, and an address that works for the control connection (TCP) most likely works for
// the tunnel, too. Pure; desired-host.ts calls it.
import type { PeerAddress } from '../../core/model/values.ts'
import type { AgentView, MeshView } from '../../core/view/view.ts'

/** The addresses at which other agents were reached, by control connections and by WireGuard. */
interface ReachedFacts {
  /**
   * Returns the host at which the control connection reaches or last reached this agent: "203.0.113.7" or
   * "[2001:db8::7]".
   */
  readonly host: (entry: AgentView) => string | undefined
  /**
   * Returns the endpoint that WireGuard used, with a young handshake, when this agent started. It counts while no
   * control connection has reached the agent, so that a restart does not move the tunnel.
   */
  readonly found: (entry: AgentView) => PeerAddress | undefined
}

/**
 * Returns the view with the WireGuard addresses of each agent in order of preference. An agent of which nothing is
 * known keeps the order in which it offers its addresses.
 */
export function reachedFirst(view: MeshView, facts: ReachedFacts): MeshView {
  const clusters = [...view.clusters].map(([name, cluster]) => {
    const agents = cluster.agents.map((entry) => withReachedFirst(entry, facts))
    return [name, { ...cluster, agents }] as const
  })
  return { ...view, clusters: new Map(clusters) }
}

function withReachedFirst(entry: AgentView, facts: ReachedFacts): AgentView {
  const host = facts.host(entry)
  const found = facts.found(entry)
  const offered = entry.agent.wireguardAddresses
  const isReached = (address: PeerAddress) =>
    host === undefined ? address === found : address.startsWith(`${host}:`)
  const reached = offered.filter(isReached)
  if (reached.length === 0) return entry
  const rest = offered.filter((address) => !reached.includes(address))
  return { ...entry, agent: { ...entry.agent, wireguardAddresses: [...reached, ...rest] } }
}

/**
 * Returns "203.0.113.7" of "/ip4/203.0.113.7/tcp/7946…"; an IPv6 address in brackets, as in a PeerAddress. undefined
 * when there is no multiaddr of an address.
 */
export function peerHostOf(multiaddr: string | undefined): string | undefined {
  const [, kind, host] = /^\/(ip4|ip6)\/([^/]+)/.exec(multiaddr ?? '') ?? []
  return kind === 'ip6' && host !== undefined ? `[${host}]` : host
}
