// Routers between the gateway of a site and the wide-area link of a world, as network namespaces with rules of nftables. What
// kind of NAT a site is behind is a matter of these rules and of the gateway's addresses, so a test changes it while the
// agents run.
//
//   gateway 192.168.1.(1+N) ── lan0 inner mid0 ── 100.64.N.0/30 ── mid0 outer wan0 203.0.113.(20+N) ── wan
//           2001:db8:N::2 where the site has IPv6 alone
import type { Site, World } from '../../demo/site.ts'
import type { Namespace } from './netns.ts'

/**
 * `independent`: one outer port for all destinations, and only a destination to which a packet has left may answer, by
 * address and port (masquerade of Linux). `forwarded`: the same with WireGuard's port forwarded. `symmetric`: another outer port
 * for each destination. `noUdp`: TCP to the outside alone, behind such a NAT. `ipv6`: no IPv4, and a firewall that lets in
 * answers only. `double`: two NATs, one behind the other.
 */
export type NatKind = 'independent' | 'forwarded' | 'symmetric' | 'noUdp' | 'ipv6' | 'double'

/** A site behind two routers, of which the inner one translates for `double` only. */
export class NatSite {
  readonly site: Site
  readonly #number: number
  readonly #inner: Namespace
  readonly #outer: Namespace

  private constructor(site: Site, number: number, inner: Namespace, outer: Namespace) {
    this.site = site
    this.#number = number
    this.#inner = inner
    this.#outer = outer
  }

  /** Puts a site of a world behind its routers. `number`: 1 to 9, another one for each site. */
  static async raise({ lab }: World, site: Site, number: number): Promise<NatSite> {
    const { cluster } = site
    const wan = await lab.namespace('wan')
    const inner = await lab.namespace(`${cluster}-inner`)
    const outer = await lab.namespace(`${cluster}-outer`)
    const nat = new NatSite(site, number, inner, outer)
    await wan.exec(['ip', 'link', 'set', cluster, 'nomaster'])
    await wan.exec(['ip', 'link', 'set', cluster, 'netns', inner.name, 'name', 'lan0'])
    const [mid4, mid6] = [`100.64.${number}`, `fd64:${number}:`]
    await lab.link(inner, 'mid0', [`${mid4}.2/30`, `${mid6}:2/64`], outer, 'mid0', [
      `${mid4}.1/30`,
      `${mid6}:1/64`
    ])
    await lab.attach(wan, 'wan', `${cluster}-nat`, {
      namespace: outer,
      device: 'wan0',
      cidr: [`203.0.113.${20 + number}/24`, `2001:db8:113::${20 + number}/64`]
    })
    await ip(inner, [
      'link set lan0 up',
      'address add 192.168.1.1/24 dev lan0',
      `address add 2001:db8:${number}::1/64 dev lan0 nodad`,
      `route add default via ${mid4}.1`,
      `route add default via ${mid6}:1`
    ])
    await ip(outer, [
      `route add 192.168.1.0/24 via ${mid4}.2`,
      `route add 2001:db8:${number}::/64 via ${mid6}:2`
    ])
    for (const router of [inner, outer])
      await router.exec(['sysctl', '-q', '-w', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'])
    return nat
  }

  /** Changes what the site is behind. The routers forget all flows, as routers that start. */
  async become(kind: NatKind): Promise<void> {
    const { gateway } = this.site
    await this.#outer.exec(['nft', '-f', '-'], { input: rules('wan0', kind) })
    await this.#inner.exec(['nft', '-f', '-'], {
      input: kind === 'double' ? rules('mid0', 'independent') : 'flush ruleset'
    })
    await gateway.exec(['ip', 'address', 'flush', 'dev', 'wan0', 'scope', 'global'])
    const [address, router] =
      kind === 'ipv6'
        ? [`2001:db8:${this.#number}::2/64`, `2001:db8:${this.#number}::1`]
        : [`192.168.1.${1 + this.#number}/24`, '192.168.1.1']
    await ip(gateway, [
      `address add ${address} dev wan0${kind === 'ipv6' ? ' nodad' : ''}`,
      `route replace default via ${router}`
    ])
    for (const namespace of [this.#inner, this.#outer])
      await namespace.exec(['conntrack', '-F'], { check: false })
  }

  /** Tells a host on the wide-area link, or the router of another site there, the way to the IPv6 addresses of this one. */
  async tell(to: Namespace | NatSite): Promise<void> {
    await ip(to instanceof NatSite ? to.#outer : to, [
      `route add 2001:db8:${this.#number}::/64 via 2001:db8:113::${20 + this.#number}`
    ])
  }
}

/** Lines of `ip`, one after the other. */
async function ip(namespace: Namespace, lines: readonly string[]): Promise<void> {
  for (const line of lines) {
    const words = line.split(' ')
    await namespace.exec(['ip', ...(/[0-9a-f]:.*:/.test(line) ? ['-6'] : []), ...words])
  }
}

/** The rules of a router that translates to the address of this device, and drops what did not leave first. */
function rules(device: string, kind: NatKind): string {
  const isForwarded = kind === 'forwarded'
  return `flush ruleset
    table inet router {
      chain prerouting {
        type nat hook prerouting priority -100;
        ${isForwarded ? `iifname "${device}" udp dport 51820 dnat ip to 192.168.1.2;` : ''}
      }
      chain input {
        type filter hook input priority 0;
        ct state { established, related } accept;
        iifname "${device}" meta l4proto { tcp, udp } drop;
      }
      chain forward {
        type filter hook forward priority 0;
        ${kind === 'noUdp' ? 'meta l4proto udp drop;' : ''}
        ct state { established, related } accept;
        ct status dnat accept;
        iifname "${device}" drop;
      }
      chain postrouting {
        type nat hook postrouting priority 100;
        meta nfproto ipv4 oifname "${device}" masquerade ${kind === 'symmetric' ? 'random,fully-random' : ''};
      }
    }
  `
}
