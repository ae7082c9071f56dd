// The faults of a tunnel that is carried over TCP or by a relay: traffic passes, but slower, and not while meshd restarts.
import { hostOfPeerAddress } from '../../core/model/outer-address.ts'
import type { Origin } from '../../core/model/values.ts'
import type { AgentView, ClusterView } from '../../core/view/view.ts'
import type { FaultText } from '../observe/health.ts'
import type { PathNow } from './path-text.ts'

type CarriedFault = FaultText & { readonly subject: string }

/** Returns the faults of all tunnels that are carried. `path`: of a tunnel that is up; undefined: it is not, or is none. */
export function carriedFaults(
  members: readonly { readonly cluster: Pick<ClusterView, 'name'>; readonly agent: AgentView }[],
  path: (origin: Origin) => PathNow | undefined
): Readonly<Record<'PATH_TCP' | 'PATH_RELAY', readonly CarriedFault[]>> {
  const faults = { PATH_TCP: new Array<CarriedFault>(), PATH_RELAY: new Array<CarriedFault>() }
  for (const { cluster, agent } of members) {
    const now = path(agent.origin)
    if (now === undefined || now.path === 'direct') continue
    faults[now.relay === undefined ? 'PATH_TCP' : 'PATH_RELAY'].push(carriedFault(cluster, agent, now))
  }
  return faults
}

function carriedFault({ name }: Pick<ClusterView, 'name'>, { agent }: AgentView, now: PathNow): CarriedFault {
  const [address] = agent.wireguardAddresses
  const where = address === undefined ? agent.node : hostOfPeerAddress(address)
  const port = /:(\d+)$/.exec(address ?? '')?.[1]
  const passes = `between this host and ${where} in both directions`
  const udp = `UDP${port === undefined ? '' : ` ${port}`}`
  const subject = `${name} ${agent.node}`
  if (now.relay !== undefined)
    return {
      subject,
      severity: 'warning',
      message: `the tunnel to ${agent.node} of cluster ${name} goes over ${now.relay.node} of cluster ${now.relay.cluster}: ${now.reason}`,
      fix: `let ${udp}, or the TCP port of control connections, pass ${passes}; until then this tunnel shares the relay-rate of ${now.relay.node}, and has no traffic while meshd restarts here or there`
    }
  return {
    subject,
    severity: 'warning',
    message: `the tunnel to ${agent.node} of cluster ${name} goes over TCP: ${now.reason}`,
    fix: `let ${udp} pass ${passes}; until then this tunnel is slower, and has no traffic while meshd restarts`
  }
}
