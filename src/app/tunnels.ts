// The state of every tunnel, judged once a second from what WireGuard and the probes say. Bounded by the members of the view.
import { tunnelState, withdrawn, type TunnelState } from '../core/liveness.ts'
import type { PeerStats } from '../core/host.ts'
import type { ClusterName, Ip, Origin } from '../core/model.ts'
import type { MeshView } from '../core/view.ts'
import type { ProbeResult } from '../io/probe/probe.ts'

export type Tunnel = TunnelState & {
  /** False: it should answer probes, and has not yet; what WireGuard says may be of the time before this agent started. */
  readonly isProven: boolean
  readonly rttMs: number | undefined
  readonly stats: PeerStats | undefined
}

export interface TunnelsInput {
  readonly view: MeshView
  readonly stats: readonly PeerStats[]
  /** Monotonic, as the probes' replies are. */
  readonly nowMs: number
  readonly probe: (address: Ip) => ProbeResult | undefined
  /** Since the last frame on the control connection; undefined: there is none. */
  readonly silentMs: (origin: Origin) => number | undefined
}

interface Seen {
  readonly firstMs: number
  heardMs: number
  tunnel: Tunnel
  /** When the bytes received from it last grew, as far as looks once a second show it. */
  receivedMs: number | undefined
  /** It left nothing behind when it went: judged anew from then on. */
  gossipSilentMs: number
}

export class Tunnels {
  readonly #keepaliveSeconds: number
  readonly #seen = new Map<Origin, Seen>()

  constructor(keepaliveSeconds: number) {
    this.#keepaliveSeconds = keepaliveSeconds
  }

  of(origin: Origin): Tunnel | undefined {
    return this.#seen.get(origin)?.tunnel
  }

  /** Which of a cluster's gateways is to be used. */
  health(origin: Origin): TunnelState['state'] {
    const tunnel = this.of(origin)
    if (tunnel === undefined) return 'connecting'
    return tunnel.state === 'up' && !tunnel.isProven ? 'connecting' : tunnel.state
  }

  update(input: TunnelsInput): void {
    const { view, stats, nowMs } = input
    const byKey = new Map(stats.map((entry) => [entry.publicKey, entry]))
    // Between gateways of one cluster there is no tunnel.
    const members = [...view.clusters.values()]
      .filter((cluster) => cluster.name !== view.self)
      .flatMap((cluster) => cluster.agents)
    const bearers = Map.groupBy(members, ({ agent }) => agent.tunnelAddress)
    const present = new Set(members.map(({ origin }) => origin))
    for (const origin of this.#seen.keys()) if (!present.has(origin)) this.#seen.delete(origin)
    for (const { origin, agent } of members) {
      const before = this.#seen.get(origin)
      const firstMs = before?.firstMs ?? nowMs
      const silentMs = input.silentMs(origin)
      const heardMs = silentMs === undefined ? (before?.heardMs ?? nowMs) : nowMs - silentMs
      // Whose answer it is cannot be told where two agents have one address.
      const address = bearers.get(agent.tunnelAddress)?.length === 1 ? agent.tunnelAddress : undefined
      const probe = address === undefined ? undefined : input.probe(address)
      const own = byKey.get(agent.wireguardKey)
      const known = before?.tunnel.stats
      const grew = own !== undefined && known !== undefined && own.rxBytes > known.rxBytes
      const receivedMs = grew ? nowMs : before?.receivedMs
      const state = tunnelState({
        nowMs,
        firstSeenMs: firstMs,
        // The kernel tells the time of day.
        lastHandshakeMs: own?.lastHandshakeMs && nowMs - (Date.now() - own.lastHandshakeMs),
        lastProbeReplyMs: probe?.lastReplyMs,
        lastReceivedMs: receivedMs,
        keepaliveSeconds: this.#keepaliveSeconds
      })
      const isProven = address === undefined || agent.probePort === 0 || probe?.lastReplyMs !== undefined
      const tunnel: Tunnel = { ...state, isProven, rttMs: probe?.rttMs, stats: own }
      this.#seen.set(origin, { firstMs, heardMs, tunnel, receivedMs, gossipSilentMs: nowMs - heardMs })
    }
  }

  /** Clusters whose every gateway is dead by tunnel and by gossip. */
  withdrawn(view: MeshView): ReadonlySet<ClusterName> {
    const dead = [...view.clusters.values()].filter((cluster) => {
      if (cluster.name === view.self) return false
      const gateways = cluster.agents
        .filter(({ agent }) => agent.role === 'gateway')
        .map(({ origin }) => this.#seen.get(origin))
      if (gateways.some((gateway) => gateway === undefined)) return false // not judged yet
      return withdrawn(
        gateways.flatMap((gateway) =>
          gateway === undefined
            ? []
            : [{ tunnel: gateway.tunnel.state, gossipSilentMs: gateway.gossipSilentMs }]
        )
      )
    })
    return new Set(dead.map((cluster) => cluster.name))
  }
}
