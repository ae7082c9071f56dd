// The chains of the packet filter, as text of nft. src/io/host/filter/filter.ts puts them into the table with the sets
// that they name.
// The order of hooks and priorities is that of the kernel's netfilter (nft(8), "Standard priority names"):
//   forward, input   Default deny for packets from the tunnel device; other packets are not judged. On this host, other
//                    clusters reach the probe and the endpoints of exported services that are the host itself. Other
//                    ports of its pod-side addresses are refused at once.
//                    With `reach: services`, other clusters reach the ready endpoints of exported services only, by
//                    exact address, protocol and port; those of services for named clusters only from their sources
//                    (`from`). Clusters in the set `barred` open no connection at all. Pods of
//                    the nodes of this cluster (`nodes`) reach the other clusters through this host, and its probe.
//   guard            Refuses a port of a guarded service address without a virtual server, so that no process of this
//                    host gets it. It runs after IPVS (input 98) and DNAT (prerouting): a packet that still has such an
//                    address was not balanced.
//   claim            The VIP route makes service addresses local, so DNAT of other programs for local addresses
//                    (hostPort, `docker -p`, NodePort) would take them. As a connection is translated once, `claim`
//                    translates it to the same address first, after the load balancer's chain. IPVS balances later.
//   keep             Translates the source of packets between clusters to itself before the CNI's masquerade (100),
//                    because a source, too, is translated once. An `accept` in a table of ours would not stop the
//                    chain of another program.
//   note, hairpin    A pod whose connection to a service comes back to itself would drop a packet with its own source,
//                    so it sees this host's address. nft cannot compare two fields: `note` records (client, client)
//                    before the translation, and `keep` looks up (source, destination) after it.
//   unreal, translate-in  Addresses of pods that other clusters know by virtual prefixes (translation.ts).
//   strays           Records sources outside the pod prefixes that went into the tunnel (src/io/host/obstacles.ts).
//   mss              Clamps the TCP MSS in both directions: with one alone, a peer behind a path without ICMP hangs.
import type { Filter } from '../../../core/host/host-state.ts'
import { inwardChains, notVirtual, outwardRules } from './translation.ts'

/**
 * One more than LB_NAT_PRIORITY (−199) of load-balancer/nftables/table.ts, so that a connection that the load balancer
 * has translated is not translated again.
 */
const CLAIM_PRIORITY = -198

/**
 * The chains as text. 40 and 60 bytes are the headers of IPv4 and IPv6 with that of TCP. The kernel's own priorities
 * are conntrack −200, mangle −150, DNAT −100, filter 0 and SNAT 100 (nft(8)).
 */
export function chains(device: string, filter: Filter): string {
  const { mtu, probePort, reach } = filter
  // UDP of the probe (src/io/probe/probe.ts), by which the agents of two clusters tell whether their tunnel is up.
  const probe = [
    `    ip saddr @remote4 udp dport ${probePort} accept`,
    `    ip6 saddr @remote6 udp dport ${probePort} accept`,
    `    ip saddr @nodes4 udp dport ${probePort} accept`,
    `    ip6 saddr @nodes6 udp dport ${probePort} accept`
  ]
  // Limits the TCP MSS to what the MTU of the tunnel device allows. `side` is iifname for packets that come from the
  // tunnel, oifname for packets that go into it.
  const clamp = (side: string) => [
    `    ${side} "${device}" meta nfproto ipv4 tcp flags syn tcp option maxseg size set ${mtu - 40}`,
    `    ${side} "${device}" meta nfproto ipv6 tcp flags syn tcp option maxseg size set ${mtu - 60}`
  ]
  const byRoute = (side: string) => [
    `    ${side} "${device}" tcp flags syn tcp option maxseg size set rt mtu`
  ]
  const onHost = reach === 'services' ? 'reach' : 'endpoints'
  const chain = (name: string, ...lines: readonly string[]) =>
    [`  chain ${name} {`, ...lines, '  }'].join('\n')
  return [
    chain('refuse', '    meta l4proto 6 reject with tcp reset', '    reject with icmpx port-unreachable'),
    chain(
      'forward',
      '    type filter hook forward priority -10; policy accept;',
      `    iifname != "${device}" accept`,
      '    ct state established,related accept',
      '    ip saddr @nodes4 ip daddr @remote4 accept',
      '    ip6 saddr @nodes6 ip6 daddr @remote6 accept',
      '    ip saddr @barred4 ip daddr @local4 goto refuse',
      '    ip6 saddr @barred6 ip6 daddr @local6 goto refuse',
      ...(reach === 'services'
        ? [
            '    ip saddr @remote4 ip daddr . meta l4proto . th dport @reach4 accept',
            '    ip6 saddr @remote6 ip6 daddr . meta l4proto . th dport @reach6 accept',
            ...fromRules(filter),
            '    ip saddr @remote4 ip daddr @local4 goto refuse',
            '    ip6 saddr @remote6 ip6 daddr @local6 goto refuse'
          ]
        : [
            '    ip saddr @remote4 ip daddr @local4 accept',
            '    ip6 saddr @remote6 ip6 daddr @local6 accept'
          ]),
      '    counter drop'
    ),
    chain(
      'input',
      '    type filter hook input priority -10; policy accept;',
      `    iifname != "${device}" accept`,
      '    ct state established,related accept',
      '    ip saddr @remote4 icmp type echo-request accept',
      '    ip6 saddr @remote6 icmpv6 type echo-request accept',
      '    ip saddr @nodes4 icmp type echo-request accept',
      '    ip6 saddr @nodes6 icmpv6 type echo-request accept',
      ...(probePort === 0 ? [] : probe),
      '    ip saddr @barred4 ip daddr @local4 goto refuse',
      '    ip6 saddr @barred6 ip6 daddr @local6 goto refuse',
      `    ip saddr @remote4 ip daddr . meta l4proto . th dport @${onHost}4 accept`,
      `    ip6 saddr @remote6 ip6 daddr . meta l4proto . th dport @${onHost}6 accept`,
      ...fromRules(filter),
      '    ip saddr @remote4 ip daddr @local4 goto refuse',
      '    ip6 saddr @remote6 ip6 daddr @local6 goto refuse',
      // The prober of a node asks the kernel here (io/probe/probe.ts), as those of other clusters do.
      '    ip saddr @nodes4 ip daddr @local4 goto refuse',
      '    ip6 saddr @nodes6 ip6 daddr @local6 goto refuse',
      '    counter drop'
    ),
    chain(
      'guard',
      '    type filter hook input priority 110; policy accept;',
      '    ip daddr @own4 accept',
      '    ip6 daddr @own6 accept',
      '    ip daddr @vips4 goto refuse',
      '    ip6 daddr @vips6 goto refuse'
    ),
    ...(['prerouting', 'output'] as const).map((hook) =>
      chain(
        `claim-${hook}`,
        `    type nat hook ${hook} priority ${CLAIM_PRIORITY}; policy accept;`,
        '    ip daddr @own4 accept',
        '    ip6 daddr @own6 accept',
        '    ip daddr @vips4 dnat ip to ip daddr',
        '    ip6 daddr @vips6 dnat ip6 to ip6 daddr'
      )
    ),
    ...inwardChains(device, filter, CLAIM_PRIORITY),
    chain(
      'keep',
      '    type nat hook postrouting priority 90; policy accept;',
      '    ip saddr . ip daddr @hairpin4 masquerade',
      '    ip6 saddr . ip6 daddr @hairpin6 masquerade',
      ...outwardRules(device, filter),
      `    oifname "${device}" ip saddr @local4 ip daddr @remote4 snat ip to ip saddr`,
      `    oifname "${device}" ip6 saddr @local6 ip6 daddr @remote6 snat ip6 to ip6 saddr`,
      '    ip saddr @remote4 ip daddr @local4 snat ip to ip saddr',
      '    ip6 saddr @remote6 ip6 daddr @local6 snat ip6 to ip6 saddr'
    ),
    chain(
      'note',
      '    type filter hook prerouting priority -120; policy accept;',
      '    ct state new ip saddr @local4 ip daddr @vips4 update @hairpin4 { ip saddr . ip saddr }',
      '    ct state new ip6 saddr @local6 ip6 daddr @vips6 update @hairpin6 { ip6 saddr . ip6 saddr }'
    ),
    // This chain runs after every translation of source addresses.
    chain(
      'strays',
      '    type filter hook postrouting priority 300; policy accept;',
      // The kernel's own packets on a link (neighbour discovery, multicast) are left out: they are normal. So are packets of
      // other clusters, which a gateway sends on to its nodes.
      `    oifname "${device}" ip saddr != { 0.0.0.0, 169.254.0.0/16 } ip daddr != 224.0.0.0/4 ${notVirtual(filter, 4)}ip saddr != @local4 ip saddr != @remote4 update @stray4 { ip saddr }`,
      `    oifname "${device}" ip6 saddr != { ::, fe80::/10 } ip6 daddr != ff00::/8 ${notVirtual(filter, 6)}ip6 saddr != @local6 ip6 saddr != @remote6 update @stray6 { ip6 saddr }`
    ),
    chain('mss-in', '    type filter hook prerouting priority -150; policy accept;', ...clamp('iifname')),
    chain('mss-out', '    type filter hook postrouting priority -150; policy accept;', ...clamp('oifname')),
    // `rt mtu` is the MTU of the route to the other cluster, which is smaller where its path carries less than the
    // device.
    chain(
      'mss-path',
      '    type filter hook forward priority -150; policy accept;',
      ...byRoute('iifname'),
      ...byRoute('oifname')
    ),
    chain('mss-host', '    type filter hook postrouting priority -149; policy accept;', ...byRoute('oifname'))
  ].join('\n')
}

/** Opens endpoints to some clusters. The sets exist only where there are such endpoints (sets.ts). */
function fromRules({ reachableFrom = [] }: Filter): readonly string[] {
  if (reachableFrom.length === 0) return []
  return [
    '    ip saddr . ip daddr . meta l4proto . th dport @from4 accept',
    '    ip6 saddr . ip6 daddr . meta l4proto . th dport @from6 accept'
  ]
}
