// The state of every tunnel, judged once a second from what WireGuard and the probes say. Bounded by the members of the view.
// Invariant: `down` is the one value that names, feed, routes and balancer follow; it is made here from src/core/host/tunnel-state.ts.
import { CONNECT_MS_MAX, isDown, tunnelState, type TunnelState } from '../../core/host/tunnel-state.ts'
import type { PeerStats } from '../../core/host/host-state.ts'
import type { AgentValue, ClusterName, Ip, Origin } from '../../core/model/values.ts'
import { outerOf } from '../../core/host/surroundings.ts'
import type { AgentView, MeshView } from '../../core/view/view.ts'
import type { ProbeResult } from '../../io/probe/probe.ts'

export type Tunnel = TunnelState & {
  readonly rttMs: number | undefined
  readonly stats: PeerStats | undefined
  /** Bytes that the path carries, where that is less than the tunnel's MTU; `below`: less than any tunnel may have. */
  readonly pathMtu: number | undefined
  readonly isBelowMtu: boolean
  /** WireGuard works and no probe is ever answered. */
  readonly isUnprobed: boolean
}

export interface TunnelsInput {
  readonly view: MeshView
  readonly stats: readonly PeerStats[]
  /** Monotonic, as the probes' replies are. */
  readonly nowMs: number
  /** undefined: this agent probes nothing. */
  readonly probe: ((address: Ip) => ProbeResult | undefined) | undefined
}

interface Seen {
  readonly firstMs: number
  tunnel: Tunnel
  /** When the bytes received from it last grew, as far as looks once a second show it. */
  receivedMs: number | undefined
  refusalMs: number | undefined
}

/** A refusal is the far kernel's only if something came out of the tunnel at about that time. */
const REFUSAL_RECEIVED_MS = 3_000

export class Tunnels {
  readonly #keepaliveSeconds: number
  readonly #seen = new Map<Origin, Seen>()
  /** Clusters without a gateway, and since when. */
  readonly #bare = new Map<ClusterName, number>()
  #down: ReadonlySet<ClusterName> = new Set()

  constructor(keepaliveSeconds: number) {
    this.#keepaliveSeconds = keepaliveSeconds
  }

  of(origin: Origin): Tunnel | undefined {
    return this.#seen.get(origin)?.tunnel
  }

  /** Which of a cluster's gateways is to be used. */
  health(origin: Origin): TunnelState['state'] {
    return this.of(origin)?.state ?? 'connecting'
  }

  pathMtu(origin: Origin): number | undefined {
    return this.of(origin)?.pathMtu
  }

  /** Clusters none of whose tunnels works. */
  get down(): ReadonlySet<ClusterName> {
    return this.#down
  }

  update(input: TunnelsInput): void {
    const { view, stats } = input
    const byKey = new Map(stats.map((entry) => [entry.publicKey, entry]))
    // Between gateways of one cluster there is no tunnel.
    const others = [...view.clusters.values()].filter((cluster) => cluster.name !== view.self)
    const members = others.flatMap((cluster) => cluster.agents)
    const bearers = Map.groupBy(members, ({ agent }) => agent.tunnelAddress)
    const present = new Set(members.map(({ origin }) => origin))
    for (const origin of this.#seen.keys()) if (!present.has(origin)) this.#seen.delete(origin)
    for (const member of members) {
      const isShared = bearers.get(member.agent.tunnelAddress)?.length !== 1
      this.#judge(member, byKey.get(member.agent.wireguardKey), { ...input, isShared })
    }
    this.#down = new Set(
      others.filter((cluster) => this.#isDown(cluster, input.nowMs)).map((cluster) => cluster.name)
    )
    for (const name of this.#bare.keys()) if (!view.clusters.has(name)) this.#bare.delete(name)
  }

  #judge(
    { origin, agent }: AgentView,
    stats: PeerStats | undefined,
    { nowMs, probe, isShared }: TunnelsInput & { readonly isShared: boolean }
  ): void {
    const before = this.#seen.get(origin)
    const firstMs = before?.firstMs ?? nowMs
    const known = before?.tunnel.stats
    const grew = stats !== undefined && known !== undefined && stats.rxBytes > known.rxBytes
    const receivedMs = grew ? nowMs : before?.receivedMs
    const isProbed = probe !== undefined && !isShared && answersProbes(agent)
    const result = isProbed && agent.tunnelAddress !== undefined ? probe(agent.tunnelAddress) : undefined
    const refused = result?.lastRefusalMs
    const isFarRefusal =
      refused !== undefined &&
      receivedMs !== undefined &&
      Math.abs(receivedMs - refused) <= REFUSAL_RECEIVED_MS
    const refusalMs = isFarRefusal ? refused : before?.refusalMs
    const state = tunnelState({
      nowMs,
      firstSeenMs: firstMs,
      isProbed,
      lastReplyMs: result?.lastReplyMs,
      lastRefusalMs: refusalMs,
      // A refusal that was not the far kernel's answers nothing.
      unanswered: refused !== undefined && refused !== refusalMs ? Infinity : (result?.unanswered ?? 0),
      // The kernel tells the time of day.
      lastHandshakeMs: stats?.lastHandshakeMs && nowMs - (Date.now() - stats.lastHandshakeMs),
      lastReceivedMs: receivedMs,
      keepaliveSeconds: this.#keepaliveSeconds
    })
    const tunnel: Tunnel = {
      ...state,
      rttMs: result?.rttMs,
      stats,
      pathMtu: result?.path?.found,
      isBelowMtu: result?.path?.verdict === 'below',
      isUnprobed: isProbed && state.state === 'connecting' && nowMs - firstMs > CONNECT_MS_MAX
    }
    this.#seen.set(origin, { firstMs, tunnel, receivedMs, refusalMs })
  }

  #isDown(
    { name, agents }: { readonly name: ClusterName; readonly agents: readonly AgentView[] },
    nowMs: number
  ) {
    const gateways = agents.filter(({ agent }) => agent.role === 'gateway')
    if (gateways.length > 0) {
      this.#bare.delete(name)
      return isDown(gateways.map(({ origin }) => this.health(origin)))
    }
    // Its records may be on their way: a cluster is known by its certificate first.
    const sinceMs = this.#bare.get(name) ?? nowMs
    this.#bare.set(name, sinceMs)
    return nowMs - sinceMs > CONNECT_MS_MAX
  }
}

/** Where its tunnel address is one of its outer addresses, packets to it do not go through the tunnel. */
export function answersProbes(agent: AgentValue): boolean {
  const { tunnelAddress } = agent
  return tunnelAddress !== undefined && agent.probePort !== 0 && !outerOf(agent).includes(tunnelAddress)
}
