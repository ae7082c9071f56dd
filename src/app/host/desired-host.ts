// Computes what the host should be from what this agent knows now, for the reconciler (reconciler.ts) and for
// `meshctl plan`. It collects the inputs of the pure function core/host/desired.ts: view, own facts, tunnel states,
// surroundings, settings.
import { Balancer } from '../../core/host/balance.ts'
import { desiredWithin, type DesiredInput, type HostSettings } from '../../core/host/desired.ts'
import type { HostOp } from '../../core/host/host-state.ts'
import { REACHABLE_MAX, refusalText, type LimitRefusal } from '../../core/host/host-limits.ts'
import { TURN_MS } from '../../core/host/handshake-slots.ts'
import { EMPTY_HOST } from '../../core/host/normalize.ts'
import { keyHolders } from '../../core/host/key-holders.ts'
import type { TurnOf } from '../../core/host/nodes.ts'
import { HANDSHAKE_AGE_MS_MAX } from '../../core/host/tunnel-state.ts'
import type { Cidr, ClusterName, Origin, PeerAddress, WireguardKey } from '../../core/model/values.ts'
import { clustersOfOps } from '../../core/host/op-clusters.ts'
import { plan } from '../../core/host/plan.ts'
import type { Translation } from '../../core/model/translation.ts'
import type { Surroundings } from '../../core/host/surroundings.ts'
import type { AgentView, MeshView } from '../../core/view/view.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import { loadBalancerKind } from '../../io/host/load-balancer/registry.ts'
import type { Control } from '../control/control.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Health } from '../observe/health.ts'
import type { Balancing } from '../session/balancing.ts'
import type { LocalFacts } from '../session/local-facts.ts'
import type { Desired } from './pass.ts'
import { roleOf } from '../settings/role.ts'
import type { Settings } from '../settings/settings.ts'
import { sourceKind } from '../sources/source.ts'
import type { Tunnels } from '../session/tunnels.ts'
import { FollowedEndpoints } from './followed-endpoints.ts'
import { peerHostOf, reachedFirst } from './reached-first.ts'
import type { TunnelMtu } from './tunnel-mtu.ts'

// The deadline of the one call of a tool that reads the peers of WireGuard.
const STATS_DEADLINE_MS = 5000

/** The inputs. Functions are called again for each computation, since their values change. */
export interface DesiredHostOptions {
  readonly control: Pick<Control, 'origin' | 'view' | 'neighbour' | 'isWhole' | 'members'>
  /** undefined: no data plane on this machine; the plan is still made. */
  readonly host: LinuxHost | undefined
  readonly settings: Settings
  /** Returns the key that the tunnel device is to have. */
  readonly wireguardKey: () => WireguardKey
  readonly health: Health
  readonly tunnels: () => Pick<Tunnels, 'choice' | 'health' | 'pathMtu' | 'of'>
  /** To which address WireGuard sends for an agent; undefined: to the first of those that it publishes. */
  readonly peerAddress: (origin: Origin) => PeerAddress | undefined
  /** On a node: how often it has gone on to the next gateway for a cluster. */
  readonly turnOf: TurnOf
  readonly mtu: Pick<TunnelMtu, 'bytes'>
  /** False until a member has accepted this agent. Until then nothing on the host is changed. */
  readonly isAdmitted: () => boolean
  readonly facts: () => LocalFacts
  /** Between the addresses of this cluster in the mesh and its real ones, which the view has. */
  readonly translation: () => Translation
  /** Networks and addresses that this host reaches without the mesh. undefined: not read yet, so nothing is routed. */
  readonly surroundings: () => Surroundings | undefined
  /** Whether all tunnels to a cluster are down. */
  readonly isWithdrawn: (cluster: ClusterName) => boolean
  readonly balancing: Pick<Balancing, 'prefix' | 'services' | 'facts' | 'place'>
}

/** The desired state of one host. It remembers which addresses of peers have worked. */
export class DesiredHost {
  readonly #options: DesiredHostOptions
  readonly #balancer = new Balancer()
  /**
   * For each agent, the host of the address at which its control connection last reached it. Bounded by the members.
   */
  readonly #reached = new Map<Origin, string>()
  /** Endpoints that WireGuard had when this agent started, by public key (`findEndpoints`). */
  #found: ReadonlyMap<string, PeerAddress> = new Map()
  #refused: readonly LimitRefusal[] = []
  readonly #followed: FollowedEndpoints
  #keyHolders: ReadonlyMap<WireguardKey, Origin> = new Map()
  /** For each gateway whose tunnel was up, the addresses that it published then. Bounded by the members. */
  readonly #proven = new Map<Origin, string>()

  constructor(options: DesiredHostOptions) {
    this.#options = options
    this.#followed = new FollowedEndpoints((origin) => options.tunnels().of(origin)?.stats?.peerAddress)
  }

  /**
   * Reads the endpoints of a tunnel that an earlier run of the agent left. An endpoint counts only with a handshake
   * younger than 180 s (HANDSHAKE_AGE_MS_MAX), which proves that packets passed in both directions. Called once,
   * before the first pass: a restart must not move a tunnel to another address.
   */
  async findEndpoints(stopping: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([stopping, AbortSignal.timeout(STATS_DEADLINE_MS)])
    const stats = (await this.#options.host?.peerStats(signal).catch(() => undefined)) ?? []
    // The kernel gives the time of a handshake as Unix time, so the monotonic clock cannot be used here.
    const youngMs = Date.now() - HANDSHAKE_AGE_MS_MAX
    this.#found = new Map(
      stats.flatMap(({ publicKey, peerAddress, lastHandshakeMs = 0 }) =>
        peerAddress === undefined || lastHandshakeMs < youngMs ? [] : [[publicKey, peerAddress] as const]
      )
    )
  }

  /**
   * Returns the desired state. undefined: not enough is known yet, and the host is left alone. Called by each pass.
   * Sets the fault LOAD_BALANCER_LIMIT for services that do not fit the limits of a host.
   */
  current(): Desired | undefined {
    const { control, isAdmitted, health } = this.#options
    const view = control.view()
    const surroundings = this.#options.surroundings()
    if (!isAdmitted() || !view.clusters.has(view.self) || surroundings === undefined) return undefined
    // The Balancer returns the same list while the refusals stay the same, so they are reported only when they
    // change.
    const { host: want, refused, unreachable } = desiredWithin(this.#input(surroundings), this.#balancer)
    health.replace('REACH_LIMIT', unreachable === 0 ? [] : [reachFault(unreachable)])
    if (refused !== this.#refused) health.replace('LOAD_BALANCER_LIMIT', refused.map(limitFault))
    this.#refused = refused
    return { want, keeps: control.isWhole ? this.#incomplete(view) : 'all', clusterOf: clustersOfOps(view) }
  }

  /**
   * The prefixes of the clusters of which a record may still arrive, or may be missing only on this disk. A cluster whose
   * agents were ended is none of them: its tunnel has to end although no agent can complete its catalogue.
   */
  #incomplete({ clusters, self }: MeshView): readonly Cidr[] {
    const { control, translation } = this.#options
    const { members } = control
    const { toReal } = translation()
    return [...clusters.values()].flatMap(({ name, complete, agents }) => {
      const settled = complete ? undefined : members.settlement().get(name)
      const isEnded =
        settled !== undefined && agents.length === 0 && members.hasEndedAgent(settled.clusterKey)
      if (settled === undefined || isEnded) return []
      const prefixes = [...settled.podPrefixes, ...settled.servicePrefixes]
      return name === self ? prefixes.map((cidr) => toReal.cidr(cidr)) : prefixes
    })
  }

  /**
   * Returns all operations that would be applied to an empty host. `meshctl plan` shows them when there is no data
   * plane.
   */
  paperPlan(): readonly HostOp[] {
    const desired = this.current()
    return desired === undefined ? [] : plan(desired.want, EMPTY_HOST)
  }

  #input(surroundings: Surroundings): DesiredInput {
    const { control, wireguardKey, settings, tunnels, facts } = this.#options
    const { isWithdrawn, turnOf, translation, balancing, peerAddress } = this.#options
    const view = control.view()
    const { nodeAddress } = facts()
    this.#keyHolders = keyHolders(view, this.#keyHolders)
    return {
      keyHolders: this.#keyHolders,
      view: reachedFirst(this.#followed.follow(view), {
        host: ({ origin }) => this.#hostOf(origin),
        found: ({ agent }) => this.#found.get(agent.wireguardKey)
      }),
      self: { origin: control.origin, cluster: view.self },
      role: roleOf(settings),
      turnOf,
      peerAddress,
      local: {
        publicKey: wireguardKey(),
        nodeAddress,
        probePort: nodeAddress === undefined ? 0 : settings['probe-port']
      },
      health: (cluster) => (isWithdrawn(cluster) ? 'withdrawn' : 'up'),
      gatewayHealth: (origin) => tunnels().choice(origin),
      handshakes: {
        isProven: (gateway) => this.#isProven(gateway),
        turn: Math.floor(monotonicMs() / TURN_MS)
      },
      pathMtu: (origin) => tunnels().pathMtu(origin),
      surroundings,
      translated: translation().pods,
      balanced: { prefix: balancing.prefix, services: balancing.services(), rttMs: balancing.facts().rttMs },
      place: balancing.place(),
      settings: this.#hostSettings()
    }
  }

  /**
   * Whether a gateway has answered at its present addresses: since this agent started, or, in a tunnel that an earlier
   * run left, shortly before.
   */
  #isProven({ origin, agent }: AgentView): boolean {
    const addresses = agent.wireguardAddresses.toSorted().join(' ')
    const found = this.#found.get(agent.wireguardKey)
    const isUp = this.#options.tunnels().health(origin) === 'up'
    if (isUp) this.#proven.set(origin, addresses)
    const wasFound = found !== undefined && agent.wireguardAddresses.includes(found)
    return isUp || wasFound || this.#proven.get(origin) === addresses
  }

  /**
   * Returns the host ("203.0.113.7", "[2001:db8::7]") at which the control connection reaches or last reached the
   * agent.
   */
  #hostOf(origin: Origin): string | undefined {
    const host = peerHostOf(this.#options.control.neighbour(origin)?.address)
    if (host !== undefined) this.#reached.set(origin, host)
    return host ?? this.#reached.get(origin)
  }

  #hostSettings(): HostSettings {
    const { settings, host, mtu } = this.#options
    return {
      device: settings.device,
      listenPort: settings['wireguard-port'],
      mtu: mtu.bytes,
      balanceLocal: balancesOwn(settings),
      keepaliveSeconds: settings['keepalive-seconds'],
      scheduler: settings.scheduler,
      reach: settings.reach,
      reachClusters: settings['reach-clusters'],
      loadBalancerSysctls: loadBalancerKind(host?.loadBalancer ?? '')?.sysctls ?? []
    }
  }
}

/**
 * A refused part of one service is a warning; a whole service that is refused for its namespace, its cluster or the
 * host is an error.
 */
function limitFault(refusal: LimitRefusal) {
  return { ...refusalText(refusal), severity: refusal.scope === 'service' ? 'warning' : 'error' } as const
}

function reachFault(unreachable: number) {
  return {
    subject: '',
    severity: 'error' as const,
    message: `other clusters do not reach ${unreachable} of the endpoints of this cluster: with reach: services, at most ${REACHABLE_MAX} are open`,
    fix: 'export fewer services (settings export…), or set reach: pods and use NetworkPolicies'
  }
}

/** Whether this host balances the services of its own cluster, too. In Kubernetes, kube-proxy does it. */
export function balancesOwn(settings: Settings): boolean {
  return settings['balance-local'] === 'auto'
    ? sourceKind(settings) === 'folder'
    : settings['balance-local'] === 'on'
}
