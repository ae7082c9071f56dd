// What the host should be by what this agent knows now, for the reconciler (reconciler.ts) and for `meshctl plan`.
import { Balancer } from '../../core/host/balance.ts'
import { desiredWithin, type DesiredInput, type HostSettings } from '../../core/host/desired.ts'
import type { HostOp } from '../../core/host/host-state.ts'
import { refusalText, type LimitRefusal } from '../../core/host/host-limits.ts'
import { EMPTY_HOST } from '../../core/host/normalize.ts'
import { HANDSHAKE_AGE_MS_MAX } from '../../core/host/tunnel-state.ts'
import type { ClusterName, Origin, PeerAddress, WireguardKey } from '../../core/model/values.ts'
import { clustersOfOps } from '../../core/host/op-clusters.ts'
import { plan } from '../../core/host/plan.ts'
import type { Surroundings } from '../../core/host/surroundings.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import { loadBalancerKind } from '../../io/host/load-balancer/registry.ts'
import type { Control } from '../control/control.ts'
import type { Health } from '../observe/health.ts'
import type { LocalFacts } from '../session/local-facts.ts'
import type { Wish } from './pass.ts'
import type { Settings } from '../settings/settings.ts'
import { sourceKind } from '../sources/source.ts'
import type { Tunnels } from '../session/tunnels.ts'
import { peerHostOf, reachedFirst } from './reached-first.ts'
import type { TunnelMtu } from './tunnel-mtu.ts'

const STATS_DEADLINE_MS = 5000

export interface DesiredHostOptions {
  readonly control: Pick<Control, 'origin' | 'view' | 'neighbour' | 'isWhole'>
  /** undefined: no data plane on this machine; the plan is still made. */
  readonly host: LinuxHost | undefined
  readonly settings: Settings
  readonly wireguardKey: WireguardKey
  readonly health: Health
  readonly tunnels: Pick<Tunnels, 'health' | 'pathMtu'>
  readonly mtu: Pick<TunnelMtu, 'bytes'>
  /** A member has accepted this agent. */
  readonly isAdmitted: () => boolean
  readonly facts: () => LocalFacts
  /** undefined: not read yet, so nothing may be routed. */
  readonly surroundings: () => Surroundings | undefined
  readonly isWithdrawn: (cluster: ClusterName) => boolean
}

export class DesiredHost {
  readonly #options: DesiredHostOptions
  readonly #balancer = new Balancer()
  /** Of the addresses that an agent offers, the host where it was last reached. Bounded by the members. */
  readonly #reached = new Map<Origin, string>()
  /** By public key. */
  #found: ReadonlyMap<string, PeerAddress> = new Map()
  #refused: readonly LimitRefusal[] = []

  constructor(options: DesiredHostOptions) {
    this.#options = options
  }

  /** Remembers the endpoints of a tunnel that an earlier run left, where a young handshake proves both directions. */
  async findEndpoints(stopping: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([stopping, AbortSignal.timeout(STATS_DEADLINE_MS)])
    const stats = (await this.#options.host?.peerStats(signal).catch(() => undefined)) ?? []
    const youngMs = Date.now() - HANDSHAKE_AGE_MS_MAX
    this.#found = new Map(
      stats.flatMap(({ publicKey, peerAddress, lastHandshakeMs = 0 }) =>
        peerAddress === undefined || lastHandshakeMs < youngMs ? [] : [[publicKey, peerAddress] as const]
      )
    )
  }

  /** undefined: not enough is known yet; the host is left alone. */
  current(): Wish | undefined {
    const { control, isAdmitted, health } = this.#options
    const view = control.view()
    const surroundings = this.#options.surroundings()
    if (!isAdmitted() || !view.clusters.has(view.self) || surroundings === undefined) return undefined
    const { host: want, refused } = desiredWithin(this.#input(surroundings), this.#balancer)
    if (refused !== this.#refused) health.replace('LOAD_BALANCER_LIMIT', refused.map(limitFault))
    this.#refused = refused
    const deletes = control.isWhole && [...view.clusters.values()].every((cluster) => cluster.complete)
    return { want, deletes, clusterOf: clustersOfOps(view) }
  }

  /** Without a data plane: all operations that would be applied to an empty host. */
  paperPlan(): readonly HostOp[] {
    const desired = this.current()
    return desired === undefined ? [] : plan(desired.want, EMPTY_HOST)
  }

  #input(surroundings: Surroundings): DesiredInput {
    const { control, wireguardKey, settings, tunnels, facts, isWithdrawn } = this.#options
    const view = control.view()
    const { nodeAddress } = facts()
    return {
      view: reachedFirst(view, {
        host: ({ origin }) => this.#hostOf(origin),
        found: ({ agent }) => this.#found.get(agent.wireguardKey)
      }),
      self: { origin: control.origin, cluster: view.self },
      local: {
        publicKey: wireguardKey,
        nodeAddress,
        probePort: nodeAddress === undefined ? 0 : settings['probe-port']
      },
      health: (cluster) => (isWithdrawn(cluster) ? 'withdrawn' : 'up'),
      gatewayHealth: (origin) => tunnels.health(origin),
      pathMtu: (origin) => tunnels.pathMtu(origin),
      surroundings,
      settings: this.#hostSettings()
    }
  }

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
      balanceLocal:
        settings['balance-local'] === 'auto'
          ? sourceKind(settings) === 'folder'
          : settings['balance-local'] === 'on',
      keepaliveSeconds: settings['keepalive-seconds'],
      scheduler: settings.scheduler,
      loadBalancerSysctls: loadBalancerKind(host?.loadBalancer ?? '')?.sysctls ?? []
    }
  }
}

function limitFault(refusal: LimitRefusal) {
  return { ...refusalText(refusal), severity: refusal.scope === 'service' ? 'warning' : 'error' } as const
}
