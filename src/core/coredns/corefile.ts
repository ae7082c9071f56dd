// The Corefile of a CoreDNS that the agent owns, for the clusters now known. CoreDNS's `reload` picks a new one up.
// Source: CoreDNS 1.15, plugins kubernetes, forward, reload.
//
// One server block for each cluster, because the kubernetes plugin has one API endpoint and CoreDNS takes a plugin once per
// block. At its start CoreDNS waits for the blocks one after another, 0.1 s each at least: beyond some hundred clusters
// forward to the agent's own responder instead (`forwardCorefile`).
import type { DomainName } from '../dns/record.ts'
import { clusterZone, MERGED_ZONES } from '../model/zones.ts'
import type { ClusterView, MeshView } from '../view/view.ts'
import { ALL } from './feed.ts'
import { reverseZones } from './reverse-zones.ts'

interface CorefileOptions {
  /** Where the feed listens: "http://127.0.0.1:948". */
  readonly feedUrl: string
  /** Where CoreDNS listens; without addresses: everywhere. */
  readonly bind?: readonly string[]
  readonly port?: number
  /** For all other names: addresses, or "/etc/resolv.conf". None: SERVFAIL for other names. */
  readonly upstreams?: readonly string[]
  /** "127.0.0.1:9153" for metrics, "127.0.0.1:8181" for readiness. */
  readonly prometheus?: string
  readonly ready?: string
}

/** The first line: a file without it is somebody else's. */
export const WRITTEN_BY = '# Written by meshd for its mesh: changes are lost.'

/** Throws a RangeError on an option that is no address: what it says goes into a file that is run. */
export function corefile(view: MeshView, options: CorefileOptions): string {
  const feedUrl = checked(options.feedUrl.replace(/\/+$/, ''), URL_TEXT)
  const clusters = [...view.clusters.values()]
  const owned = new Set<DomainName>()
  const feedBlock = (name: string, zones: readonly DomainName[]): string =>
    block(zones, options, [
      'kubernetes {',
      `    endpoint ${feedUrl}/clusters/${name}`,
      `    ttl ${TTL_SECONDS}`,
      '    # 10,000 services take under one; blocks wait one after another, and SERVFAIL is right until then.',
      '    startup_timeout 2s',
      '    # Each client may list its three kinds at once, at its start.',
      '    apiserver_burst 20',
      '}',
      'loadbalance'
    ])
  const blocks = clusters.map((cluster) => feedBlock(cluster.name, zonesOf(cluster, owned)))
  return document([...blocks, feedBlock(ALL, MERGED_ZONES)], options)
}

interface ForwardCorefileOptions extends Omit<CorefileOptions, 'feedUrl'> {
  /** "10.0.0.2:53": where the agent's responder listens. */
  readonly responders: readonly string[]
}

/** The other way: CoreDNS sends the mesh's zones to the agent's responder. Works with managed DNS, too. */
export function forwardCorefile(view: MeshView, options: ForwardCorefileOptions): string {
  const owned = new Set<DomainName>()
  const zones = [...view.clusters.values()].flatMap((cluster) => zonesOf(cluster, owned))
  const responders = options.responders.map((address) => checked(address, ADDRESS)).join(' ')
  const mesh = block([...zones, ...MERGED_ZONES], options, [
    `forward . ${responders} {`,
    '    max_fails 0',
    '}'
  ])
  return document([mesh], options)
}

/** In no mesh: all names go upstream. */
export function upstreamCorefile(options: Omit<CorefileOptions, 'feedUrl'>): string {
  return document([], options)
}

/** What our own responder has, too (src/core/dns/record.ts): seconds. */
const TTL_SECONDS = 5
const URL_TEXT = /^https?:\/\/(\[[0-9a-fA-F:.]+\]|[0-9a-zA-Z.-]+)(:\d{1,5})?$/
const ADDRESS = /^(\/[\w./-]+|(\[[0-9a-fA-F:.]+\]|[0-9.]+)(:\d{1,5})?|[0-9a-fA-F:]+)$/

/** `owned`: a reverse zone is the first cluster's that has it; authorised prefixes never overlap, zones of /32s may meet. */
function zonesOf(cluster: ClusterView, owned: Set<DomainName>): readonly DomainName[] {
  const reverse = [...cluster.servicePrefixes, ...cluster.podPrefixes].flatMap(reverseZones)
  const mine = reverse.filter((zone) => !owned.has(zone))
  for (const zone of mine) owned.add(zone)
  return [clusterZone(cluster.name), ...new Set(mine)]
}

function document(blocks: readonly string[], options: Omit<CorefileOptions, 'feedUrl'>): string {
  const upstreams = (options.upstreams ?? []).map((address) => checked(address, ADDRESS))
  const rest = [
    ...(upstreams.length === 0 ? [] : [`forward . ${upstreams.join(' ')}`, 'cache 30', 'loop']),
    'reload 2s 1s',
    ...(options.prometheus === undefined ? [] : [`prometheus ${checked(options.prometheus, ADDRESS)}`]),
    ...(options.ready === undefined ? [] : [`ready ${checked(options.ready, ADDRESS)}`])
  ]
  return [WRITTEN_BY, ...blocks, block(['.'], options, rest)].join('\n')
}

function block(
  zones: readonly DomainName[],
  { port = 53, bind = [] }: { readonly port?: number; readonly bind?: readonly string[] },
  lines: readonly string[]
): string {
  const addresses = bind.map((address) => checked(address, ADDRESS))
  const body = [...(addresses.length === 0 ? [] : [`bind ${addresses.join(' ')}`]), 'errors', ...lines]
  const keys = zones.map((zone) => `${zone}:${port}`).join(' ')
  return `${keys} {\n${body.map((line) => `    ${line}\n`).join('')}}\n`
}

function checked(text: string, form: RegExp): string {
  if (!form.test(text)) throw new RangeError(`not an address for a Corefile: ${JSON.stringify(text)}`)
  return text
}
