// The load balancer in IPVS: masquerading (NAT) services, changed by deltas, read back from /proc.
// IPVS has no mark of ownership: a service is ours when its address lies in one of our service prefixes, no other is touched.
// Invariants
//   1. No -C ever: services of others live in the same table, and adding to a cleared table of 100,000 is 400 times slower.
//   2. `ipvsadm -R` ends with 0 whatever happened to its lines: what it says on stderr is the result.
//   3. A virtual server without a backend answers with an ICMP error: IPVS does that by itself.
import { cidrContains, familyOf } from '../../core/cidr.ts'
import type { RealServer, Scheduler, VirtualServer } from '../../core/host.ts'
import type { Cidr, Protocol } from '../../core/model.ts'
import { HostError } from './errors.ts'
import { parseIpvs, parsePersistence, type IpvsService } from './lb-ipvs-proc.ts'
import type { HostNames, LoadBalancer, Run, VirtualServerChange } from './ports.ts'
import { compareVirtualServers, keyOfVirtualServer, netChanges } from './virtual-servers.ts'

export interface IpvsLoadBalancerOptions {
  readonly run: Run
  readonly names: Pick<HostNames, 'vipPrefixes'>
}

/** Without these, a removed or drained backend keeps its clients, and our filter does not know balanced flows. */
export const IPVS_SYSCTLS: readonly { readonly name: string; readonly value: string }[] = [
  { name: 'net.ipv4.vs.conntrack', value: '1' },
  { name: 'net.ipv4.vs.conn_reuse_mode', value: '1' },
  { name: 'net.ipv4.vs.expire_nodest_conn', value: '1' },
  { name: 'net.ipv4.vs.expire_quiescent_template', value: '1' }
]

/** Loaded in advance: the kernel loads a scheduler on demand only in its first network namespace. */
export const IPVS_MODULES: readonly string[] = ['ip_vs', 'ip_vs_rr', 'ip_vs_wrr', 'ip_vs_mh', 'ip_vs_lc']

/** Errors of its methods: HostError; TOOL_MISSING without ipvsadm, TOOL_FAILED where the kernel refuses. */
export function createIpvsLoadBalancer(options: IpvsLoadBalancerOptions): LoadBalancer {
  const { run } = options
  // Ticks a second, learned from the first persistent service.
  let tickRate: number | undefined

  return {
    kind: 'ipvs',
    async start() {
      await run('ipvsadm', ['--version'])
      // A kernel with IPVS built in has no such modules; whether it can is seen by the listing.
      await run('modprobe', ['-a', '-q', ...IPVS_MODULES], { okCodes: [1] })
      await run('cat', [PROC])
      for (const { name, value } of IPVS_SYSCTLS) {
        const path = `/proc/sys/${name.replaceAll('.', '/')}`
        const now = (await run('cat', [path])).stdout.trim()
        if (now !== value) await run('tee', [path], { stdin: value })
      }
    },
    observe,
    async apply(asked, signal) {
      const changes = netChanges(asked)
      const text = changes.flatMap(({ want, have }) => deltaCommands(have, want))
      if (text.length === 0) return
      const complaint = await restore(text, signal)
      if (complaint === '') return
      // The kernel was not what the caller saw: once more, against the kernel.
      const touched = new Map(changes.map((change) => [keyOf(change), change]))
      const actual = (await observeWhere((key) => touched.has(key), signal)).map(
        (server) => [keyOfVirtualServer(server), server] as const
      )
      const have = new Map(actual)
      const again = [...touched].flatMap(([key, { want }]) => deltaCommands(have.get(key), want))
      const failure = again.length === 0 ? '' : await restore(again, signal)
      if (failure !== '') throw refused(failure)
    },
    describe({ want, have }) {
      return deltaCommands(have, want).map((line) => `ipvsadm ${line}`)
    },
    async cleanup(signal) {
      const text = (await observe(signal)).flatMap((server) => deltaCommands(server, undefined))
      if (text.length === 0) return
      const complaint = await restore(text, signal)
      if (complaint !== '') throw refused(complaint)
    }
  }

  async function observe(signal: AbortSignal): Promise<readonly VirtualServer[]> {
    const prefixes = options.names.vipPrefixes() as readonly Cidr[]
    return observeWhere((_, service) => prefixes.some((prefix) => cidrContains(prefix, service.vip)), signal)
  }

  async function observeWhere(
    wanted: (key: string, service: IpvsService) => boolean,
    signal: AbortSignal
  ): Promise<readonly VirtualServer[]> {
    const services = parseIpvs((await run('cat', [PROC], { signal })).stdout)
    const ours = services.filter((service) => wanted(keyOfVirtualServer(service), service))
    const persistent = ours.find((service) => service.persistentTicks > 0)
    if (tickRate === undefined && persistent !== undefined)
      tickRate = await measureTickRate(persistent, signal)
    // No rate, as the service went meanwhile: persistent ones count as irregular this time.
    return ours.map((service) => toVirtualServer(service, tickRate ?? Number.NaN)).sort(compareVirtualServers)
  }

  /** Kernel ticks a second: the same service in ticks (/proc) and in seconds (ipvsadm). */
  async function measureTickRate(service: IpvsService, signal: AbortSignal): Promise<number | undefined> {
    const { stdout } = await run('ipvsadm', ['-S', '-n'], { signal, deadlineMs: DEADLINE_MS })
    const prefix = `-A ${serviceOf(service)} `
    const seconds = parsePersistence(stdout.split('\n').find((line) => line.startsWith(prefix)) ?? '')
    return seconds === undefined || seconds === 0 ? undefined : service.persistentTicks / seconds
  }

  /** What it complained of; '' is success. */
  async function restore(lines: readonly string[], signal: AbortSignal): Promise<string> {
    const options = { stdin: `${lines.join('\n')}\n`, signal, deadlineMs: DEADLINE_MS }
    try {
      return (await run('ipvsadm', ['-R'], options)).stderr.trim()
    } catch (error) {
      if (error instanceof HostError && error.code === 'TOOL_FAILED') return error.message
      throw error
    }
  }
}

/** The lines for `ipvsadm -R` that turn `have` into `want`: a new backend before an old one goes. */
export function deltaCommands(
  have: VirtualServer | undefined,
  want: VirtualServer | undefined
): readonly string[] {
  if (want === undefined) return have === undefined ? [] : [`-D ${serviceOf(have)}`]
  const service = serviceOf(want)
  if (have === undefined)
    return [`-A ${service} ${flagsOf(want)}`, ...want.realServers.map((r) => `-a ${service} ${realOf(r)}`)]
  const before = new Map(have.realServers.map((r) => [`${r.ip} ${r.port}`, r]))
  const after = new Map(want.realServers.map((r) => [`${r.ip} ${r.port}`, r]))
  const edited = flagsOf(have) === flagsOf(want) ? [] : [`-E ${service} ${flagsOf(want)}`]
  const set = [...after].flatMap(([id, r]) => {
    const known = before.get(id)
    if (known === undefined) return [`-a ${service} ${realOf(r)}`]
    return known.weight === r.weight ? [] : [`-e ${service} ${realOf(r)}`]
  })
  const gone = [...before]
    .filter(([id]) => !after.has(id))
    .map(([, r]) => `-d ${service} -r ${addressOf(r.ip, r.port)}`)
  return [...edited, ...set, ...gone]
}

const PROC = '/proc/net/ip_vs'
// ipvsadm opens a socket for each line: 1 ms a line, more on a busy machine.
const DEADLINE_MS = 300_000
const SERVICE_FLAG: Readonly<Record<Protocol, string>> = { TCP: '-t', UDP: '-u', SCTP: '--sctp-service' }
const SCHEDULERS: ReadonlySet<string> = new Set<Scheduler>(['rr', 'wrr', 'mh', 'lc'])

function toVirtualServer(service: IpvsService, tickRate: number): VirtualServer {
  const { vip, protocol, port, scheduler } = service
  const masquerades = service.realServers.every(({ forward }) => forward === 'Masq')
  const affinitySeconds = service.persistentTicks === 0 ? 0 : service.persistentTicks / tickRate
  const regular = masquerades && SCHEDULERS.has(scheduler) && Number.isInteger(affinitySeconds)
  return {
    vip,
    protocol,
    port,
    scheduler: regular ? (scheduler as Scheduler) : 'rr',
    // −1 equals no wish: the service is set again.
    affinitySeconds: regular ? affinitySeconds : -1,
    // A backend that is not masqueraded but forwarded by route or tunnel gets a weight that no wish has: set again.
    realServers: service.realServers.map(({ ip, port: realPort, weight, forward }) => ({
      ip,
      port: realPort,
      weight: forward === 'Masq' ? weight : -1
    }))
  }
}

function serviceOf({ protocol, vip, port }: Pick<VirtualServer, 'protocol' | 'vip' | 'port'>): string {
  return `${SERVICE_FLAG[protocol]} ${addressOf(vip, port)}`
}

function flagsOf({ scheduler, affinitySeconds }: VirtualServer): string {
  return `-s ${scheduler}${affinitySeconds > 0 ? ` -p ${affinitySeconds}` : ''}${affinitySeconds < 0 ? ' ?' : ''}`
}

function realOf({ ip, port, weight }: RealServer): string {
  return `-r ${addressOf(ip, port)} -m -w ${weight}`
}

function addressOf(ip: VirtualServer['vip'], port: number): string {
  return familyOf(ip) === 4 ? `${ip}:${port}` : `[${ip}]:${port}`
}

function keyOf({ want, have }: VirtualServerChange): string {
  const server = want ?? have
  return server === undefined ? '' : keyOfVirtualServer(server)
}

function refused(complaint: string): HostError {
  return new HostError({
    code: 'TOOL_FAILED',
    tool: 'ipvsadm',
    stderr: complaint.slice(0, 2000),
    message: `ipvsadm: ${complaint.slice(0, 2000)}`,
    fix: 'the next pass reads the kernel again; if it stays, look for another program that changes these services'
  })
}
