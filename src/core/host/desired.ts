// This file computes the host that the agent's view of the mesh asks for: want = desired(view, local facts, health).
// The function is pure: equal inputs give deeply equal, sorted outputs. The view is authorised already
// (view/authorise.ts), and nothing is checked again here.
import { Balancer, type Balanced } from './balance.ts'
import { cidrContains, familyOf, hostCidr } from '../model/cidr.ts'
import type {
  Filter,
  HostState,
  Route,
  Scheduler,
  Sysctl,
  TranslatedPrefix,
  Tunnel,
  Vip,
  WireguardPeer
} from './host-state.ts'
import { NOWHERE, type Place } from '../model/topology.ts'
import { withinSlots, type HandshakeFacts } from './handshake-slots.ts'
import { gatewaysInOrder, type HealthOf } from './gateway-order.ts'
import type { LimitRefusal } from './host-limits.ts'
import { normalizeHost, sortedPrefixes } from './normalize.ts'
import type { GatewayHealth } from './tunnel-state.ts'
import type { Cidr, ClusterName, Ip, Origin, PeerAddress, Role, WireguardKey } from '../model/values.ts'
import { innerRoutes, isUnserved, nearPeersOf, type NearPeer } from './near-peers.ts'
import { gatewaysOf, nodeClaims, type TurnOf } from './nodes.ts'
import { NO_SURROUNDINGS, outerAddresses, ownParts, type Surroundings } from './surroundings.ts'
import { isWithin } from '../view/authorise.ts'
import { openTo } from './reachable.ts'
import type { PrefixPair } from '../model/translation.ts'
import { underlayOf } from './underlay.ts'
import { MERGED, mergedCluster, type MergedInput } from './merged-services.ts'
import type { AgentView, ClusterView, MeshView } from '../view/view.ts'

/** Input of `desired`. */
export interface DesiredInput {
  readonly view: MeshView
  readonly self: { readonly origin: Origin; readonly cluster: ClusterName }
  /** `node`: this host reaches the other clusters through the gateways of its own. The default is `gateway`. */
  readonly role?: Role
  /** How often a node has gone on to the next of its gateways, for each other cluster. The default is 0. */
  readonly turnOf?: TurnOf
  readonly local: LocalFacts
  /**
   * A cluster is `withdrawn` while all its tunnels are down (host/tunnel-state.ts). Its routes and peers stay, so
   * that it can recover.
   */
  readonly health: (cluster: ClusterName) => ClusterHealth
  /** Which gateways have answered. When left out, all gateways are peers (host/handshake-slots.ts). */
  readonly handshakes?: HandshakeFacts
  /** Tunnel state of each gateway. When left out, every gateway counts as `up`. */
  readonly gatewayHealth?: (origin: Origin) => GatewayHealth
  /**
   * Networks and addresses that the host reaches without the mesh: they are never routed into the tunnel. The default
   * is none.
   */
  readonly surroundings?: Surroundings
  /** Pod prefixes of this cluster that have others in the mesh. The view has the real ones. The default is none. */
  readonly translated?: readonly PrefixPair[]
  /** The agent that gets the peer of a key (key-holders.ts). When left out, the first agent with the key gets it. */
  readonly keyHolders?: ReadonlyMap<WireguardKey, Origin>
  /** The address that takes the place of the first one that an agent publishes (tunnel-path.ts); the default is none. */
  readonly peerAddress?: (origin: Origin) => PeerAddress | undefined
  /** The MTU of the path to a gateway in bytes; undefined when it is not less than the tunnel's MTU. */
  readonly pathMtu?: (origin: Origin) => number | undefined
  /** Services that a policy balances over clusters, and what their choice depends on. Left out: there are none. */
  readonly balanced?: MergedInput
  /** The zone and the node of this host (zone-choice.ts). The default: not known. */
  readonly place?: Place
  readonly settings: HostSettings
}

type ClusterHealth = 'up' | 'withdrawn'

interface LocalFacts {
  readonly publicKey: WireguardKey
  /** Source address of traffic that this host starts: one of its addresses inside its cluster's pod prefixes. */
  readonly nodeAddress?: Ip | undefined
  /** UDP port of the echo service on nodeAddress. 0, or left out: there is no echo service. */
  readonly probePort?: number
}

/** Settings of the host that do not depend on the view. */
export interface HostSettings {
  readonly device: string
  readonly listenPort: number
  /** MTU of the tunnel device in bytes: path MTU − 80, at least 1280. */
  readonly mtu: number
  /** True: this host also balances its own cluster's services, for a site without kube-proxy. */
  readonly balanceLocal: boolean
  readonly keepaliveSeconds: number
  /** What other clusters may reach: all pods (the default), or exported services. */
  readonly reach?: 'pods' | 'services'
  /** The clusters that may open connections to this one; empty or left out: all. */
  readonly reachClusters?: readonly string[]
  readonly scheduler: Scheduler
  /** Names and values of the sysctls that the host's load balancer needs. */
  readonly loadBalancerSysctls?: readonly (readonly [name: string, value: string])[]
}

/** The host that is wanted, and the services that the limits refuse in whole or in part (host-limits.ts). */
interface Desired {
  readonly host: HostState
  readonly refused: readonly LimitRefusal[]
  /** How many endpoints other clusters do not reach because of a limit (REACHABLE_MAX). */
  readonly unreachable: number
}

/** Returns the normalised host that the view asks for. */
export function desired(input: DesiredInput): HostState {
  return desiredWithin(input).host
}

/**
 * Returns the host that the view asks for, and the services that the limits refuse. Pass the Balancer of the earlier
 * calls: then the cost for services is that of the changed services only.
 */
export function desiredWithin(given: DesiredInput, balancer = new Balancer()): Desired {
  const { view, self, local, settings } = given
  const own = view.clusters.get(self.cluster)
  const input = isUnserved(given, own) ? { ...given, health: () => 'withdrawn' as const } : given
  const remote = [...view.clusters.values()].filter(({ name }) => name !== self.cluster)
  const isWithdrawn = (cluster: ClusterName): boolean => input.health(cluster) === 'withdrawn'
  const choice = { self: self.cluster, isWithdrawn, place: input.place ?? NOWHERE }
  const merged = mergedCluster(balancer.merged, input.balanced, choice)
  const balanced = [...(settings.balanceLocal && own ? [own] : []), ...remote, ...merged]
  const source = (destination: Cidr): Ip | undefined => sourceFor(destination, local, own)
  const kept = keptBy(input, { remote, balanced })
  const { virtualServers, refused } = balance(balanced, input, { balancer, kept: kept.vips })
  const hostEndpoints = own ? balancer.hostEndpoints.follow(own.services, ownAddresses(input)) : []
  const reach = reachOf(own, remote, { settings, balancer })
  const near = nearPeersOf(own, input)
  const host = normalizeHost({
    tunnel: tunnelOf(local, settings),
    peers: [...near.map(({ peer }) => peer), ...(input.role === 'node' ? [] : peersOf(remote, input, near))],
    // When two routes have one destination, normalizeHost keeps the first, so the exceptions come first.
    routes: [
      ...kept.routes.map((destination): Route => ({ destination, source: undefined, kind: 'throw' })),
      ...remote.flatMap((cluster) => routesTo(cluster, input, source)),
      ...innerRoutes(near, input)
    ],
    vips: [
      ...kept.vips.map((destination): Vip => ({ destination, source: undefined, kind: 'throw' })),
      ...balanced.flatMap(({ servicePrefixes }) =>
        servicePrefixes.map((destination): Vip => ({ destination, source: source(destination) }))
      )
    ],
    virtualServers: [],
    filter: filterOf(
      { own, remote, balanced },
      {
        ownNetworks: kept.vips,
        ownSources: kept.routes,
        nodeSources: near.flatMap(({ sources }) => sources),
        hostEndpoints,
        ...reach.filter,
        ...underlayOf(input.surroundings ?? NO_SURROUNDINGS, own?.podPrefixes ?? []),
        translatedPods: translatedBy(input),
        probePort: local.probePort ?? 0,
        mtu: settings.mtu
      }
    ),
    sysctls: sysctlsOf(remote, settings)
  })
  return { host: { ...host, virtualServers }, refused, unreachable: reach.leftOut }
}

/** Returns the parts of the mesh's prefixes that this host reaches without the mesh (host/surroundings.ts). */
function keptBy(
  { view, surroundings = NO_SURROUNDINGS }: DesiredInput,
  {
    remote,
    balanced
  }: {
    readonly remote: readonly ClusterView[]
    readonly balanced: readonly Pick<ClusterView, 'servicePrefixes'>[]
  }
): { readonly routes: readonly Cidr[]; readonly vips: readonly Cidr[] } {
  // In a flat network, the gateways of a cluster have addresses inside its own pod prefixes.
  const flat = outerAddresses(view).flatMap(({ ip, cluster }) =>
    isWithin(ip, view.clusters.get(cluster)?.podPrefixes ?? []) ? [ip] : []
  )
  const parts = (prefixes: readonly Cidr[], outers: readonly Ip[]) => ownParts(prefixes, surroundings, outers)
  return {
    routes: parts(
      remote.flatMap(({ podPrefixes }) => podPrefixes),
      flat
    ),
    vips: parts(
      balanced.flatMap(({ servicePrefixes }) => servicePrefixes),
      []
    )
  }
}

/**
 * Routes to one cluster lead into the tunnel. While all its tunnels are down, the routes refuse connections at once,
 * and only the probed tunnel addresses stay on the device. Where the path carries less than the tunnel's MTU, the
 * routes get the path's MTU; the route to the probed address keeps the device's MTU, so that probes can find a larger
 * one.
 */
function routesTo(
  cluster: ClusterView,
  { health, pathMtu }: DesiredInput,
  source: (destination: Cidr) => Ip | undefined
): readonly Route[] {
  const gateways = gatewaysOf(cluster)
  const mtus = gateways.flatMap(({ origin }) => pathMtu?.(origin) ?? [])
  const mtu = mtus.length === 0 ? undefined : Math.min(...mtus)
  const isDown = health(cluster.name) === 'withdrawn'
  const probed = gateways.flatMap(({ agent }) => agent.tunnelAddress ?? [])
  const direct = (destination: Cidr): Route => ({ destination, source: source(destination) })
  return [
    ...(isDown || mtu !== undefined ? probed.map((ip) => direct(hostCidr(ip))) : []),
    ...cluster.podPrefixes.map((destination): Route =>
      isDown
        ? { destination, source: undefined, kind: 'unreachable' }
        : { ...direct(destination), ...(mtu === undefined ? {} : { mtu }) }
    )
  ]
}

function tunnelOf({ publicKey }: LocalFacts, { device, listenPort, mtu }: HostSettings): Tunnel {
  return { device, listenPort, mtu, publicKey }
}

/**
 * Returns one peer for every gateway of the other clusters that may be a peer now. Each prefix belongs to exactly one of a cluster's peers.
 */
function peersOf(
  remote: readonly ClusterView[],
  input: DesiredInput,
  near: readonly NearPeer[]
): readonly WireguardPeer[] {
  const keys = new Set<WireguardKey>([input.local.publicKey, ...near.map(({ peer }) => peer.publicKey)])
  return remote.flatMap((cluster) => {
    const holders = gatewaysOf(cluster).filter(
      ({ origin, agent: { wireguardKey } }) =>
        (input.keyHolders?.get(wireguardKey) ?? origin) === origin && isFirst(keys, wireguardKey)
    )
    const gateways = withinSlots(holders, input.handshakes)
    const carried = carriedBy(cluster, gateways, input)
    return gateways.map((gateway): WireguardPeer => {
      const [published] = gateway.agent.wireguardAddresses
      return {
        publicKey: gateway.agent.wireguardKey,
        peerAddress: input.peerAddress?.(gateway.origin) ?? published,
        allowedIps: sortedPrefixes(carried.get(gateway.origin) ?? []),
        keepaliveSeconds: input.settings.keepaliveSeconds
      }
    })
  })
}

/**
 * Assigns each prefix to one gateway, since WireGuard knows one peer for a prefix. Among the gateways with the best
 * tunnel state, the first in the order of gateway-order.ts gets the prefix. So a new gateway gets prefixes only once its
 * tunnel is up, a dead gateway keeps none while another lives, one that hands over keeps none while another is as
 * healthy, and nothing moves while all are dead (fail static). Every gateway keeps its own tunnel address, so that it can
 * be probed, and its own node's prefix, because those pods answer by no other gateway. The prefixes of a node that is no
 * gateway go to the gateway that the node uses, too (nodes.ts).
 */
function carriedBy(
  cluster: ClusterView,
  gateways: readonly AgentView[],
  input: DesiredInput
): ReadonlyMap<Origin, readonly Cidr[]> {
  const carried = new Map<Origin, Cidr[]>(gateways.map(({ origin }) => [origin, []]))
  const taken = new Set<Cidr>()
  const healthOf: HealthOf = (origin) => input.gatewayHealth?.(origin) ?? 'up'
  const isOneAlive = gateways.some(({ origin }) => healthOf(origin) !== 'down')
  for (const gateway of gateways) {
    if (isOneAlive && healthOf(gateway.origin) === 'down') continue
    const own = (gateway.agent.nodePrefixes ?? []).filter((prefix) => isFirst(taken, prefix))
    carried.get(gateway.origin)?.push(...own)
  }
  for (const { node, sources } of nodeClaims(cluster)) {
    const [chosen] = gatewaysInOrder(node.origin, gateways, healthOf)
    if (chosen) carried.get(chosen.origin)?.push(...sources.filter((prefix) => isFirst(taken, prefix)))
  }
  for (const prefix of cluster.podPrefixes) {
    const [chosen] = gatewaysInOrder(prefix, gateways, healthOf)
    if (chosen && isFirst(taken, prefix)) carried.get(chosen.origin)?.push(prefix)
  }
  const addresses = new Set<Ip>()
  for (const { origin, agent } of gateways) {
    const address = agent.tunnelAddress
    const prefixes = carried.get(origin)
    if (address === undefined || prefixes === undefined || !isFirst(addresses, address)) continue
    const inside = cluster.podPrefixes.some((prefix) => cidrContains(prefix, address))
    const covered = prefixes.some((prefix) => cidrContains(prefix, address))
    if (inside && !covered) prefixes.push(hostCidr(address))
  }
  return carried
}

function balance(
  clusters: readonly Pick<ClusterView, 'name' | 'services'>[],
  { self, health, settings, place }: DesiredInput,
  { balancer, kept }: { readonly balancer: Balancer; readonly kept: readonly Cidr[] }
): Balanced {
  return balancer.follow({
    clusters: clusters.map(({ name, services }) => ({
      name,
      services,
      isWithdrawn: name !== self.cluster && name !== MERGED && health(name) === 'withdrawn',
      ...(place !== undefined && name === self.cluster && { place })
    })),
    scheduler: settings.scheduler,
    kept
  })
}

/** Other clusters accept only sources inside our pod prefixes, so an address outside them cannot be the source. */
function sourceFor(destination: Cidr, local: LocalFacts, own: ClusterView | undefined): Ip | undefined {
  const address = local.nodeAddress
  if (address === undefined || familyOf(address) !== familyOf(destination)) return undefined
  return own?.podPrefixes.some((prefix) => cidrContains(prefix, address)) ? address : undefined
}

/** Returns the addresses of this host that other clusters may use as pod addresses: those inside our pod prefixes. */
function ownAddresses({ local, surroundings, view, self }: DesiredInput): readonly Ip[] {
  const prefixes = view.clusters.get(self.cluster)?.podPrefixes ?? []
  const all = new Set([
    ...(local.nodeAddress === undefined ? [] : [local.nodeAddress]),
    ...(surroundings?.addresses ?? [])
  ])
  return [...all].filter((ip) => prefixes.some((prefix) => cidrContains(prefix, ip))).sort()
}

/** Returns what other clusters may reach here, and which of them may reach nothing. */
function reachOf(
  own: ClusterView | undefined,
  remote: readonly ClusterView[],
  { settings, balancer }: { readonly settings: HostSettings; readonly balancer: Balancer }
): {
  readonly filter: Pick<Filter, 'reach' | 'reachable' | 'reachableFrom' | 'barredSources'>
  readonly leftOut: number
} {
  const { reach = 'pods', reachClusters = [] } = settings
  const barred = remote.filter(({ name }) => reachClusters.length > 0 && !reachClusters.includes(name))
  const barredSources = barred.flatMap(({ podPrefixes }) => podPrefixes)
  if (reach === 'pods') return { filter: { barredSources }, leftOut: 0 }
  const { filter, leftOut } = openTo(remote, balancer.reachable.follow(own?.services ?? new Map()))
  return { filter: { reach, ...filter, barredSources }, leftOut }
}

/** Returns the packet filter: what other clusters may reach here, and which service prefixes it guards. */
function filterOf(
  {
    own,
    remote,
    balanced
  }: {
    readonly own: ClusterView | undefined
    readonly remote: readonly ClusterView[]
    readonly balanced: readonly Pick<ClusterView, 'servicePrefixes'>[]
  },
  facts: Omit<Filter, 'remoteSources' | 'localDestinations' | 'guardedVips'>
): Filter {
  return {
    remoteSources: remote.flatMap(({ podPrefixes }) => podPrefixes),
    localDestinations: own?.podPrefixes ?? [],
    guardedVips: balanced.flatMap(({ servicePrefixes }) => servicePrefixes),
    ...facts
  }
}

/** Addresses are translated where the traffic of a cluster leaves it: on its gateways. */
function translatedBy({ role, translated = [] }: DesiredInput): Filter['translatedPods'] & object {
  return role === 'node' ? [] : translated.map(({ real, virtual }): TranslatedPrefix => `${real} ${virtual}`)
}

/** Returns the kernel parameters that forwarding needs. IPv6 forwarding is turned on only when a prefix needs it. */
function sysctlsOf(remote: readonly ClusterView[], settings: HostSettings): readonly Sysctl[] {
  const names: (readonly [string, string])[] = [
    ['net.ipv4.ip_forward', '1'],
    // The value 2 is loose mode (RFC 3704): a reply may come from a pod whose prefix has just moved to another route.
    [`net.ipv4.conf.${settings.device}.rp_filter`, '2']
  ]
  const prefixes = remote.flatMap((cluster) => [...cluster.podPrefixes, ...cluster.servicePrefixes])
  if (prefixes.some((prefix) => familyOf(prefix) === 6)) names.push(['net.ipv6.conf.all.forwarding', '1'])
  names.push(...(settings.loadBalancerSysctls ?? []))
  return names.map(([name, value]) => ({ name, value }))
}

/** Adds `value` to `seen`. Returns false when `seen` had it already. */
function isFirst<T>(seen: Set<T>, value: T): boolean {
  if (seen.has(value)) return false
  seen.add(value)
  return true
}
