// An operation as the commands that a person would type. No secrets: the private key is named, never shown.
import type { HostOp, WireguardPeer } from '../../core/host.ts'
import type { FilterPort, HostNames, LoadBalancer } from './ports.ts'
import { routeText } from './route.ts'

export interface DescribeParts {
  readonly names: HostNames
  readonly filter: FilterPort
  /** undefined: not chosen yet. */
  readonly loadBalancer: LoadBalancer | undefined
}

export function describeOp(op: HostOp, { names, filter, loadBalancer }: DescribeParts): readonly string[] {
  const { device } = names
  switch (op.kind) {
    case 'setSysctl':
      return [`sysctl -w ${op.sysctl.name}=${op.sysctl.value}`]
    case 'setTunnel':
      return [
        `ip link add dev ${device} type wireguard`,
        `wg set ${device} fwmark 0x${names.fwmark.toString(16)} listen-port ${op.tunnel.listenPort} private-key <hidden>`,
        `ip link set dev ${device} mtu ${op.tunnel.mtu} up`
      ]
    case 'removeTunnel':
      return [`ip link delete dev ${device}`]
    case 'setPeer':
      return [`wg set ${device} ${peerText(op.peer)}`]
    case 'removePeer':
      return [`wg set ${device} peer ${op.publicKey} remove`]
    case 'addRoute':
      return [`ip route replace ${routeText({ table: 'tunnel', route: op.route }, names)}`]
    case 'removeRoute':
      return [`ip route delete ${routeText({ table: 'tunnel', route: op.route }, names)}`]
    case 'addVip':
      return [`ip route replace ${routeText({ table: 'vip', route: op.vip }, names)}`]
    case 'removeVip':
      return [`ip route delete ${routeText({ table: 'vip', route: op.vip }, names)}`]
    case 'setFilter':
      return filter.describe(op.filter)
    case 'removeFilter':
      return filter.describe(undefined)
    case 'setVirtualServer':
      return loadBalancer?.describe({ want: op.virtualServer, have: op.before }) ?? [serverText(op)]
    case 'removeVirtualServer':
      return loadBalancer?.describe({ want: undefined, have: op.virtualServer }) ?? [serverText(op)]
    default:
      return op satisfies never
  }
}

function peerText(peer: WireguardPeer): string {
  const address = peer.peerAddress === undefined ? '' : ` endpoint ${peer.peerAddress}`
  const keepalive = peer.keepaliveSeconds === 0 ? 'off' : peer.keepaliveSeconds
  return `peer ${peer.publicKey} allowed-ips '${peer.allowedIps.join(',')}'${address} persistent-keepalive ${keepalive}`
}

/** Before start() nobody knows which tool it will be. */
function serverText(op: Extract<HostOp, { kind: 'setVirtualServer' | 'removeVirtualServer' }>): string {
  const { vip, protocol, port, scheduler, realServers } = op.virtualServer
  const verb = op.kind === 'setVirtualServer' ? 'set' : 'remove'
  const servers = realServers
    .map((server) => `${server.ip} ${server.port} weight ${server.weight}`)
    .join(', ')
  return `# ${verb} virtual server ${protocol} ${vip} ${port} ${scheduler}: ${servers || 'none, refused'}`
}
