// The tunnels inside one cluster, between its gateways and its nodes (nodes.ts): the peers, and the routes to them. Packets
// to another cluster take the routes of desired.ts; the routes here are for packets that came out of the tunnel and for
// probes, so that the network plugin keeps all other traffic between the nodes.
//   pod on a node → tunnel → gateway → tunnel → gateway of the other cluster; the two tunnels follow each other and are not
//   nested, so the MTU is that of one.
import { hostCidr } from '../model/cidr.ts'
import type { Cidr, Ip, Origin, PeerAddress, Role, WireguardKey } from '../model/values.ts'
import { isWithin } from '../view/authorise.ts'
import type { AgentView, ClusterView, MeshView } from '../view/view.ts'
import type { Route, WireguardPeer } from './host-state.ts'
import { gatewayByCluster, nearGateways, nodeClaims, type TurnOf } from './nodes.ts'
import { sortedPrefixes } from './normalize.ts'
import { NO_SURROUNDINGS, ownParts, type Surroundings } from './surroundings.ts'
import type { GatewayHealth } from './tunnel-state.ts'

/** The fields of DesiredInput that count here; desired.ts explains them. */
interface NearInput {
  readonly view: MeshView
  readonly self: { readonly origin: Origin }
  readonly role?: Role
  readonly turnOf?: TurnOf
  readonly local: { readonly publicKey: WireguardKey }
  readonly gatewayHealth?: (origin: Origin) => GatewayHealth
  readonly peerAddress?: (origin: Origin) => PeerAddress | undefined
  readonly surroundings?: Surroundings
  readonly settings: { readonly keepaliveSeconds: number }
}

/** A node of this cluster as a peer of its gateway, or a gateway as a peer of a node. */
export interface NearPeer {
  readonly peer: WireguardPeer
  /** Prefixes of this cluster from which packets come by this peer. */
  readonly sources: readonly Cidr[]
}

/**
 * Returns the peers of this cluster: those of a gateway are the nodes, those of a node the gateways. All prefixes of
 * another cluster belong to the gateway that also carries what comes back (nodes.ts).
 */
export function nearPeersOf(own: ClusterView | undefined, input: NearInput): readonly NearPeer[] {
  if (own === undefined) return []
  const { self, local, settings } = input
  const keys = new Set<WireguardKey>([local.publicKey])
  return (input.role === 'node' ? gatewayShares(own, input) : nodeShares(own)).flatMap(
    ({ agent: { origin, agent }, sources, far }) => {
      if (origin === self.origin || sources.length + far.length === 0) return []
      if (!isFirst(keys, agent.wireguardKey)) return []
      const peer: WireguardPeer = {
        publicKey: agent.wireguardKey,
        peerAddress: input.peerAddress?.(origin) ?? agent.wireguardAddresses[0],
        allowedIps: sortedPrefixes([...sources, ...far]),
        keepaliveSeconds: settings.keepaliveSeconds
      }
      return [{ peer, sources }]
    }
  )
}

/** What belongs to a peer of this cluster: prefixes of this cluster, and of others. */
interface Share {
  readonly agent: AgentView
  readonly sources: readonly Cidr[]
  readonly far: readonly Cidr[]
}

function nodeShares(own: ClusterView): readonly Share[] {
  return nodeClaims(own).map(({ node, sources }) => ({ agent: node, sources, far: [] }))
}

function gatewayShares(own: ClusterView, input: NearInput): readonly Share[] {
  const { view, self, gatewayHealth = () => 'up', turnOf = () => 0 } = input
  const chosen = gatewayByCluster(view, { self: self.origin, state: gatewayHealth, turnOf })
  const addresses = new Set<Ip>()
  return nearGateways(view, self.origin).map((agent) => {
    const { tunnelAddress: ip } = agent.agent
    const isOwn = ip !== undefined && isFirst(addresses, ip) && isWithin(ip, own.podPrefixes)
    const carried = [...chosen].filter(([, gateway]) => gateway === agent)
    return {
      agent,
      sources: isOwn ? [hostCidr(ip)] : [],
      far: carried.flatMap(([name]) => view.clusters.get(name)?.podPrefixes ?? [])
    }
  })
}

/**
 * Returns the routes to the peers of this cluster. What this host reaches on its own links stays there, also if a node
 * claims it.
 */
export function innerRoutes(
  near: readonly NearPeer[],
  { role, surroundings = NO_SURROUNDINGS }: NearInput
): readonly Route[] {
  const prefixes = near.flatMap(({ sources }) => sources)
  const links = surroundings.networks.filter(({ onLink }) => onLink)
  const kept = role === 'node' ? [] : ownParts(prefixes, { ...NO_SURROUNDINGS, networks: links }, [])
  const inner = { source: undefined, inner: true } as const
  return [
    ...kept.map((destination): Route => ({ destination, kind: 'throw', ...inner })),
    ...prefixes.map((destination): Route => ({ destination, ...inner }))
  ]
}

/** Whether this host is a node whose pods the gateways cannot reach: connections of its pods are refused at once. */
export function isUnserved({ role, self }: NearInput, own: ClusterView | undefined): boolean {
  if (role !== 'node') return false
  const claim = own && nodeClaims(own).find(({ node }) => node.origin === self.origin)
  return claim === undefined || claim.pods.length === 0
}

/** Adds `value` to `seen`. Returns false when `seen` had it already. */
function isFirst<T>(seen: Set<T>, value: T): boolean {
  if (seen.has(value)) return false
  seen.add(value)
  return true
}
