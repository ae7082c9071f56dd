// The fault of a tunnel that is carried over TCP: traffic passes, but slower, and not while meshd restarts.
import { hostOfPeerAddress } from '../../core/model/outer-address.ts'
import type { AgentView, ClusterView } from '../../core/view/view.ts'
import type { FaultText } from '../observe/health.ts'
import type { PathNow } from './path-text.ts'

/** Returns the fault; undefined: the tunnel is direct, or there is none. */
export function carriedFault(
  { name }: Pick<ClusterView, 'name'>,
  { agent }: AgentView,
  now: PathNow | undefined
): (FaultText & { readonly subject: string }) | undefined {
  if (now === undefined || now.path === 'direct') return undefined
  const [address] = agent.wireguardAddresses
  const where = address === undefined ? agent.node : hostOfPeerAddress(address)
  const port = /:(\d+)$/.exec(address ?? '')?.[1]
  return {
    subject: `${name} ${agent.node}`,
    severity: 'warning',
    message: `the tunnel to ${agent.node} of cluster ${name} goes over TCP: ${now.reason}`,
    fix: `let UDP${port === undefined ? '' : ` ${port}`} pass between this host and ${where} in both directions; until then this tunnel is slower, and has no traffic while meshd restarts`
  }
}
