// This file models a host as a pure function: what a kernel does with each operation. Tests also use the model as a
// fake Host.
import type { HostOp, HostState, VirtualServer, WireguardPeer } from './host-state.ts'
import { normalizeHost, routeKey, virtualServerKey } from './normalize.ts'
import { editedServers, type ServerEdits } from './server-list.ts'

/**
 * Returns the normalised host after `ops`, applied in order. A host may also be left after any prefix of the
 * operations.
 */
export function applyOps(state: HostState, ops: readonly HostOp[]): HostState {
  const host = open(state)
  for (const op of ops) applyOp(host, op)
  return close(host, state)
}

/**
 * A host that can be edited. Its list of virtual servers may be very long, so only the edits of that list are kept;
 * the other lists are short.
 */
interface OpenHost {
  tunnel: HostState['tunnel']
  filter: HostState['filter']
  readonly peers: Map<string, WireguardPeer>
  readonly routes: Map<string, HostState['routes'][number]>
  readonly vips: Map<string, HostState['vips'][number]>
  readonly virtualServers: ServerEdits
  readonly sysctls: Map<string, HostState['sysctls'][number]>
}

function applyOp(host: OpenHost, op: HostOp): void {
  switch (op.kind) {
    case 'setSysctl':
      host.sysctls.set(op.sysctl.name, op.sysctl)
      return
    case 'setTunnel':
      host.tunnel = op.tunnel
      return
    case 'setFilter':
      host.filter = op.filter
      return
    case 'setPeer':
      setPeer(host.peers, op.peer)
      return
    case 'addRoute':
      host.routes.set(routeKey(op.route), op.route)
      return
    case 'setVirtualServer':
      editServer(host, op.virtualServer, op.virtualServer)
      return
    case 'addVip':
      host.vips.set(op.vip.destination, op.vip)
      return
    case 'removeVip':
      host.vips.delete(op.vip.destination)
      return
    case 'removeVirtualServer':
      editServer(host, op.virtualServer, undefined)
      return
    case 'removeRoute':
      host.routes.delete(routeKey(op.route))
      return
    case 'removePeer':
      host.peers.delete(op.publicKey)
      return
    case 'removeFilter':
      host.filter = undefined
      return
    case 'removeTunnel':
      host.tunnel = undefined
      host.peers.clear()
      // Only the routes on the device are removed with it.
      for (const [key, { kind }] of host.routes) if (kind === undefined) host.routes.delete(key)
      return
    default:
      op satisfies never
  }
}

/**
 * WireGuard's cryptokey routing gives each prefix one owner: a peer that gets a prefix takes it from the earlier
 * owner. A peer address that is set can be replaced but not unset.
 */
function setPeer(peers: Map<string, WireguardPeer>, peer: WireguardPeer): void {
  const taken = new Set(peer.allowedIps)
  for (const [key, other] of peers) {
    const left = other.allowedIps.filter((cidr) => !taken.has(cidr))
    if (left.length < other.allowedIps.length) peers.set(key, { ...other, allowedIps: left })
  }
  const peerAddress = peer.peerAddress ?? peers.get(peer.publicKey)?.peerAddress
  peers.set(peer.publicKey, { ...peer, peerAddress })
}

function open(state: HostState): OpenHost {
  return {
    tunnel: state.tunnel,
    filter: state.filter,
    peers: new Map(state.peers.map((peer) => [peer.publicKey, peer])),
    routes: new Map(state.routes.map((route) => [routeKey(route), route])),
    vips: new Map(state.vips.map((vip) => [vip.destination, vip])),
    virtualServers: new Map(),
    sysctls: new Map(state.sysctls.map((sysctl) => [sysctl.name, sysctl]))
  }
}

/** Records the new value of a virtual server; undefined removes it. */
function editServer(host: OpenHost, of: VirtualServer, now: VirtualServer | undefined): void {
  host.virtualServers.set(virtualServerKey(of), { of, now })
}

function close(host: OpenHost, before: HostState): HostState {
  const rest = normalizeHost({
    tunnel: host.tunnel,
    filter: host.filter,
    peers: [...host.peers.values()],
    routes: [...host.routes.values()],
    vips: [...host.vips.values()],
    virtualServers: [],
    sysctls: [...host.sysctls.values()]
  })
  return { ...rest, virtualServers: editedServers(before.virtualServers, host.virtualServers) }
}
