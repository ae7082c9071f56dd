// Checks of the ways to the other members: a TCP connection to each address of their control plane, and the state of each
// tunnel, which the agent probes all the time.
// A TCP connection proves the way from this host to the member. The way back is proved by a tunnel that is up, since a probe
// was answered through it; `meshctl doctor` on the other host proves it for TCP.
import { hostOfMultiaddr } from '../../core/model/outer-address.ts'
import { parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import type { AgentView, ClusterView } from '../../core/view/view.ts'
import { tryConnection } from '../../io/network/try-connection.ts'
import type { Session } from '../session/session.ts'
import type { Finding } from './finding.ts'

const CONNECT_MS = 3000
/**
 * Members choose their addresses freely, perhaps those of third parties, so an examination may not become a scan: at most this
 * many addresses of one agent, this many agents of one cluster and this many in all, one SYN each. The agent itself dials
 * within the same bound of 6 addresses of one cluster (docs/host.md).
 */
const ADDRESSES_MAX = 3
const AGENTS_OF_CLUSTER_MAX = 2
const AGENTS_MAX = 64

/** One finding for each address at which an agent of another cluster says that it is reached over TCP. */
export async function checkControl(session: Pick<Session, 'control'>): Promise<readonly Finding[]> {
  const all = Map.groupBy(gatewaysOf(session), ({ cluster }) => cluster.name)
  const agents = [...all.values()]
    .flatMap((list) => list.slice(0, AGENTS_OF_CLUSTER_MAX))
    .slice(0, AGENTS_MAX)
  const findings = await Promise.all(
    agents.map(async ({ cluster, agent }) => {
      const isConnected = session.control.neighbour(agent.origin) !== undefined
      const addresses = agent.agent.multiaddrs.flatMap(tcpOf).slice(0, ADDRESSES_MAX)
      const subject = `${cluster.name} ${agent.agent.node}`
      if (addresses.length === 0)
        return [
          {
            check: 'control' as const,
            state: 'ok' as const,
            subject,
            text: 'it announces no address, so only it can open a connection'
          }
        ]
      const tried = await Promise.all(addresses.map((address) => tryOne(address)))
      const open = tried.filter(({ ms }) => ms !== undefined)
      return tried.map((one) => controlFinding(one, { subject, isConnected, isAnyOpen: open.length > 0 }))
    })
  )
  return findings.flat()
}

/** One address, and what came of a connection to it. `why`: a clause for people; '' where it was opened. */
interface Tried {
  readonly where: string
  /** undefined: no connection. */
  readonly ms: number | undefined
  readonly why: string
}

/** Opens one connection; never rejects. */
async function tryOne({ ip, port }: { readonly ip: Ip; readonly port: number }): Promise<Tried> {
  const where = `TCP ${ip.includes(':') ? `[${ip}]` : ip}:${port}`
  const tried = await tryConnection({ ip, port }, CONNECT_MS)
  if (tried.kind === 'connected') return { where, ms: tried.ms, why: '' }
  const words = { refused: 'is refused', silent: `is not answered within ${CONNECT_MS / 1000} s` }
  return { where, ms: undefined, why: tried.kind === 'failed' ? `fails: ${tried.code}` : words[tried.kind] }
}

/** One closed address of several is no fault: agents have addresses in networks that not all members reach. */
function controlFinding(
  { where, ms, why }: Tried,
  facts: { readonly subject: string; readonly isConnected: boolean; readonly isAnyOpen: boolean }
): Finding {
  const { subject } = facts
  if (ms !== undefined)
    return { check: 'control', state: 'ok', subject, text: `${where} answers after ${ms.toFixed(1)} ms` }
  if (facts.isConnected || facts.isAnyOpen)
    return {
      check: 'control',
      state: 'ok',
      subject,
      text: `${where} ${why}, and there is another way: a connection that ${facts.isConnected ? 'is open' : 'can be opened'}`
    }
  return {
    check: 'control',
    state: 'warning',
    subject,
    text: `${where} ${why}, and no connection to this agent is open`,
    fix: 'start meshd there, and let this TCP port through the firewalls between the two hosts'
  }
}

/** The state of the tunnel to each gateway, and its path MTU. UDP is judged by probes that were answered: both ways. */
export async function checkTunnels(session: Pick<Session, 'control' | 'paths'>): Promise<readonly Finding[]> {
  return gatewaysOf(session).flatMap(({ cluster, agent }): readonly Finding[] => {
    const subject = `${cluster.name} ${agent.agent.node}`
    const tunnel = session.paths.tunnels.of(agent.origin)
    const at = tunnel?.stats?.peerAddress
    const way = session.paths.ways.of(agent.origin)
    if (tunnel?.state === 'up') {
      const mtu = tunnel.pathMtu === undefined ? '' : `, path MTU ${tunnel.pathMtu} bytes`
      const rtt = tunnel.rttMs === undefined ? '' : `, round trip ${tunnel.rttMs.toFixed(1)} ms`
      return [
        {
          check: 'tunnel',
          state: 'ok',
          subject,
          text:
            way === undefined || way.path === 'direct'
              ? `UDP ${at ?? 'from the peer'} answers through the tunnel${rtt}${mtu}`
              : `the tunnel answers over ${way.relay === undefined ? 'TCP, since UDP gets no answer' : `the relay ${way.relay.node} of cluster ${way.relay.cluster}, since ${way.reason}`}${rtt}${mtu}`
        }
      ]
    }
    const reason = tunnel?.reason === undefined ? '' : `: ${tunnel.reason}`
    return [
      {
        check: 'tunnel',
        state: tunnel?.state === 'down' ? 'fault' : 'warning',
        subject,
        text: `the tunnel is ${tunnel?.state ?? 'not seen yet'}${reason}`,
        fix: tunnelFix(agent, at)
      }
    ]
  })
}

/** What the operator does about a tunnel that does not answer. `at`: the address that WireGuard uses now. */
function tunnelFix({ agent: { node, wireguardAddresses } }: AgentView, at: string | undefined): string {
  const announced = at ?? wireguardAddresses[0]
  return announced === undefined
    ? `${node} announces no address for UDP, so it has to reach this host: let the UDP port of this host (wireguard-port) in`
    : `let UDP ${announced} through the firewalls between the two hosts, in both directions`
}

/** All gateways of other clusters. Agents of the own cluster are reached without a tunnel. */
function gatewaysOf({
  control
}: Pick<Session, 'control'>): readonly { readonly cluster: ClusterView; readonly agent: AgentView }[] {
  const view = control.view()
  return [...view.clusters.values()]
    .filter(({ name }) => name !== view.self)
    .flatMap((cluster) =>
      cluster.agents.filter(({ agent }) => agent.role === 'gateway').map((agent) => ({ cluster, agent }))
    )
}

/** The address and port of "/ip4/203.0.113.7/tcp/7946"; none for other multiaddrs. */
function tcpOf(multiaddr: string): readonly { readonly ip: Ip; readonly port: number }[] {
  const ip = parseIp(hostOfMultiaddr(multiaddr))
  const port = Number(/\/tcp\/(\d{1,5})(?:\/|$)/.exec(multiaddr)?.[1] ?? 0)
  return ip === undefined || port < 1 || port > 65_535 ? [] : [{ ip, port }]
}
