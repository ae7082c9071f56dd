// Parses `ipvsadm -S -n` (ipvsadm(8)), which prints every virtual server of this network namespace with its real
// servers. To read the file /proc/net/ip_vs would be cheaper, but the file is incomplete where several network
// namespaces of a kernel have IPVS services: at the end of every page, Linux 6.1 skips one service of this namespace
// for each service of another namespace. The file also has persistence in kernel ticks, not in seconds
// (docs/decisions/0038-ipvs-read-with-ipvsadm.md). Examples:
//
//   -A -t 10.96.0.1:80 -s rr -p 300
//   -a -t 10.96.0.1:80 -r 10.1.0.11:8080 -m -w 1
//   -A -u [fd96::1]:53 -s wrr
import { parseIp } from '../../../../core/model/cidr.ts'
import type { RealServer } from '../../../../core/host/host-state.ts'
import type { Ip, Protocol } from '../../../../core/model/values.ts'
import { compareRealServers } from '../order.ts'

/** A virtual server as IPVS has it, ours or of another program. */
export interface IpvsService {
  readonly vip: Ip
  readonly protocol: Protocol
  readonly port: number
  /** Name of the kernel's scheduler, such as "wrr"; it may be one that we never set. */
  readonly scheduler: string
  /** Timeout of persistence (ClientIP affinity) in seconds; 0 = not persistent. */
  readonly persistentSeconds: number
  /** True if it has flags that we never set (one-packet scheduling, a netmask, flags of the scheduler). */
  readonly unusual: boolean
  /** Sorted by compareRealServers. */
  readonly realServers: readonly IpvsReal[]
}

/** A real server of IPVS. */
interface IpvsReal extends RealServer {
  /** True for masquerading (NAT), which all of ours use; false for direct routing (-g) and IP-in-IP (-i). */
  readonly masquerades: boolean
}

/** The option that stands before the address of a service of this protocol, in commands and in listings. */
export const SERVICE_FLAG: Readonly<Record<Protocol, string>> = {
  TCP: '-t',
  UDP: '-u',
  SCTP: '--sctp-service'
}

/**
 * Returns the services that have an address. Services by firewall mark (-f) are left out, because we make none. A line
 * that cannot be parsed is skipped; the function never throws.
 */
export function parseIpvs(text: string): readonly IpvsService[] {
  const services: IpvsService[] = []
  const byAddress = new Map<string, IpvsReal[]>()
  for (const line of text.split('\n')) {
    const [command = '', flag = '', address = '', ...words] = line.trim().split(/\s+/)
    const protocol = PROTOCOL.get(flag)
    const at = parseAddress(address)
    if (protocol === undefined || at === undefined) continue
    const key = `${flag} ${address}`
    if (command === '-A') {
      const realServers: IpvsReal[] = []
      byAddress.set(key, realServers)
      services.push({ ...serviceOf(words), vip: at.ip, protocol, port: at.port, realServers })
    } else if (command === '-a') {
      const real = realOf(words)
      if (real !== undefined) byAddress.get(key)?.push(real)
    }
  }
  for (const service of services) (service.realServers as IpvsReal[]).sort(compareRealServers)
  return services
}

const PROTOCOL: ReadonlyMap<string, Protocol> = new Map(
  (Object.entries(SERVICE_FLAG) as [Protocol, string][]).map(([protocol, flag]) => [flag, protocol])
)

/** Reads the options after the address of a service. Every option but -s and -p makes it unusual. */
function serviceOf(
  words: readonly string[]
): Pick<IpvsService, 'scheduler' | 'persistentSeconds' | 'unusual'> {
  let [scheduler, persistentSeconds, unusual] = ['', 0, false]
  for (let index = 0; index < words.length; index++) {
    if (words[index] === '-s') scheduler = words[++index] ?? ''
    else if (words[index] === '-p') persistentSeconds = Number(words[++index])
    else unusual = true
  }
  return { scheduler, persistentSeconds, unusual }
}

function realOf(words: readonly string[]): IpvsReal | undefined {
  const after = (flag: string): string => words[words.indexOf(flag) + 1] ?? ''
  const at = words.includes('-r') ? parseAddress(after('-r')) : undefined
  if (at === undefined) return undefined
  return { ip: at.ip, port: at.port, weight: Number(after('-w')), masquerades: words.includes('-m') }
}

/** Parses "10.96.0.1:80" or "[fd96::1]:80". */
function parseAddress(text: string): { readonly ip: Ip; readonly port: number } | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d+)$/.exec(text)
  const ip = parseIp(match?.[1] ?? match?.[2] ?? '')
  return ip === undefined ? undefined : { ip, port: Number(match?.[3]) }
}
