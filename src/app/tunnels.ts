// The state of every tunnel, judged once a second from what WireGuard and the probes say. Bounded by the members of the view.
import { tunnelState, withdrawn, type TunnelState } from '../core/liveness.ts'
import type { PeerStats } from '../core/host.ts'
import type { ClusterName, Ip, Origin } from '../core/model.ts'
import type { MeshView } from '../core/view.ts'
import type { ProbeResult } from '../io/probe/probe.ts'

export type Tunnel = TunnelState & {
  readonly rttMs: number | undefined
  readonly stats: PeerStats | undefined
}

export interface TunnelsInput {
  readonly view: MeshView
  readonly self: Origin
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

  update(input: TunnelsInput): void {
    const { view, self, stats, nowMs } = input
    const byKey = new Map(stats.map((entry) => [entry.publicKey, entry]))
    const members = [...view.clusters.values()]
      .flatMap((cluster) => cluster.agents)
      .filter(({ origin }) => origin !== self)
    const present = new Set(members.map(({ origin }) => origin))
    for (const origin of this.#seen.keys()) if (!present.has(origin)) this.#seen.delete(origin)
    for (const { origin, agent } of members) {
      const before = this.#seen.get(origin)
      const firstMs = before?.firstMs ?? nowMs
      const silentMs = input.silentMs(origin)
      const heardMs = silentMs === undefined ? (before?.heardMs ?? nowMs) : nowMs - silentMs
      const probe = agent.tunnelAddress === undefined ? undefined : input.probe(agent.tunnelAddress)
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
      const tunnel: Tunnel = { ...state, rttMs: probe?.rttMs, stats: own }
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
