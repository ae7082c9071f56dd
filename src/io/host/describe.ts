// Shows an operation as the commands that it runs, for `meshctl plan` and plan-only mode. The text has no secrets: the
// private key is named, never shown. A real pass joins operations (src/io/host/bundles.ts): routes are the lines of one
// `ip -batch`, peers the sections of one `wg addconf`.
import type { HostOp } from '../../core/host/host-state.ts'
import type { FilterPort, HostNames, LoadBalancer } from './ports.ts'
import { routeCommand, tableRoute } from './routes/routes.ts'
import { sysctlPath } from './tools/sysctl.ts'
import type { TunnelPort } from './tunnel/port.ts'

/** The parts of the host that know their commands. */
interface DescribeParts {
  readonly names: HostNames
  readonly filter: FilterPort
  readonly tunnel: TunnelPort
  /** Folder of the sysctls; undefined: /proc/sys. */
  readonly sysctlRoot: string | undefined
  /** undefined: the host is not started, so the kind is not chosen yet. */
  readonly loadBalancer: LoadBalancer | undefined
}

/** Returns one text for each command; a text may have several lines. Runs no tool and needs no started host. */
export function describeOp(op: HostOp, parts: DescribeParts): readonly string[] {
  const { names, filter, tunnel, loadBalancer } = parts
  switch (op.kind) {
    case 'setSysctl':
      return [`echo ${op.sysctl.value} > ${sysctlPath(op.sysctl.name, parts.sysctlRoot)}`]
    case 'setTunnel':
    case 'removeTunnel':
    case 'setPeer':
    case 'removePeer':
      return tunnel.describe(op)
    case 'addRoute':
      return [`ip ${routeCommand('replace', tableRoute(op.route), names)}`]
    case 'removeRoute':
      return [`ip ${routeCommand('delete', tableRoute(op.route), names)}`]
    case 'addVip':
      return [`ip ${routeCommand('replace', { table: 'vip', route: op.vip }, names)}`]
    case 'removeVip':
      return [`ip ${routeCommand('delete', { table: 'vip', route: op.vip }, names)}`]
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

/** Describes a virtual server in words, because the kind of load balancer is known only after start(). */
function serverText(op: Extract<HostOp, { kind: 'setVirtualServer' | 'removeVirtualServer' }>): string {
  const { vip, protocol, port, scheduler, realServers } = op.virtualServer
  const verb = op.kind === 'setVirtualServer' ? 'set' : 'remove'
  const servers = realServers
    .map((server) => `${server.ip} ${server.port} weight ${server.weight}`)
    .join(', ')
  return `# ${verb} virtual server ${protocol} ${vip} ${port} ${scheduler}: ${servers || 'none, refused'}`
}
