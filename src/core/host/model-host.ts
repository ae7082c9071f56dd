// A host as a pure model: what a kernel does with each operation, without a kernel. Tests use it as a fake Host, too.
import type { HostOp, HostState, VirtualServer, WireguardPeer } from './host-state.ts'
import { normalizeHost, virtualServerKey } from './normalize.ts'
import { editedServers, type ServerEdits } from './server-list.ts'

/** The host after `ops` in order; any prefix of the operations is a state that a host may be left in. Normalised. */
export function applyOps(state: HostState, ops: readonly HostOp[]): HostState {
  const host = open(state)
  for (const op of ops) applyOp(host, op)
  return close(host, state)
}

/** The lists of a host are short beside that of its virtual servers, of which only the edits are kept. */
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
      host.routes.set(op.route.destination, op.route)
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
      host.routes.delete(op.route.destination)
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
      // Only what is on the device goes with it.
      for (const [destination, { kind }] of host.routes)
        if (kind === undefined) host.routes.delete(destination)
      return
    default:
      op satisfies never
  }
}

/** WireGuard's cryptokey routing: a prefix has one owner, and who gets it takes it from who had it. An address, once
 * set, can be replaced but not unset. */
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
    routes: new Map(state.routes.map((route) => [route.destination, route])),
    vips: new Map(state.vips.map((vip) => [vip.destination, vip])),
    virtualServers: new Map(),
    sysctls: new Map(state.sysctls.map((sysctl) => [sysctl.name, sysctl]))
  }
}

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
