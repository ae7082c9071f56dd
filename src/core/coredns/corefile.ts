// The Corefile of a CoreDNS that the agent manages, for the clusters that are known now. The agent writes the file,
// and CoreDNS's plugin `reload` picks up a new one.
// Source: CoreDNS 1.15, plugins kubernetes, forward, reload.
//
// There is one server block for each cluster, because the kubernetes plugin has one API endpoint and CoreDNS allows a
// plugin once in each block. At its start CoreDNS waits for the blocks one after another, at least 0.1 s each. With
// more than about a hundred clusters, forward to the agent's own responder instead (`forwardCorefile`).
import type { DomainName } from '../dns/record.ts'
import { CLUSTERSET_ZONE, clusterZone, MERGED_ZONES } from '../model/zones.ts'
import type { ClusterView, MeshView } from '../view/view.ts'
import { ALL } from './feed.ts'
import { reverseZones } from './reverse-zones.ts'

/** Addresses for the file; all are checked before they are written. */
interface CorefileOptions {
  /** The URL of the feed: "http://127.0.0.1:948". */
  readonly feedUrl: string
  /** The addresses of the agent's DNS responder: "10.0.0.2:53". Without them, the file leaves clusterset.local out. */
  readonly responders?: readonly string[]
  /** The addresses that CoreDNS listens on; without them, all addresses. */
  readonly bind?: readonly string[]
  /** The port that CoreDNS listens on. Default: 53. */
  readonly port?: number
  /** The servers for all other names: addresses, or "/etc/resolv.conf". Without them, other names get SERVFAIL. */
  readonly upstreams?: readonly string[]
  /** "127.0.0.1:9153" for metrics, "127.0.0.1:8181" for readiness. Absent: the plugin is left out. */
  readonly prometheus?: string
  readonly ready?: string
}

/**
 * The first line of every file. A file without it belongs to another author and is not overwritten
 * (src/io/coredns/corefile-file.ts).
 */
export const WRITTEN_BY = '# Written by meshd for its mesh: changes are lost.'

/**
 * The Corefile in which CoreDNS reads services from the feed. Throws a RangeError for an option that is no address,
 * because its text goes into a file that CoreDNS executes.
 */
export function corefile(view: MeshView, options: CorefileOptions): string {
  const feedUrl = checked(options.feedUrl.replace(/\/+$/, ''), URL_TEXT)
  const clusters = [...view.clusters.values()]
  const owned = new Set<DomainName>()
  const feedBlock = (name: string, zones: readonly DomainName[]): string =>
    block(zones, options, [
      'kubernetes {',
      `    endpoint ${feedUrl}/clusters/${name}`,
      `    ttl ${TTL_SECONDS}`,
      '    # Loading 10,000 services takes less than 1 s. The blocks wait one after another and answer SERVFAIL until then.',
      '    startup_timeout 2s',
      '    # At its start each client lists services, endpoint slices and namespaces at the same time.',
      '    apiserver_burst 20',
      '}',
      'loadbalance'
    ])
  const blocks = clusters.map((cluster) => feedBlock(cluster.name, zonesOf(cluster, owned)))
  // Names of clusterset.local have a form that the plugin does not make of Services: "<host>.<cluster>.<service>…".
  const forwarded =
    options.responders === undefined ? [] : [forwardBlock([CLUSTERSET_ZONE], options.responders, options)]
  const merged = MERGED_ZONES.filter((zone) => zone !== CLUSTERSET_ZONE)
  return document([...blocks, feedBlock(ALL, merged), ...forwarded], options)
}

interface ForwardCorefileOptions extends Omit<CorefileOptions, 'feedUrl'> {
  readonly responders: readonly string[]
}

/**
 * The Corefile in which CoreDNS forwards the mesh's zones to the agent's responder. Throws a RangeError like
 * `corefile`.
 */
export function forwardCorefile(view: MeshView, options: ForwardCorefileOptions): string {
  const owned = new Set<DomainName>()
  const zones = [...view.clusters.values()].flatMap((cluster) => zonesOf(cluster, owned))
  return document([forwardBlock([...zones, ...MERGED_ZONES], options.responders, options)], options)
}

/** The block of zones that the agent's responder answers. */
function forwardBlock(
  zones: readonly DomainName[],
  responders: readonly string[],
  options: Omit<CorefileOptions, 'feedUrl'>
): string {
  const addresses = responders.map((address) => checked(address, ADDRESS)).join(' ')
  return block(zones, options, [`forward . ${addresses} {`, '    max_fails 0', '}'])
}

/** The Corefile of an agent that is in no mesh: all names go upstream. */
export function upstreamCorefile(options: Omit<CorefileOptions, 'feedUrl'>): string {
  return document([], options)
}

/** Time to live in seconds, the same as in the agent's responder (src/core/dns/record.ts). */
const TTL_SECONDS = 5
const URL_TEXT = /^https?:\/\/(\[[0-9a-fA-F:.]+\]|[0-9a-zA-Z.-]+)(:\d{1,5})?$/
const ADDRESS = /^(\/[\w./-]+|(\[[0-9a-fA-F:.]+\]|[0-9.]+)(:\d{1,5})?|[0-9a-fA-F:]+)$/

/**
 * The zones of one cluster. A reverse zone belongs to the first cluster that has it, and `owned` remembers it.
 * Authorised prefixes never overlap, but the zones of two /32 prefixes may be the same.
 */
function zonesOf(cluster: ClusterView, owned: Set<DomainName>): readonly DomainName[] {
  const reverse = [...cluster.servicePrefixes, ...cluster.podPrefixes].flatMap(reverseZones)
  const mine = reverse.filter((zone) => !owned.has(zone))
  for (const zone of mine) owned.add(zone)
  return [clusterZone(cluster.name), ...new Set(mine)]
}

/** The whole file: the blocks of the mesh, and the block for all other names. */
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

/** One server block with its keys and plugins. */
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

/** The text itself; throws a RangeError when it does not have this form. */
function checked(text: string, form: RegExp): string {
  if (!form.test(text)) throw new RangeError(`not an address for a Corefile: ${JSON.stringify(text)}`)
  return text
}
