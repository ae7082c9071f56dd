// Keeps up to date what this host reaches without the mesh (its surroundings), and sets a fault for each prefix of
// the mesh that overlaps it (docs/decisions/0040). The desired state of the host takes the surroundings from here, so
// that they stay outside the tunnel.
import { gatewaysOf } from '../../core/host/nodes.ts'
import { cidrContains, cidrOverlaps, parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import { hostOfMultiaddr } from '../../core/model/outer-address.ts'
import {
  NO_SURROUNDINGS,
  outerAddresses,
  overlapsOfAll,
  overlapText,
  type Overlap,
  type Surroundings
} from '../../core/host/surroundings.ts'
import type { MeshView } from '../../core/view/view.ts'
import { findUpstreams } from '../../io/dns/upstreams.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Health } from '../observe/health.ts'
import { dnsUpstreams } from '../session/local-facts.ts'
import type { Settings } from '../settings/settings.ts'

const READ_DEADLINE_MS = 10_000

/** The sources of the surroundings, and the registry in which the faults are set. */
interface HostNetworksOptions {
  readonly host: LinuxHost | undefined
  readonly settings: Settings
  readonly health: Health
  /** Returns the multiaddrs of control connections that are open or being dialled. */
  readonly controls: () => Iterable<string>
}

/** The surroundings of one host during one session. */
export class HostNetworks {
  readonly #options: HostNetworksOptions
  #value: Surroundings | undefined
  #addresses: ReadonlySet<Ip> = new Set()
  /** The surroundings as JSON, to see whether a new reading differs. */
  #text = ''
  /** The view and the surroundings that `judge` last compared, by identity. */
  #judged: readonly unknown[] = []
  #overlaps: ReadonlyMap<string, string> = new Map()

  constructor(options: HostNetworksOptions) {
    this.#options = options
    // Without a data plane nothing is routed.
    if (options.host === undefined) this.#value = NO_SURROUNDINGS
  }

  /**
   * The surroundings as last read, with the present control connections. undefined: not read yet, so nothing may be
   * routed. Without a data plane it has no networks.
   */
  get value(): Surroundings | undefined {
    return this.#value && { ...this.#value, controls: this.#controls() }
  }

  /** The addresses of this host as last read; the same object while nothing has changed. */
  get addresses(): ReadonlySet<Ip> {
    return this.#addresses
  }

  /** The overlaps that the last `judge` found, as text by prefix, for `meshctl routes`. */
  get overlaps(): ReadonlyMap<string, string> {
    return this.#overlaps
  }

  /**
   * Reads the surroundings, within READ_DEADLINE_MS. Returns whether they have changed. When they cannot be read, the
   * earlier ones stay and the fault HOST_NETWORKS is set: critical when there are no earlier ones, since nothing is
   * routed then. Called at the start and on each hint of the kernel about routes.
   */
  async refresh(): Promise<boolean> {
    const { host, health } = this.#options
    if (host === undefined) return false
    try {
      const read = await host.surroundings(AbortSignal.timeout(READ_DEADLINE_MS))
      const value = { ...read, resolvers: this.#resolvers() }
      health.clear('HOST_NETWORKS')
      const text = JSON.stringify(value)
      if (text === this.#text) return false
      this.#text = text
      this.#value = value
      this.#addresses = new Set(value.addresses)
      return true
    } catch (error) {
      health.setError('HOST_NETWORKS', error, {
        severity: this.#value === undefined ? 'critical' : 'error',
        fix: 'run `ip route show` on this host to see why it fails'
      })
      return false
    }
  }

  /**
   * Sets the fault PREFIX_OVERLAP for each prefix of another cluster that overlaps the surroundings. Called once a
   * second; does nothing when neither the view nor the surroundings have changed.
   */
  judge(view: MeshView): void {
    if (this.#judged[0] === view && this.#judged[1] === this.#value) return
    this.#judged = [view, this.#value]
    const surroundings = this.#value ?? NO_SURROUNDINGS
    const prefixes = [...view.clusters.values()]
      .filter(({ name }) => name !== view.self)
      .flatMap(({ name, podPrefixes, servicePrefixes }) =>
        [...podPrefixes, ...servicePrefixes].map((prefix) => ({ prefix, cluster: name }))
      )
    const owners = new Map(prefixes.map(({ prefix, cluster }) => [prefix, cluster]))
    const outers = outerAddresses(view)
    const overlaps = overlapsOfAll(prefixes, { surroundings, outers })
    const byPrefix = [...Map.groupBy(overlaps, ({ prefix }) => prefix)]
    this.#overlaps = new Map(byPrefix.map(([prefix, found]) => [prefix, `overlaps ${overlapText(found)}`]))
    const faults = byPrefix.map(([prefix, found]) => {
      const cluster = owners.get(prefix)
      const gateways = cluster === undefined ? [] : gatewaysOf(view.clusters.get(cluster) ?? { agents: [] })
      const ends = gateways.flatMap(({ agent }) => agent.tunnelAddress ?? [])
      const flat = outers.filter((outer) => outer.cluster === cluster).map(({ ip }) => ip)
      return overlapFault(cluster ?? '', found, { ends, flat })
    })
    this.#options.health.replace('PREFIX_OVERLAP', faults)
    this.#judgeBalanceCidr(view, surroundings)
  }

  /**
   * Sets the fault BALANCE_CIDR_OVERLAP for each prefix of a cluster, and each network of this host, that shares addresses with
   * those of balanced services. A network that is wider is none: the longer prefix wins.
   */
  #judgeBalanceCidr(view: MeshView, { networks }: Surroundings): void {
    const cidr = this.#options.settings['balance-cidr']
    const taken = [
      ...[...view.clusters.values()].flatMap(({ name, podPrefixes, servicePrefixes }) =>
        [...podPrefixes, ...servicePrefixes]
          .filter((prefix) => cidrOverlaps(prefix, cidr))
          .map((prefix) => ({ prefix, owner: `cluster ${name}` }))
      ),
      ...networks
        .filter(({ destination }) => cidrContains(cidr, destination))
        .map(({ destination, device }) => ({ prefix: destination, owner: `this host, on ${device}` }))
    ]
    this.#options.health.replace(
      'BALANCE_CIDR_OVERLAP',
      [...new Map(taken.map((each) => [each.prefix, each])).values()].map(({ prefix, owner }) => ({
        subject: prefix,
        severity: 'error' as const,
        message: `balance-cidr: ${cidr}, from which services with a policy get their addresses, overlaps ${prefix} of ${owner}: one hides addresses of the other on the hosts of this cluster`,
        fix: 'set balance-cidr to a prefix that neither a cluster of the mesh nor this host uses, on all agents of this cluster'
      }))
    )
  }

  /** Clears the faults of this file, because they do not concern an agent that is in no mesh. */
  stop(): void {
    this.#options.health.replace('PREFIX_OVERLAP', [])
    this.#options.health.replace('BALANCE_CIDR_OVERLAP', [])
    this.#options.health.clear('HOST_NETWORKS')
  }

  /** The DNS servers that this host or its responder asks, from resolv.conf and the setting dns-upstream. */
  #resolvers(): readonly Ip[] {
    const { settings } = this.#options
    const sources = new Set(['/etc/resolv.conf', ...dnsUpstreams(settings)])
    return [...sources].flatMap((source) => {
      try {
        return findUpstreams([source]).upstreams.flatMap(({ address }) => outside(parseIp(address)) ?? [])
      } catch {
        return [] // the DNS responder reports the error (DNS_UPSTREAM)
      }
    })
  }

  /** The addresses of the control connections, without duplicates and sorted, so that equal sets are equal lists. */
  #controls(): readonly Ip[] {
    const found = [...this.#options.controls()].map((multiaddr) => parseIp(hostOfMultiaddr(multiaddr)))
    return [...new Set(found.filter((ip) => ip !== undefined))].sort()
  }
}

/** Leaves out a resolver on the loopback address: no route of the mesh affects it. */
function outside(ip: Ip | undefined): Ip | undefined {
  return ip === undefined || ip.startsWith('127.') || ip === '::1' ? undefined : ip
}

/**
 * The fault of one prefix. An overlap with an address that the host needs is an error, and so is a network that takes the
 * whole prefix or the end of a tunnel (`ends`), since nothing of the cluster is reached then; any other network is a warning.
 * A network in which the hosts of that cluster are reached themselves (`flat`) reaches its pods, too.
 */
function overlapFault(
  cluster: string,
  overlaps: readonly Overlap[],
  { ends, flat }: { readonly ends: readonly Ip[]; readonly flat: readonly Ip[] }
) {
  const [{ prefix } = { prefix: '' }] = overlaps
  const hasAddress = overlaps.some(({ kind }) => kind === 'address')
  const takesAll = overlaps.some(
    ({ takes }) =>
      takes !== undefined &&
      (takes === prefix || ends.some((ip) => cidrContains(takes, ip))) &&
      !flat.some((ip) => cidrContains(takes, ip))
  )
  return {
    subject: prefix,
    severity: hasAddress || takesAll ? ('error' as const) : ('warning' as const),
    message: `prefix ${prefix} of cluster ${cluster} overlaps ${overlapText(overlaps)}; what this host reaches by itself stays outside the tunnel`,
    fix: takesAll
      ? `remove or renumber that network or route of this host (\`ip route show ${prefix}\`, \`ip address\`), or give ${cluster} another prefix: nothing of it is reached from here`
      : hasAddress
        ? `remove that address from the host that has it (\`ip address\` shows its device) if it is there by mistake, or give ${cluster} a prefix that no host of the mesh uses: \`meshctl leave\` there, then a new invite with other CIDRs`
        : `renumber that network, or give ${cluster} another prefix; until then its addresses in that network are not reached from here`
  }
}
