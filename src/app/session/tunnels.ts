// The state of every tunnel, judged once a second from what WireGuard and the probes report
// (core/host/tunnel-state.ts has the rules). Bounded by the members of the view.
// Invariant: `down` is the one value that names, feed, routes and load balancer follow, through PathWatch.withdrawn.
import {
  CONNECT_MS_MAX,
  isDown,
  isSilent,
  silence,
  tunnelState,
  type GatewayHealth,
  type TunnelFacts,
  type TunnelState
} from '../../core/host/tunnel-state.ts'
import { NO_HISTORY, withState, type TunnelHistory } from '../../core/host/flapping.ts'
import type { PeerStats } from '../../core/host/host-state.ts'
import type { ClusterName, Ip, Origin, Role, WireguardKey } from '../../core/model/values.ts'
import { gatewaysOf, tunnelAgents } from '../../core/host/nodes.ts'
import { outerOf } from '../../core/host/surroundings.ts'
import { isCarrierAddress } from '../../core/host/tunnel-path.ts'
import type { AgentView, MeshView, ProvedAgent } from '../../core/view/view.ts'
import type { ProbeResult } from '../../io/probe/probe.ts'
import type { Answers } from '../paths/tunnel-paths.ts'

/** The state of the tunnel to one agent, with what it was judged from. */
export type Tunnel = TunnelState & {
  /** The least of the latest round trips through the tunnel, milliseconds; undefined: not measured. */
  readonly rttMs: number | undefined
  /** Their median; undefined: not measured. */
  readonly medianRttMs: number | undefined
  /** The counters of WireGuard; undefined: it has no such peer, a gateway carries it, or they could not be read. */
  readonly stats: PeerStats | undefined
  /** Bytes that the path carries, when that is less than the tunnel's MTU; else undefined. */
  readonly pathMtu: number | undefined
  /** True: the path carries less than the 1280 bytes that any tunnel must carry (RFC 8200). */
  readonly isBelowMtu: boolean
  /** True: WireGuard has a handshake, but no probe was ever answered. */
  readonly isUnprobed: boolean
  /** How often the tunnel has changed between up and down in the last 10 min (core/host/flapping.ts). */
  readonly changes: number
}

/** The facts from which all tunnels are judged. */
interface TunnelsInput {
  readonly view: MeshView
  /** This agent; left out: no agent of its own cluster has a tunnel with it. */
  readonly self?: { readonly origin: Origin; readonly role: Role }
  /**
   * On a node: the WireGuard key of the gateway by which it reaches a cluster. The tunnels to that cluster begin there.
   */
  readonly carrier?: (cluster: ClusterName) => WireguardKey | undefined
  readonly stats: readonly PeerStats[]
  /** Monotonic milliseconds, on the clock of the probes' results. */
  readonly nowMs: number
  /** Returns the result of the probes to a tunnel address; undefined: this agent probes nothing. */
  readonly probe: ((address: Ip) => ProbeResult | undefined) | undefined
}

/** The facts of one agent that are kept from one judgement to the next. */
interface Seen {
  /** Monotonic time when the agent was first in the view. */
  readonly firstMs: number
  tunnel: Tunnel
  /** The latest counters of the WireGuard peer by which packets of the agent come, and when they were read. */
  readonly counted: { readonly stats: PeerStats; readonly atMs: number } | undefined
  /** Between which two readings the bytes received from that peer last grew. On a busy host they are seconds apart. */
  readonly received: { readonly fromMs: number; readonly toMs: number } | undefined
  /** Monotonic time at which the kernel at the other end last refused a probe. */
  refusalMs: number | undefined
  /** Monotonic time at which the gateway was last silent. */
  readonly silentMs: number | undefined
  readonly answers: Answers
  history: TunnelHistory
}

/**
 * Milliseconds. A refused probe (ECONNREFUSED) may come from this host itself. It counts as a refusal by the kernel
 * at the other end only when bytes came out of the tunnel at most this long before or after.
 */
const REFUSAL_RECEIVED_MS = 3_000

/** The tunnels of one session. `keepaliveSeconds`: from the settings; 0: an idle tunnel has no handshakes. */
export class Tunnels {
  readonly #keepaliveSeconds: number
  readonly #seen = new Map<Origin, Seen>()
  /** Clusters without a gateway, with the monotonic time since when. */
  readonly #bare = new Map<ClusterName, number>()
  #down: ReadonlySet<ClusterName> = new Set()
  #judgedMs = 0

  constructor(keepaliveSeconds: number) {
    this.#keepaliveSeconds = keepaliveSeconds
  }

  /** Returns the tunnel to an agent; undefined: there is none, or it was not judged yet. */
  of(origin: Origin): Tunnel | undefined {
    return this.#seen.get(origin)?.tunnel
  }

  /** Returns the state of the tunnel to an agent. One that was not judged yet is `connecting`. */
  health(origin: Origin): TunnelState['state'] {
    return this.of(origin)?.state ?? 'connecting'
  }

  /** The same for the choice among the gateways of a cluster, as of the latest judgement. */
  choice(origin: Origin): GatewayHealth {
    const health = this.health(origin)
    return health === 'up' && isSilent(this.#judgedMs, this.#seen.get(origin)?.silentMs) ? 'silent' : health
  }

  /** Returns what is known of the answers through a tunnel, for the choice of its path. */
  answers(origin: Origin): Answers {
    return this.#seen.get(origin)?.answers ?? { lastAnswerMs: undefined, unanswered: 0, isProbed: true }
  }

  /** Returns the bytes that the path carries, when that is less than the tunnel's MTU; else undefined. */
  pathMtu(origin: Origin): number | undefined {
    return this.of(origin)?.pathMtu
  }

  /** Clusters whose tunnels are all down, and clusters that have had no gateway for longer than CONNECT_MS_MAX. */
  get down(): ReadonlySet<ClusterName> {
    return this.#down
  }

  /** Judges all tunnels. Agents and clusters that left the view are forgotten. */
  update(input: TunnelsInput): void {
    const { view, stats, self, carrier } = input
    this.#judgedMs = input.nowMs
    const byKey = new Map(stats.map((entry) => [entry.publicKey, entry]))
    const others = [...view.clusters.values()].filter((cluster) => cluster.name !== view.self)
    const members = tunnelAgents(view, self?.origin, self?.role ?? 'gateway')
    const keys = new Map(
      others.flatMap(({ name, agents }) => agents.map(({ origin }) => [origin, carrier?.(name)] as const))
    )
    const bearers = Map.groupBy(members, ({ agent }) => agent.tunnelAddress)
    const present = new Set(members.map(({ origin }) => origin))
    for (const origin of this.#seen.keys()) if (!present.has(origin)) this.#seen.delete(origin)
    for (const member of members) {
      const isShared = bearers.get(member.agent.tunnelAddress)?.length !== 1
      const key = keys.get(member.origin)
      const stats = byKey.get(key ?? member.agent.wireguardKey)
      this.#judge(member, stats, { ...input, isShared, isCarried: key !== undefined })
    }
    this.#down = new Set(
      others.filter((cluster) => this.#isDown(cluster, input.nowMs)).map((cluster) => cluster.name)
    )
    for (const name of this.#bare.keys()) if (!view.clusters.has(name)) this.#bare.delete(name)
  }

  /**
   * Judges one tunnel. `isShared`: another agent has the same tunnel address, so answers from it prove neither
   * tunnel. `isCarried`: the tunnel begins at a gateway of this cluster, and `stats` are those of the peer to it.
   */
  #judge(
    { origin, agent }: AgentView,
    stats: PeerStats | undefined,
    {
      nowMs,
      probe,
      isShared,
      isCarried
    }: TunnelsInput & { readonly isShared: boolean; readonly isCarried: boolean }
  ): void {
    const before = this.#seen.get(origin)
    const firstMs = before?.firstMs ?? nowMs
    const received = growth(before, stats, nowMs)
    const isProbed = probe !== undefined && !isShared && answersProbes(agent)
    const result = isProbed && agent.tunnelAddress !== undefined ? probe(agent.tunnelAddress) : undefined
    const refused = result?.lastRefusalMs
    const isFarRefusal =
      refused !== undefined &&
      received !== undefined &&
      refused >= received.fromMs - REFUSAL_RECEIVED_MS &&
      refused <= received.toMs + REFUSAL_RECEIVED_MS
    const refusalMs = isFarRefusal ? refused : before?.refusalMs
    const facts = {
      nowMs,
      firstSeenMs: firstMs,
      isProbed,
      lastReplyMs: result?.lastReplyMs,
      lastRefusalMs: refusalMs,
      // Each refusal resets the prober's number of unanswered probes. If the refusal does not count here, the number is
      // too low, so Infinity takes its place, and the age of the last answer alone decides.
      unanswered: refused !== undefined && refused !== refusalMs ? Infinity : (result?.unanswered ?? 0),
      // The kernel tells the handshake in the time of day; it is converted to the monotonic clock.
      lastHandshakeMs: stats?.lastHandshakeMs && nowMs - (Date.now() - stats.lastHandshakeMs),
      lastReceivedMs: received?.toMs,
      keepaliveSeconds: this.#keepaliveSeconds
    }
    const state = tunnelState(facts)
    const history = withState(before?.history ?? NO_HISTORY, state.state, nowMs)
    const tunnel: Tunnel = {
      ...state,
      rttMs: result?.rttMs,
      medianRttMs: result?.medianRttMs,
      stats: isCarried ? undefined : withoutCarrier(stats),
      pathMtu: result?.path?.found,
      isBelowMtu: result?.path?.verdict === 'below',
      isUnprobed: isProbed && state.state === 'connecting' && nowMs - firstMs > CONNECT_MS_MAX,
      changes: history.changesMs.length
    }
    const silentMs = silence(facts, before?.silentMs)
    const answers = answersOf(facts)
    const counted = stats === undefined ? before?.counted : { stats, atMs: nowMs }
    this.#seen.set(origin, { firstMs, tunnel, counted, received, refusalMs, silentMs, answers, history })
  }

  /**
   * Returns whether all tunnels to a cluster are down. A cluster without a gateway counts as down after
   * CONNECT_MS_MAX.
   */
  #isDown(cluster: { readonly name: ClusterName; readonly agents: readonly AgentView[] }, nowMs: number) {
    const { name } = cluster
    const gateways = gatewaysOf(cluster)
    if (gateways.length > 0) {
      this.#bare.delete(name)
      return isDown(gateways.map(({ origin }) => this.health(origin)))
    }
    // A cluster is known by its certificate first, and its records may still be on their way.
    const sinceMs = this.#bare.get(name) ?? nowMs
    this.#bare.set(name, sinceMs)
    return nowMs - sinceMs > CONNECT_MS_MAX
  }
}

/** The latest answer of any kind. A peer without probes is heard by its bytes, and first by its handshake. */
function answersOf(facts: TunnelFacts): Answers {
  const { isProbed, lastReplyMs, lastRefusalMs, lastReceivedMs, lastHandshakeMs, unanswered } = facts
  const times = isProbed ? [lastReplyMs, lastRefusalMs] : [lastReceivedMs, lastHandshakeMs]
  const known = times.filter((time) => time !== undefined)
  return {
    isProbed,
    lastAnswerMs: known.length === 0 ? undefined : Math.max(...known),
    unanswered: isProbed ? unanswered : Infinity
  }
}

/** A socket of this agent on loopback is no address of the peer. */
function withoutCarrier(stats: PeerStats | undefined): PeerStats | undefined {
  return stats !== undefined && isCarrierAddress(stats.peerAddress)
    ? { ...stats, peerAddress: undefined }
    : stats
}

/** Returns when bytes were last received: since the reading before, if the counter of the same peer has grown. */
function growth(before: Seen | undefined, stats: PeerStats | undefined, nowMs: number): Seen['received'] {
  const known = before?.counted
  const isSame = stats !== undefined && stats.publicKey === known?.stats.publicKey
  const hasGrown = isSame && stats.rxBytes > known.stats.rxBytes
  return hasGrown ? { fromMs: known.atMs, toMs: nowMs } : before?.received
}

/**
 * Returns whether an agent can be probed. When its tunnel address is also one of its outer addresses, packets to it
 * do not go through the tunnel, so an answer would prove nothing.
 */
export function answersProbes(agent: ProvedAgent): boolean {
  const { tunnelAddress } = agent
  return tunnelAddress !== undefined && agent.probePort !== 0 && !outerOf(agent).includes(tunnelAddress)
}
