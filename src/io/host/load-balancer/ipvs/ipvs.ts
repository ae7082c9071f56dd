// The load balancer in IPVS: masquerading (NAT) services, changed by deltas, read back by netlink.
// IPVS has no mark of ownership: a service is ours when its address lies in one of our service prefixes, no other is touched.
// Invariants
//   1. No -C ever: services of others live in the same table, and adding to a cleared table of 100,000 is 400 times slower.
//   2. `ipvsadm -R` exits with 0 even if some of its lines failed: the text on stderr is the result.
//   3. A virtual server without a backend answers with an ICMP error: IPVS does that by itself.
//   4. A change is idempotent: what exists already is set, what is gone already stays gone. A complaint counts only while the kernel,
//      read again, does not have what was asked for.
import { cidrContains, familyOf } from '../../../../core/model/cidr.ts'
import type { RealServer, Scheduler, VirtualServer } from '../../../../core/host/host-state.ts'
import type { Cidr } from '../../../../core/model/values.ts'
import { HostError } from '../../errors.ts'
import { parseIpvs, SERVICE_FLAG, type IpvsService } from './listing.ts'
import type { HostNames, LoadBalancer, Run, VirtualServerChange } from '../../ports.ts'
import { compareVirtualServers, keyOfVirtualServer, netChanges } from '../order.ts'

export interface IpvsLoadBalancerOptions {
  readonly run: Run
  readonly names: Pick<HostNames, 'vipPrefixes'>
}

/** Loaded in advance: the kernel loads a scheduler on demand only in its first network namespace. */
export const IPVS_MODULES: readonly string[] = ['ip_vs', 'ip_vs_rr', 'ip_vs_wrr', 'ip_vs_mh', 'ip_vs_lc']

/** Errors of its methods: HostError; TOOL_MISSING without ipvsadm, TOOL_FAILED where the kernel refuses. */
export function createIpvsLoadBalancer(options: IpvsLoadBalancerOptions): LoadBalancer {
  const { run } = options
  /** Keys of the servers that this instance has set and not removed: what a reading lacks of them, another program deleted. */
  const own = new Set<string>()
  let lost = 0

  return {
    kind: 'ipvs',
    async start() {
      await run('ipvsadm', ['--version'])
      // A kernel with IPVS built in has no such modules; whether it can is seen by the listing.
      await run('modprobe', ['-a', '-q', ...IPVS_MODULES], { okCodes: [1] })
      await run('ipvsadm', LIST)
    },
    observe,
    async apply(asked, signal) {
      const changes = netChanges(asked)
      const text = changes.flatMap(({ want, have }) => deltaCommands(have, want))
      if (text.length === 0) return
      if ((await restore(text, signal)) !== '') await settle(changes, signal)
      for (const change of changes) {
        if (change.want === undefined) own.delete(keyOf(change))
        else own.add(keyOf(change))
      }
    },
    describe({ want, have }) {
      return deltaCommands(have, want).map((line) => `ipvsadm ${line}`)
    },
    async rivals(signal) {
      const [device, services] = await Promise.all([
        run('ip', ['link', 'show', 'dev', KUBE_PROXY_DEVICE], { signal, okCodes: [1] }),
        list(signal)
      ])
      return {
        kubeProxy: device.exitCode === 0,
        foreign: services.filter((service) => !isOurs(service)).length,
        lost,
        prefixes: options.names.vipPrefixes()
      }
    },
    async cleanup(signal) {
      own.clear()
      const changes = (await observe(signal)).map((have) => ({ want: undefined, have }))
      const text = changes.flatMap(({ have }) => deltaCommands(have, undefined))
      if (text.length > 0 && (await restore(text, signal)) !== '') await settle(changes, signal)
    }
  }

  async function observe(signal: AbortSignal): Promise<readonly VirtualServer[]> {
    const servers = await observeWhere((_, service) => isOurs(service), signal)
    const found = new Set(servers.map(keyOfVirtualServer))
    for (const key of own.difference(found)) {
      own.delete(key)
      lost++
    }
    return servers
  }

  function isOurs({ vip }: IpvsService): boolean {
    return (options.names.vipPrefixes() as readonly Cidr[]).some((prefix) => cidrContains(prefix, vip))
  }

  async function observeWhere(
    wanted: (key: string, service: IpvsService) => boolean,
    signal: AbortSignal
  ): Promise<readonly VirtualServer[]> {
    return (await list(signal))
      .filter((service) => wanted(keyOfVirtualServer(service), service))
      .map(toVirtualServer)
      .sort(compareVirtualServers)
  }

  async function list(signal: AbortSignal): Promise<readonly IpvsService[]> {
    return parseIpvs((await run('ipvsadm', LIST, { signal })).stdout)
  }

  /** After a complaint: the kernel was not what the caller saw, so once more, against the kernel (invariant 4). */
  async function settle(changes: readonly VirtualServerChange[], signal: AbortSignal): Promise<void> {
    const touched = new Map(changes.map((change) => [keyOf(change), change.want]))
    const missing = async (): Promise<string[]> => {
      const have = new Map(
        (await observeWhere((key) => touched.has(key), signal)).map((server) => [
          keyOfVirtualServer(server),
          server
        ])
      )
      return [...touched].flatMap(([key, want]) => settingCommands(have.get(key), want))
    }
    const again = await missing()
    if (again.length === 0) return
    const complaint = await restore(again, signal)
    if (complaint !== '' && (await missing()).length > 0) throw refused(complaint)
  }

  /** What it complained of; '' is success. */
  async function restore(lines: readonly string[], signal: AbortSignal): Promise<string> {
    const options = { stdin: `${lines.join('\n')}\n`, signal }
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

/** `deltaCommands`, where even what is not in the listing may exist: a service or real server that is added is set as well. */
function settingCommands(
  have: VirtualServer | undefined,
  want: VirtualServer | undefined
): readonly string[] {
  return deltaCommands(have, want).flatMap((line) => {
    if (line.startsWith('-A ')) return [line, `-E${line.slice(2)}`]
    if (line.startsWith('-a ')) return [line, `-e${line.slice(2)}`]
    return [line]
  })
}

// kube-proxy puts the addresses of its services on it, in IPVS mode only.
const KUBE_PROXY_DEVICE = 'kube-ipvs0'
const LIST: readonly string[] = ['-S', '-n']
const SCHEDULERS: ReadonlySet<string> = new Set<Scheduler>(['rr', 'wrr', 'mh', 'lc'])

function toVirtualServer(service: IpvsService): VirtualServer {
  const { vip, protocol, port, scheduler, persistentSeconds } = service
  const regular =
    !service.unusual &&
    SCHEDULERS.has(scheduler) &&
    service.realServers.every(({ masquerades }) => masquerades)
  return {
    vip,
    protocol,
    port,
    scheduler: regular ? (scheduler as Scheduler) : 'rr',
    // −1 equals no wish: the service is set again.
    affinitySeconds: regular ? persistentSeconds : -1,
    // A backend that is not masqueraded but forwarded by route or tunnel gets a weight that no wish has: set again.
    realServers: service.realServers.map(({ ip, port: realPort, weight, masquerades }) => ({
      ip,
      port: realPort,
      weight: masquerades ? weight : -1
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
