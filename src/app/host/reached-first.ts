// Which of the addresses that an agent offers the tunnel is sent to: the one where the agent was reached comes first.
import type { PeerAddress } from '../../core/model/values.ts'
import type { AgentView, MeshView } from '../../core/view/view.ts'

export interface ReachedFacts {
  /** The host where the control connection reaches or last reached this agent: "203.0.113.7" or "[2001:db8::7]". */
  readonly host: (entry: AgentView) => string | undefined
  /** The endpoint that WireGuard used, with a young handshake, when this agent started: a restart must not move it. */
  readonly found: (entry: AgentView) => PeerAddress | undefined
}

/** The view with the WireGuard addresses of each agent in order of preference. */
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

/** "203.0.113.7" of "/ip4/203.0.113.7/tcp/7946…"; IPv6 in brackets, as in a peer address. */
export function peerHostOf(multiaddr: string | undefined): string | undefined {
  const [, kind, host] = /^\/(ip4|ip6)\/([^/]+)/.exec(multiaddr ?? '') ?? []
  return kind === 'ip6' && host !== undefined ? `[${host}]` : host
}
