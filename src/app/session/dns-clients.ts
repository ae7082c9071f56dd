// Decides which clients the DNS responder answers: pods and nodes of this cluster, and the prefixes of the setting
// dns-allow. Other clusters have their own responders. The responder itself always answers this host
// (io/dns/access.ts). The file also reports the responder's counts and problems.
import { hostCidr, parseIp } from '../../core/model/cidr.ts'
import type { Cidr, Ip } from '../../core/model/values.ts'
import type { AgentView } from '../../core/view/view.ts'
import type { QueryCount } from '../../io/dns/process/protocol.ts'
import type { DnsProblem } from '../../io/dns/problems.ts'
import type { Health } from '../observe/health.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Settings } from '../settings/settings.ts'

/** Returns the allowed prefixes, as text, without duplicates. */
export function dnsClients(of: {
  readonly settings: Pick<Settings, 'dns-allow'>
  readonly podPrefixes: readonly Cidr[]
  /** The agents of this cluster. Their hosts are nodes of the cluster. */
  readonly agents: readonly AgentView[]
  /** InternalIP addresses of the Nodes; empty without a Kubernetes API. */
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

/**
 * Returns the path of the responder's control socket: beside the agent's own socket, so that the next agent with the
 * same settings finds the responder. `.dns` in place of `.sock` keeps the path within the bound that the setting
 * socket has (unix(7) allows 108 bytes).
 */
export function dnsControlPath({ socket }: Pick<Settings, 'socket'>): string {
  return `${socket.replace(/\.sock$/, '')}.dns`
}

/** Adds the counts of the responder, which it sends several times a second, to the metrics. */
export function countDnsQueries(metrics: Metrics, counts: readonly QueryCount[]): void {
  for (const { zone, rcode, seconds } of counts) {
    for (const [value, count] of seconds) {
      metrics.dnsQueries.inc({ zone, rcode }, count)
      // prom-client's histogram takes one observation at a time. A busy responder has some thousand queries a second.
      for (let index = 0; index < count; index++) metrics.dnsSeconds.observe({ zone }, value)
    }
  }
}

/**
 * Replaces the faults DNS_UPSTREAM and DNS_LOOP by the problems that the responder has now. All are warnings: names
 * of the mesh are answered nevertheless.
 */
export function replaceDnsProblems(health: Health, problems: readonly DnsProblem[]): void {
  for (const code of ['DNS_UPSTREAM', 'DNS_LOOP'] as const) {
    const texts = problems.filter((problem) => problem.code === code)
    health.replace(
      code,
      texts.map(({ subject, message, fix }) => ({ severity: 'warning' as const, subject, message, fix }))
    )
  }
}
