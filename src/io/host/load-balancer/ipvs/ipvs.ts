// The load balancer in IPVS, the kernel's layer-4 switch, through the tool ipvsadm(8). Its services masquerade (NAT).
// Changes are sent as differences, and the kernel's state is read with `ipvsadm -S -n`.
// IPVS has no mark of ownership: a service is ours if its address lies in one of our service prefixes. No other service
// is changed.
// Invariants
//   1. The table is never cleared (-C): it also has the services of other programs, and adding to a cleared table of
//      100,000 services is 400 times slower.
//   2. `ipvsadm -R` exits with 0 even if some of its lines failed, so the text on stderr is the result.
//   3. A virtual server without a backend answers with an ICMP error. IPVS does that by itself.
//   4. A change is idempotent: adding a service that exists sets it, and removing a service that does not exist is no
//      error. An error text of ipvsadm counts only if the kernel, read again, does not have the desired state.
import { cidrContains, familyOf } from '../../../../core/model/cidr.ts'
import type { RealServer, Scheduler, VirtualServer } from '../../../../core/host/host-state.ts'
import type { Cidr } from '../../../../core/model/values.ts'
import { HostError } from '../../errors.ts'
import { parseIpvs, SERVICE_FLAG, type IpvsService } from './listing.ts'
import type { HostNames, LoadBalancer, Run, VirtualServerChange } from '../../ports.ts'
import { compareVirtualServers, keyOfVirtualServer, netChanges } from '../order.ts'

/** The arguments of this load balancer. A PartContext has them. */
interface IpvsLoadBalancerOptions {
  readonly run: Run
  readonly names: Pick<HostNames, 'vipPrefixes'>
}

/** Modules that start() loads, because the kernel loads a scheduler on demand only in its first network namespace. */
export const IPVS_MODULES: readonly string[] = ['ip_vs', 'ip_vs_rr', 'ip_vs_wrr', 'ip_vs_mh', 'ip_vs_lc']

/** Returns a load balancer that is not started. Errors of its methods: HostError; TOOL_FAILED if the kernel refuses. */
export function createIpvsLoadBalancer(options: IpvsLoadBalancerOptions): LoadBalancer {
  const { run } = options
  /**
   * Keys of the virtual servers that this instance has set. If a reading does not have one of them, another program has
   * deleted it.
   */
  const own = new Set<string>()
  /** Number of our virtual servers that other programs have deleted since start() (Rivals.lost). */
  let lost = 0

  return {
    kind: 'ipvs',
    async start() {
      await run('ipvsadm', ['--version'])
      // Exit code 1: a kernel with IPVS built in has no such modules. The listing shows whether IPVS works.
      await run('modprobe', ['-a', '-q', ...IPVS_MODULES], { okCodes: [1] })
      await run('ipvsadm', LIST)
    },
    observe,
    async apply(asked, signal) {
      const changes = netChanges(asked)
      const text = changes.flatMap(({ want, have }) => deltaCommands(have, want))
      if (text.length === 0) return
      if ((await restore(text, signal)) !== '') await settle(changes, signal)
      // The keys are recorded only after success, so that a server that was never set does not count as lost later.
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

  /**
   * Called after an error text of ipvsadm, because the kernel may differ from the `have` of the changes. It reads the
   * kernel, sends the changes that are still missing, and throws TOOL_FAILED if the kernel still lacks one of them
   * (invariant 4).
   */
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

  /** Runs the lines by one `ipvsadm -R`. Returns the error texts of all refused lines; '' means that all succeeded. */
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

/**
 * Returns the lines for `ipvsadm -R` that turn `have` into `want`. A new backend is added before an old one is removed,
 * so that the service is never without one. Without `have` the service is added; without `want` it is deleted.
 */
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

/**
 * Returns the lines of deltaCommands, with an edit (-E, -e) after every addition (-A, -a), because something that the
 * listing does not have may exist all the same.
 */
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

// kube-proxy makes this device for the addresses of its services, in IPVS mode only.
const KUBE_PROXY_DEVICE = 'kube-ipvs0'
const LIST: readonly string[] = ['-S', '-n']
const SCHEDULERS: ReadonlySet<string> = new Set<Scheduler>(['rr', 'wrr', 'mh', 'lc'])

/**
 * Returns the service as a VirtualServer. A service with options that this agent never uses gets values that no desired
 * server has, so that the plan sets it again.
 */
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
    // No desired server has −1, so the service is set again.
    affinitySeconds: regular ? persistentSeconds : -1,
    // A backend that is reached by routing or IP-in-IP gets a weight that no desired one has, so it is set again.
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

/**
 * Returns the options of ipvsadm for scheduler and persistence. A service that another program made in a way that this
 * agent never uses has the affinity −1 (toVirtualServer); its text gets " ?", so that it differs from that of every
 * desired service and the service is set again. This text is only compared and never sent to ipvsadm.
 */
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
    fix: 'the agent reads the kernel and tries again; if the error remains, find the program that changes these services: ipvsadm -L -n, ps -C kube-proxy,keepalived'
  })
}
