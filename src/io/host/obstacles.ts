// Finds what other programs of this host do to packets of the mesh: packet filters that drop them, translation of their
// source before ours, routing rules before ours, foreign routes in our table, and senders whose source is outside the pod prefixes. It reads the
// rules of nft and iptables, asks the kernel for routes, and changes nothing. src/app/host/obstacles.ts asks every 30 s
// and at most every 5 s after changes of the host, and reports each result as a fault. One question starts six to eight
// processes. Only what is certain is reported (docs/decisions/0042-firewall-rules-judged-three-valued.md).
import { readFile } from 'node:fs/promises'
import * as z from 'zod'
import {
  droppedAtDevice,
  droppedBy,
  redirectedBy,
  parseNftRuleset,
  translatedBefore,
  untrackedBy,
  type FirewallChain,
  type FirewallPacket
} from '../../core/host/firewall.ts'
import { parseIptablesSave } from '../../core/host/iptables-save.ts'
import { familyOf, parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import { takenByPolicy } from './ipsec-policies.ts'
import { readRoutes } from './tools/ip.ts'
import { asRecord, keyOfRow } from './tools/nft-listing.ts'
import type { HostNames, Run } from './ports.ts'

/** An address in another cluster that this host must reach through the tunnel. */
interface FarPoint {
  readonly cluster: string
  readonly ip: Ip
}

/** The packets to look for. The filters of a family are judged only if both `far` and `pod` have such an address. */
export interface ObstacleQuestion {
  /** Filters are judged with the first address of each family. Routes are read for the first 256 addresses. */
  readonly far: readonly FarPoint[]
  /** A pod of this cluster and the device through which this host reaches it. undefined: not known. */
  readonly pod: { readonly ip: Ip; readonly device: string | undefined } | undefined
  /** UDP port of the probe on this host; 0: none is open. */
  readonly probePort: number
  /** Addresses of services that the load balancer of this host serves; the first SERVICES_MAX are judged. */
  readonly services?: readonly FarPoint[]
  /**
   * Ports of this host that other members reach outside the tunnel, the outer addresses of members, and the addresses of
   * their WireGuard.
   */
  readonly outer?: {
    readonly own: readonly Ip[]
    readonly others: readonly Ip[]
    readonly peers: readonly { readonly ip: Ip; readonly port: number }[]
    readonly ports: readonly { readonly protocol: 'tcp' | 'udp'; readonly port: number }[]
  }
}

/**
 * One thing that stops packets. `forward`, `input`: another chain of that hook drops them. `hook`: a chain of
 * prerouting, output or postrouting drops them. `service`, `untracked`: a rule drops packets to services before the load balancer sees them, or keeps them out of connection tracking. `redirect`: a rule sends packets for a port of meshd elsewhere. `port`: such packets are dropped. `egress`: packets for the WireGuard of members are dropped. `rule`: a routing rule leads elsewhere. `policy`: an IPsec policy takes them. `table`: a route of another
 * program stands in our routing table. `translation`: the source is translated before ours. `source`: packets with a source outside the pod prefixes went into the tunnel.
 */
export interface Obstacle {
  readonly kind:
    | 'forward'
    | 'hook'
    | 'service'
    | 'untracked'
    | 'input'
    | 'redirect'
    | 'port'
    | 'egress'
    | 'rule'
    | 'policy'
    | 'table'
    | 'translation'
    | 'source'
  /** The cluster (`rule`), the destination (`table`), the source address (`source`), the port (`input`, `redirect`, `port`, `egress`), or the direction of the packets. */
  readonly subject: string
  /** The rule, chain policy or address at fault, as text for people. */
  readonly by: string
}

/** Priority of our chain `keep` in src/io/host/filter/filter.ts. A nat chain with a lower one translates before it. */
const KEEP_PRIORITY = 90
/**
 * The kernel tracks connections at -200 and translates destinations at -100. A chain before the latter sees the address of
 * a service; a later one sees that of its endpoint, which ofFilters() judges.
 */
const CONNTRACK_PRIORITY = -200
const TRANSLATION_PRIORITY = -100
const SERVICES_MAX = 32
const FAR_MAX = 256 // one IPv4 and one IPv6 address for each of 128 clusters
const STRAYS_MAX = 8
/** Addresses of this host: a host has a few that others reach, and bridges of containers with one each. */
const OWN_MAX = 16
const FOREIGN_ROUTES_MAX = 8

/**
 * Returns all obstacles that can be found now. A tool that is missing or fails counts as a tool without rules; only
 * `ip` rejects. Errors: HostError.
 */
export async function findObstacles(
  run: Run,
  names: Pick<
    HostNames,
    'device' | 'nftTable' | 'rulePreference' | 'innerPreference' | 'routeTable' | 'routeProtocol'
  >,
  question: ObstacleQuestion,
  signal: AbortSignal
): Promise<readonly Obstacle[]> {
  const chains = await readChains(run, names.nftTable, signal)
  const [rules, policies, routes, strays] = await Promise.all([
    caughtByRules(run, names, question.far.slice(0, FAR_MAX), signal),
    takenByPolicy(run, { ...question, far: question.far.slice(0, FAR_MAX) }, signal),
    foreignRoutes(run, names, signal),
    straySources(run, names.nftTable, signal)
  ])
  return [
    ...ofFilters(chains, names.device, question),
    ...ofServices(chains, question),
    ...ofOuterPorts(chains, question),
    ...rules,
    ...policies.map(({ cluster, by }): Obstacle => ({ kind: 'policy', subject: cluster, by })),
    ...routes,
    ...strays
  ]
}

/** Judges the chains with the packets of one TCP flow and one probe in each direction, for each family. */
function ofFilters(
  chains: readonly FirewallChain[],
  device: string,
  { far, pod, probePort }: ObstacleQuestion
): readonly Obstacle[] {
  const found: Obstacle[] = []
  for (const family of [4, 6] as const) {
    const remote = far.find(({ ip }) => familyOf(ip) === family)?.ip
    if (remote === undefined || pod === undefined || familyOf(pod.ip) !== family) continue
    const tcp = { protocol: 'tcp', dport: undefined } as const
    const incoming: FirewallPacket = { ...tcp, iif: device, oif: pod.device, saddr: remote, daddr: pod.ip }
    const outgoing: FirewallPacket = { ...tcp, iif: pod.device, oif: device, saddr: pod.ip, daddr: remote }
    for (const { by } of droppedBy(chains, 'forward', incoming))
      found.push({ kind: 'forward', subject: 'from the tunnel to pods', by })
    for (const { by } of droppedBy(chains, 'forward', outgoing))
      found.push({ kind: 'forward', subject: 'from pods into the tunnel', by })
    // The hooks prerouting and postrouting see a forwarded packet before and after the hook forward; `output` sees the
    // packets that this host itself sends.
    const probing: FirewallPacket = { ...outgoing, iif: undefined, protocol: 'udp', dport: probePort }
    for (const [hook, subject, packet] of [
      ['prerouting', 'from the tunnel', { ...incoming, oif: undefined }],
      ['output', 'from this host into the tunnel', probing],
      ['postrouting', 'into the tunnel', outgoing]
    ] as const)
      for (const { by } of droppedBy(chains, hook, packet)) found.push({ kind: 'hook', subject, by })
    for (const { by } of translatedBefore(chains, KEEP_PRIORITY, outgoing))
      found.push({ kind: 'translation', subject: 'from pods into the tunnel', by })
    if (probePort === 0) continue
    const probe: FirewallPacket = { ...incoming, oif: undefined, protocol: 'udp', dport: probePort }
    for (const { by } of droppedBy(chains, 'input', probe))
      found.push({ kind: 'input', subject: `UDP ${probePort}`, by })
  }
  return found
}

/** Judges the chains with the first packet to a service of each cluster: from this host, and from a pod. */
function ofServices(
  chains: readonly FirewallChain[],
  { services = [], pod }: ObstacleQuestion
): readonly Obstacle[] {
  const found = services.slice(0, SERVICES_MAX).flatMap(({ cluster, ip }): readonly Obstacle[] => {
    // A process of this host connects from the address itself, since the service prefixes are local.
    const own: FirewallPacket = {
      iif: undefined,
      oif: undefined,
      saddr: ip,
      daddr: ip,
      protocol: 'tcp',
      dport: undefined
    }
    const isPodKnown = pod !== undefined && familyOf(pod.ip) === familyOf(ip)
    const ways = [
      ['output', own] as const,
      ...(isPodKnown ? [['prerouting', { ...own, iif: pod.device, saddr: pod.ip }] as const] : [])
    ]
    const before = (priority: number) => chains.filter(({ base }) => !base || base.priority < priority)
    return ways.flatMap(([hook, packet]) => [
      ...droppedBy(before(TRANSLATION_PRIORITY), hook, packet).map(({ by }): Obstacle => ({
        kind: 'service',
        subject: cluster,
        by
      })),
      ...untrackedBy(before(CONNTRACK_PRIORITY), hook, packet).map(({ by }): Obstacle => ({
        kind: 'untracked',
        subject: cluster,
        by
      }))
    ])
  })
  return [...new Map(found.map((one) => [`${one.kind} ${one.subject} ${one.by}`, one])).values()]
}

/**
 * Judges the chains with the first packet of a member to each port, for at most OWN_MAX addresses of this host, and with the
 * first packet to the WireGuard of each member.
 */
function ofOuterPorts(chains: readonly FirewallChain[], { outer }: ObstacleQuestion): readonly Obstacle[] {
  if (outer === undefined) return []
  const found = outer.ports.flatMap(({ protocol, port }) =>
    outer.own.slice(0, OWN_MAX).flatMap((daddr): readonly Obstacle[] => {
      const saddr = outer.others.find((ip) => familyOf(ip) === familyOf(daddr))
      if (saddr === undefined) return []
      const packet: FirewallPacket = { iif: undefined, oif: undefined, saddr, daddr, protocol, dport: port }
      const subject = `${protocol.toUpperCase()} ${port}`
      const dropped = [
        ...droppedAtDevice(chains, 'ingress', packet),
        ...(['prerouting', 'input'] as const).flatMap((hook) => droppedBy(chains, hook, packet))
      ]
      return [
        ...redirectedBy(chains, packet).map(({ by }) => ({ kind: 'redirect' as const, subject, by })),
        ...dropped.map(({ by }) => ({ kind: 'port' as const, subject, by }))
      ]
    })
  )
  const sent = outer.peers.slice(0, FAR_MAX).flatMap(({ ip, port }): readonly Obstacle[] => {
    const saddr = outer.own.find((own) => familyOf(own) === familyOf(ip))
    if (saddr === undefined) return []
    const packet: FirewallPacket = {
      iif: undefined,
      oif: undefined,
      saddr,
      daddr: ip,
      protocol: 'udp',
      dport: port
    }
    const dropped = [
      ...(['output', 'postrouting'] as const).flatMap((hook) => droppedBy(chains, hook, packet)),
      ...droppedAtDevice(chains, 'egress', packet)
    ]
    return dropped.map(({ by }) => ({ kind: 'egress', subject: `UDP ${port}`, by }))
  })
  return [
    ...new Map([...found, ...sent].map((one) => [`${one.kind} ${one.subject} ${one.by}`, one])).values()
  ]
}

/** Reads the chains of nft, iptables-nft and iptables-legacy, without the tables whose name starts with `own`. */
async function readChains(run: Run, own: string, signal: AbortSignal): Promise<readonly FirewallChain[]> {
  const text = async (tool: string, args: readonly string[]): Promise<string> =>
    run(tool, args, { signal }).then(
      ({ stdout }) => stdout,
      () => '' // the tool is not on this host
    )
  // The file names the tables of iptables-legacy. Where it is empty or absent there are none, and the tool is not run.
  const legacy = await readFile('/proc/self/net/ip_tables_names', 'utf8').catch(() => '')
  const legacy6 = await readFile('/proc/self/net/ip6_tables_names', 'utf8').catch(() => '')
  const [nft, four, six, oldFour, oldSix] = await Promise.all([
    text('nft', ['-j', '-t', 'list', 'ruleset']),
    text('iptables-nft-save', []),
    text('ip6tables-nft-save', []),
    legacy === '' ? '' : text('iptables-legacy-save', []),
    legacy6 === '' ? '' : text('ip6tables-legacy-save', [])
  ])
  const read = [
    ...parseIptablesSave(four, 'ip', 'iptables'),
    ...parseIptablesSave(six, 'ip6', 'ip6tables'),
    ...parseIptablesSave(oldFour, 'ip', 'iptables-legacy'),
    ...parseIptablesSave(oldSix, 'ip6', 'ip6tables-legacy')
  ]
  // The tables of iptables-nft are in both listings. The listing of iptables is used for them, because nft does not
  // show the conditions of their rules.
  const isRead = ({ family, table }: FirewallChain): boolean =>
    (family === 'ip' ? four : family === 'ip6' ? six : '').includes(`*${table.split(' ').at(-1)}\n`)
  return [...parseNftRuleset(parse(nft), own).filter((chain) => !isRead(chain)), ...read]
}

const ROUTES = z.array(
  z.object({ dst: z.string().optional(), dev: z.string().optional(), type: z.string().optional() })
)

/** Asks the kernel for the route to each address. A route to a device that is not ours comes from another rule. */
async function caughtByRules(
  run: Run,
  {
    device,
    rulePreference,
    innerPreference
  }: Pick<HostNames, 'device' | 'rulePreference' | 'innerPreference'>,
  far: readonly FarPoint[],
  signal: AbortSignal
): Promise<readonly Obstacle[]> {
  if (far.length === 0) return []
  const lines = far.map(({ ip }) => `route get ${ip}\n`).join('')
  const asked = await run('ip', ['-force', '-j', '-batch', '-'], { signal, stdin: lines, okCodes: [1, 2] })
  // `ip` prints one line of JSON for each address that has a route, and a line on stderr for each that has none.
  const routes = asked.stdout.split('\n').flatMap((line) => ROUTES.safeParse(parse(line)).data ?? [])
  const refused = new Set(
    [...asked.stderr.matchAll(/^Command failed -:(\d+)$/gm)].map(([, line]) => Number(line))
  )
  const found: Obstacle[] = []
  for (const [index, { cluster, ip }] of far.entries()) {
    const route = routes.find(({ dst }) => parseIp(dst ?? '') === ip)
    if (route?.dev === device || route?.type === 'local') continue
    // The tool gave neither a route nor a refusal, so nothing is known about this address.
    if (route?.dev === undefined && !refused.has(index + 1)) continue
    const { stdout } = await run('ip', [`-${familyOf(ip)}`, 'rule', 'show'], { signal })
    const earlier = stdout
      .split('\n')
      .map((line) => line.replaceAll('\t', ' ').trim())
      .filter((line) => {
        const preference = Number(/^(\d+): (?:not )?from /.exec(line)?.[1] ?? 0)
        return preference > 0 && preference < rulePreference && preference !== innerPreference
      })
    // For an address that a rule refuses (blackhole, prohibit, unreachable), `ip` shows no route. If no rule stands
    // before ours, our own routes are not set yet, which is no obstacle.
    if (earlier.length === 0) continue
    const where = route?.dev === undefined ? 'is refused' : `goes to ${route.dev}`
    found.push({ kind: 'rule', subject: cluster, by: `${ip} ${where}: ip rule "${earlier.join('", "')}"` })
  }
  return found
}

/**
 * Returns the routes of other programs in our routing table. Each of them can take packets of the mesh: by a longer
 * prefix, or in IPv6 by a lower metric beside ours. The kernel is not asked for addresses here, because a longer prefix
 * may lie anywhere inside a prefix of the mesh.
 */
async function foreignRoutes(
  run: Run,
  { routeTable, routeProtocol }: Pick<HostNames, 'routeTable' | 'routeProtocol'>,
  signal: AbortSignal
): Promise<readonly Obstacle[]> {
  const tables = await Promise.all(
    ([4, 6] as const).map((family) => readRoutes(run, { family, table: routeTable }, signal))
  )
  return tables
    .flat()
    .filter(({ protocol }) => protocol !== String(routeProtocol))
    .slice(0, FOREIGN_ROUTES_MAX)
    .map(({ destination, device, type }) => ({
      kind: 'table',
      subject: destination,
      by: `${type === 'unicast' ? '' : `${type} `}${destination}${device === '' ? '' : ` dev ${device}`} in table ${routeTable}`
    }))
}

/** Returns sources that our filter has recorded in its sets `stray4` and `stray6` (chain `strays`) within 2 min. */
async function straySources(run: Run, nftTable: string, signal: AbortSignal): Promise<readonly Obstacle[]> {
  const sets = await Promise.all(
    [4, 6].map((family) =>
      run('nft', ['-j', 'list', 'set', 'inet', `${nftTable}-filter`, `stray${family}`], { signal }).then(
        ({ stdout }) => stdout,
        () => ''
      )
    )
  )
  return sets
    .flatMap((text) => asArray(asRecord(parse(text))['nftables']))
    .flatMap((entry) => asArray(asRecord(asRecord(entry)['set'])['elem']))
    .flatMap((row) => parseIp(String(keyOfRow(row))) ?? [])
    .slice(0, STRAYS_MAX)
    .map((ip): Obstacle => ({ kind: 'source', subject: ip, by: ip }))
}

function asArray(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
