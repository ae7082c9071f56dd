// What others do on this host that takes packets of the mesh away: packet filters, source translation before ours, routing rules before
// ours, and senders whose source is outside the pod prefixes. Only reads. Costs a few processes: asked for every 30 s and after changes.
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import {
  droppedBy,
  parseIptablesSave,
  parseNftRuleset,
  translatedBefore,
  type FirewallChain,
  type FirewallPacket
} from '../../core/host/firewall.ts'
import { familyOf, parseIp } from '../../core/model/cidr.ts'
import type { Ip } from '../../core/model/values.ts'
import { asRecord, keyOfRow } from './tools/nft-listing.ts'
import type { HostNames, Run } from './ports.ts'

/** Of one other cluster: an address to be reached there. */
export interface FarPoint {
  readonly cluster: string
  readonly ip: Ip
}

export interface ObstacleQuestion {
  readonly far: readonly FarPoint[]
  /** A pod of this cluster and the device that it is behind, where one is known. */
  readonly pod: { readonly ip: Ip; readonly device: string | undefined } | undefined
  readonly probePort: number
}

export interface Obstacle {
  readonly kind: 'forward' | 'hook' | 'input' | 'rule' | 'translation' | 'source'
  /** The cluster, the direction or the address that it is about. */
  readonly subject: string
  /** The rule or device, in words. */
  readonly by: string
}

/** Ours in src/io/host/filter/filter.ts keeps sources at this priority. */
const KEEP_PRIORITY = 90
const FAR_MAX = 256 // two for each of a hundred clusters and more
const STRAYS_MAX = 8

export async function findObstacles(
  run: Run,
  names: Pick<HostNames, 'device' | 'nftTable' | 'rulePreference'>,
  question: ObstacleQuestion,
  signal: AbortSignal
): Promise<readonly Obstacle[]> {
  const chains = await readChains(run, names.nftTable, signal)
  const [rules, strays] = await Promise.all([
    caughtByRules(run, names, question.far.slice(0, FAR_MAX), signal),
    straySources(run, names.nftTable, signal)
  ])
  return [...ofFilters(chains, names.device, question), ...rules, ...strays]
}

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
    // Their chains see the same packets before and after that of forwarding, and what this host sends itself, such as probes.
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

async function readChains(run: Run, own: string, signal: AbortSignal): Promise<readonly FirewallChain[]> {
  const text = async (tool: string, args: readonly string[]): Promise<string> =>
    run(tool, args, { signal }).then(
      ({ stdout }) => stdout,
      () => '' // not on this host
    )
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
  // Those of iptables-nft show in both, and the listing of nft does not tell their conditions.
  const isRead = ({ family, table }: FirewallChain): boolean =>
    (family === 'ip' ? four : family === 'ip6' ? six : '').includes(`*${table.split(' ').at(-1)}\n`)
  return [...parseNftRuleset(parse(nft), own).filter((chain) => !isRead(chain)), ...read]
}

const ROUTES = z.array(
  z.object({ dst: z.string().optional(), dev: z.string().optional(), type: z.string().optional() })
)

/** Where the kernel would send a packet to each of these: anything but our device is another's decision. */
async function caughtByRules(
  run: Run,
  { device, rulePreference }: Pick<HostNames, 'device' | 'rulePreference'>,
  far: readonly FarPoint[],
  signal: AbortSignal
): Promise<readonly Obstacle[]> {
  if (far.length === 0) return []
  const lines = far.map(({ ip }) => `route get ${ip}\n`).join('')
  const asked = await run('ip', ['-force', '-j', '-batch', '-'], { signal, stdin: lines, okCodes: [1, 2] })
  // One list for each address that has a route.
  const routes = asked.stdout.split('\n').flatMap((line) => ROUTES.safeParse(parse(line)).data ?? [])
  const refused = new Set(
    [...asked.stderr.matchAll(/^Command failed -:(\d+)$/gm)].map(([, line]) => Number(line))
  )
  const found: Obstacle[] = []
  for (const [index, { cluster, ip }] of far.entries()) {
    const route = routes.find(({ dst }) => parseIp(dst ?? '') === ip)
    if (route?.dev === device || route?.type === 'local') continue
    // Without an answer of either kind the tool said nothing that can be read.
    if (route?.dev === undefined && !refused.has(index + 1)) continue
    const { stdout } = await run('ip', [`-${familyOf(ip)}`, 'rule', 'show'], { signal })
    const earlier = stdout
      .split('\n')
      .map((line) => line.replaceAll('\t', ' ').trim())
      .filter((line) => {
        const preference = Number(/^(\d+): (?:not )?from /.exec(line)?.[1] ?? 0)
        return preference > 0 && preference < rulePreference
      })
    // A rule that refuses (blackhole, prohibit, unreachable) leaves no route to show. Without a rule our own routes are not there yet.
    if (earlier.length === 0) continue
    const where = route?.dev === undefined ? 'is refused' : `goes to ${route.dev}`
    found.push({ kind: 'rule', subject: cluster, by: `${ip} ${where}: ip rule "${earlier.join('", "')}"` })
  }
  return found
}

/** Sources that went into the tunnel and do not belong there, as our own filter wrote them down in the last minutes. */
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
