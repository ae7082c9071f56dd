// Whose DNS questions are answered: pods and nodes of this cluster, and what the setting dns-allow adds. Other clusters have responders of
// their own. This host itself is always answered (io/dns/access.ts).
import { hostCidr, parseIp } from '../../core/model/cidr.ts'
import type { Cidr, Ip } from '../../core/model/values.ts'
import type { AgentView } from '../../core/view/view.ts'
import type { QueryCount } from '../../io/dns/process/protocol.ts'
import type { DnsProblem } from '../../io/dns/problems.ts'
import type { Health } from '../observe/health.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Settings } from '../settings/settings.ts'

export function dnsClients(of: {
  readonly settings: Pick<Settings, 'dns-allow'>
  readonly podPrefixes: readonly Cidr[]
  /** Gateways of this cluster: their hosts are nodes of it. */
  readonly agents: readonly AgentView[]
  /** Of the Nodes, where Kubernetes tells. */
  readonly nodeAddresses: readonly Ip[]
}): readonly string[] {
  const hosts = of.agents
    .flatMap(({ agent }) => [
      ...(agent.tunnelAddress === undefined ? [] : [agent.tunnelAddress]),
      ...agent.wireguardAddresses.map((address) => address.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')),
      ...agent.multiaddrs.map((address) => /^\/ip[46]\/([^/]+)/.exec(address)?.[1] ?? '')
    ])
    .map(parseIp)
    .filter((ip) => ip !== undefined)
  const nodes = [...hosts, ...of.nodeAddresses].map(hostCidr)
  return [...new Set([...of.podPrefixes, ...nodes, ...of.settings['dns-allow']])]
}

/** Where an agent finds its responder process: beside its own socket, and no longer than that. */
export function dnsControlPath({ socket }: Pick<Settings, 'socket'>): string {
  return `${socket.replace(/\.sock$/, '')}.dns`
}

export function countDnsQueries(metrics: Metrics, counts: readonly QueryCount[]): void {
  for (const { zone, rcode, seconds } of counts) {
    for (const [value, count] of seconds) {
      metrics.dnsQueries.inc({ zone, rcode }, count)
      // The library's histogram takes one observation at a time; a second has some thousand.
      for (let index = 0; index < count; index++) metrics.dnsSeconds.observe({ zone }, value)
    }
  }
}

export function replaceDnsProblems(health: Health, problems: readonly DnsProblem[]): void {
  for (const code of ['DNS_UPSTREAM', 'DNS_LOOP'] as const) {
    const texts = problems.filter((problem) => problem.code === code)
    health.replace(
      code,
      texts.map(({ subject, message, fix }) => ({ severity: 'warning' as const, subject, message, fix }))
    )
  }
}
