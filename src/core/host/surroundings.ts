// This file finds what a host reaches without the mesh, and which part of it a prefix of the mesh would hide.
// Invariants
//   1. What the host reaches without the mesh is never routed into the tunnel. As in one routing table, the longest
//      prefix wins, and of two equal prefixes the host's own wins.
//   2. Default gateways, DNS servers and the far ends of control connections are never routed into the tunnel, even
//      when a cluster announces a prefix that contains them.
//   3. An outer address that a member publishes takes no address of another cluster out of the tunnel: it counts
//      inside the pod prefixes of its own cluster only (a flat network, whose gateways have addresses of pods).
import { cidrContains, cidrOverlaps, hostCidr, parseIp } from '../model/cidr.ts'
import { hostOfMultiaddr, hostOfPeerAddress } from '../model/outer-address.ts'
import { holderAmong, outermost } from '../model/prefix-holder.ts'
import type { AgentValue, Cidr, ClusterName, Ip } from '../model/values.ts'
import type { MeshView } from '../view/view.ts'

/** Networks and addresses that the host reaches without the mesh. */
export interface Surroundings {
  /** Connected and static routes of the host's main table, without default routes and without ours. */
  readonly networks: readonly HostNetwork[]
  /** Next hops of the default routes. */
  readonly gateways: readonly Ip[]
  /** DNS servers that the host or the responder asks. */
  readonly resolvers: readonly Ip[]
  /** Addresses of the host itself, on all devices. */
  readonly addresses: readonly Ip[]
  /** Remote addresses of control connections, open or being dialled, beside those that members announce. */
  readonly controls?: readonly Ip[]
  /** Devices by which packets come to this host. Ends of containers are left out. */
  readonly devices?: readonly HostDevice[]
}

/** A device of the host: a physical one, or one with an address that is not link-local. Ports of bridges are none. */
export interface HostDevice {
  readonly name: string
  /** True: no driver of virtual devices made it. */
  readonly isPhysical: boolean
  /** True: a default route leads there. */
  readonly isDefault: boolean
  /** True: a bridge whose ports are all ends of containers or virtual machines. */
  readonly holdsContainers: boolean
}

/** A connected or static route of the host. */
export interface HostNetwork {
  readonly destination: Cidr
  readonly device: string
  /** False when the network is behind another router. */
  readonly onLink: boolean
}

/** Surroundings of a host that reaches nothing without the mesh. */
export const NO_SURROUNDINGS: Surroundings = { networks: [], gateways: [], resolvers: [], addresses: [] }

/** An address outside the tunnel at which a member says that it is reached. */
export interface OuterAddress {
  readonly ip: Ip
  readonly cluster: ClusterName
  readonly node: string
}

/**
 * A gateway announces a few addresses. Only this many of one agent are used, so that no member can fill a routing
 * table.
 */
const OUTER_PER_AGENT_MAX = 16
/**
 * Most routes that keep this host's networks out of the tunnel. A host with more networks keeps the first this many,
 * sorted by address; outer addresses of members take the places that are left.
 */
const EXCEPTIONS_MAX = 1024

/**
 * Returns the addresses at which members say that they are reached, for control connections and for the tunnel. Nodes of
 * other clusters are left out: no packet of this host goes there outside the tunnel.
 */
export function outerAddresses(view: MeshView): readonly OuterAddress[] {
  return [...view.clusters.values()].flatMap(({ name, agents }) =>
    agents
      .filter(({ agent }) => name === view.self || agent.role === 'gateway')
      .flatMap(({ agent }) => outerOf(agent).map((ip) => ({ ip, cluster: name, node: agent.node })))
  )
}

// A view keeps the agent values that did not change, so results are cached by value.
const outers = new WeakMap<object, readonly Ip[]>()

/**
 * Returns the outer addresses of one agent, at most 16, without duplicates. Names and malformed addresses are ignored.
 */
export function outerOf(agent: Pick<AgentValue, 'multiaddrs' | 'wireguardAddresses'>): readonly Ip[] {
  const known = outers.get(agent)
  if (known !== undefined) return known
  const texts = [...agent.multiaddrs.map(hostOfMultiaddr), ...agent.wireguardAddresses.map(hostOfPeerAddress)]
  const found = texts.map((text) => parseIp(text)).filter((ip) => ip !== undefined)
  const kept = [...new Set(found)].slice(0, OUTER_PER_AGENT_MAX)
  outers.set(agent, kept)
  return kept
}

/**
 * Returns the parts of `prefixes` that the host reaches without the mesh, for `throw` routes. The result is sorted
 * and free of nested prefixes, with at most 1024 entries: what the host itself needs counts first, so that the outer
 * addresses of members cannot displace it. A host network that is wider than a prefix of the mesh is no such part: the
 * longer prefix wins.
 */
export function ownParts(
  prefixes: readonly Cidr[],
  surroundings: Surroundings,
  outers: Iterable<Ip>
): readonly Cidr[] {
  const own = new Set<Ip>(surroundings.addresses)
  const { networks, gateways, resolvers, controls = [] } = surroundings
  const holder = holderAmong(prefixes)
  // An address of this host needs no exception: the kernel's local table is asked before ours.
  const partsOf = (hosts: readonly Ip[]) => hosts.filter((ip) => !own.has(ip)).map(hostCidr)
  const within = (parts: readonly Cidr[]) => outermost(parts.filter((part) => holder(part) !== undefined))
  const needed = within([
    ...networks.map(({ destination }) => destination),
    ...partsOf([...gateways, ...resolvers, ...controls])
  ]).slice(0, EXCEPTIONS_MAX)
  const kept = new Set(needed)
  const ofMembers = within([...needed, ...partsOf([...outers])]).filter((part) => !kept.has(part))
  return outermost([...needed, ...ofMembers.slice(0, EXCEPTIONS_MAX - needed.length)])
}

/** An overlap of a cluster's prefix with what the host reaches without the mesh. */
export interface Overlap {
  readonly prefix: Cidr
  /** `address`: an address that the mesh or the host needs. `network`: a network, for which the longer prefix wins. */
  readonly kind: 'address' | 'network'
  /** The network of this host that takes a part of the prefix, or all of it; left out: the prefix keeps all its addresses. */
  readonly takes?: Cidr
  /** Text for operators: "10.1.5.0/24 on eth0, a network of this host". */
  readonly text: string
}

/**
 * Returns the overlaps of one prefix. `cluster` is the cluster that has the prefix or wants it; the gateways of that
 * cluster may lie in it (a flat network).
 */
export function overlapsOf(
  prefix: Cidr,
  cluster: string | undefined,
  around: { readonly surroundings: Surroundings; readonly outers: readonly OuterAddress[] }
): readonly Overlap[] {
  return overlapsOfAll([{ prefix, cluster }], around)
}

/**
 * Names the addresses of hosts in a prefix: by these the mesh or this host is reached, and connections to them would end
 * in the tunnel. undefined: there is none, so the cluster may have the prefix.
 */
export function hiddenBy(
  prefix: Cidr,
  cluster: string,
  around: Parameters<typeof overlapsOf>[2]
): string | undefined {
  const hidden = overlapsOf(prefix, cluster, around).filter(({ kind }) => kind === 'address')
  return hidden.length === 0 ? undefined : overlapText(hidden)
}

/** The outer addresses as they are when the cluster `from` is called `to`: its gateways may lie in its own prefixes. */
export function outersRenamed(
  outers: readonly OuterAddress[],
  { from, to }: { readonly from: ClusterName | undefined; readonly to: ClusterName }
): readonly OuterAddress[] {
  if (from === undefined || from === to) return outers
  return outers.map((outer) => (outer.cluster === from ? { ...outer, cluster: to } : outer))
}

/** Returns the overlaps of many prefixes that do not overlap each other. */
export function overlapsOfAll(
  prefixes: readonly { readonly prefix: Cidr; readonly cluster: string | undefined }[],
  around: { readonly surroundings: Surroundings; readonly outers: readonly OuterAddress[] }
): readonly Overlap[] {
  const { networks, gateways, resolvers, addresses } = around.surroundings
  const holder = holderAmong(prefixes.map(({ prefix }) => prefix))
  const owners = new Map(prefixes.map(({ prefix, cluster }) => [prefix, cluster]))
  const address = (ip: Ip, text: string): readonly Overlap[] => {
    const prefix = holder(ip)
    return prefix === undefined ? [] : [{ prefix, kind: 'address', text: `${ip}, ${text}` }]
  }
  const named = new Map(around.outers.map((outer) => [outer.ip, outer]))
  const ofMembers = [...named.values()].flatMap(({ ip, node, cluster }) => {
    const prefix = holder(ip)
    return prefix === undefined || owners.get(prefix) === cluster
      ? []
      : address(ip, `an outer address of ${node} of cluster ${cluster}`)
  })
  const onNetwork = (ip: Ip): boolean => networks.some(({ destination }) => cidrContains(destination, ip))
  return [
    ...ofMembers,
    ...gateways.flatMap((ip) => address(ip, 'the default gateway of this host')),
    ...resolvers.flatMap((ip) => address(ip, 'a DNS server of this host')),
    ...addresses
      .filter((ip) => holder(ip) !== undefined && !onNetwork(ip))
      .flatMap((ip) => address(ip, 'an address of this host')),
    ...networks.flatMap((network) => prefixes.flatMap(({ prefix }) => networkOverlap(prefix, network) ?? []))
  ]
}

/**
 * The longer prefix wins. A wide route to another router is treated like a default route, from which prefixes of the
 * mesh may be exceptions.
 */
function networkOverlap(prefix: Cidr, { destination, device, onLink }: HostNetwork): Overlap | undefined {
  if (!cidrOverlaps(prefix, destination)) return undefined
  const said = `${destination} on ${device}, a network of this host`
  if (cidrContains(prefix, destination))
    return { prefix, kind: 'network', takes: destination, text: `${said}, which stays outside the tunnel` }
  if (!onLink) return undefined
  return { prefix, kind: 'network', text: `${said}, which loses the addresses in ${prefix}` }
}

// A message names this many overlaps at most; `ip route` lists them all.
const NAMED_MAX = 4

/** Joins the texts of the first four overlaps and the number of the others. */
export function overlapText(overlaps: readonly Overlap[]): string {
  const named = overlaps.slice(0, NAMED_MAX).map(({ text }) => text)
  const rest = overlaps.length - named.length
  return `${named.join('; ')}${rest > 0 ? `; and ${rest} more` : ''}`
}
