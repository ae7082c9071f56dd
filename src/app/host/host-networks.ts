// What this host reaches without the mesh, kept up to date, and the faults where a prefix of the mesh overlaps it.
import { parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import {
  hostOfMultiaddr,
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

export interface HostNetworksOptions {
  readonly host: LinuxHost | undefined
  readonly settings: Settings
  readonly health: Health
  /** Multiaddrs of control connections that are open or dialled. */
  readonly controls: () => Iterable<string>
}

export class HostNetworks {
  readonly #options: HostNetworksOptions
  #value: Surroundings | undefined
  #text = ''
  /** What the last judgement was made of. */
  #judged: readonly unknown[] = []
  #overlaps: ReadonlyMap<string, string> = new Map()

  constructor(options: HostNetworksOptions) {
    this.#options = options
    // Without a data plane nothing is routed.
    if (options.host === undefined) this.#value = NO_SURROUNDINGS
  }

  /** undefined: not read yet, so nothing may be routed. */
  get value(): Surroundings | undefined {
    return this.#value && { ...this.#value, controls: this.#controls() }
  }

  /** By prefix, as of the last judgement. */
  get overlaps(): ReadonlyMap<string, string> {
    return this.#overlaps
  }

  /** Returns whether anything changed. What cannot be read is as it was. */
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
      return true
    } catch (error) {
      health.setError('HOST_NETWORKS', error, {
        severity: this.#value === undefined ? 'critical' : 'error',
        fix: 'run `ip route show` on this host and see why it fails'
      })
      return false
    }
  }

  /** Sets a fault for each prefix that overlaps what the host has. */
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
    const overlaps = overlapsOfAll(prefixes, { surroundings, outers: outerAddresses(view) })
    const byPrefix = [...Map.groupBy(overlaps, ({ prefix }) => prefix)]
    this.#overlaps = new Map(byPrefix.map(([prefix, found]) => [prefix, `overlaps ${overlapText(found)}`]))
    const faults = byPrefix.map(([prefix, found]) => overlapFault(owners.get(prefix) ?? '', found))
    this.#options.health.replace('PREFIX_OVERLAP', faults)
  }

  /** What it said is no matter of an agent in no mesh. */
  stop(): void {
    this.#options.health.replace('PREFIX_OVERLAP', [])
    this.#options.health.clear('HOST_NETWORKS')
  }

  #resolvers(): readonly Ip[] {
    const { settings } = this.#options
    const sources = new Set(['/etc/resolv.conf', ...dnsUpstreams(settings)])
    return [...sources].flatMap((source) => {
      try {
        return findUpstreams([source]).upstreams.flatMap(({ address }) => outside(parseIp(address)) ?? [])
      } catch {
        return [] // the DNS responder says what is wrong with it
      }
    })
  }

  #controls(): readonly Ip[] {
    const found = [...this.#options.controls()].map((multiaddr) => parseIp(hostOfMultiaddr(multiaddr)))
    return [...new Set(found.filter((ip) => ip !== undefined))].sort()
  }
}

/** A resolver on this host itself is no route's business. */
function outside(ip: Ip | undefined): Ip | undefined {
  return ip === undefined || ip.startsWith('127.') || ip === '::1' ? undefined : ip
}

function overlapFault(cluster: string, overlaps: readonly Overlap[]) {
  const [{ prefix } = { prefix: '' }] = overlaps
  const isGrave = overlaps.some(({ kind }) => kind === 'address')
  return {
    subject: prefix,
    severity: isGrave ? ('error' as const) : ('warning' as const),
    message: `prefix ${prefix} of cluster ${cluster} overlaps ${overlapText(overlaps)}; what this host reaches by itself stays outside the tunnel`,
    fix: isGrave
      ? `give ${cluster} a prefix that no host of the mesh uses: \`meshctl leave\` there, then a new invite with other CIDRs`
      : `renumber that network, or give ${cluster} another prefix; until then its addresses in that network are not reached from here`
  }
}
