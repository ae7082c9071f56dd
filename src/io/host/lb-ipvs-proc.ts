// /proc/net/ip_vs: the one place that lists 100,000 backends in a single read. Hexadecimal, and one trap: persistence is
// printed in the kernel's ticks, whose rate user space is not told.
//
//   TCP  0A600001:0050 rr  persistent 30000 FFFFFFFF
//     -> 0A01000B:1F90      Masq    1      0          0
//   TCP  [fd96:0000:…:0001]:0050 wrr
import { parseIp } from '../../core/cidr.ts'
import type { RealServer } from '../../core/host.ts'
import type { Ip, Protocol } from '../../core/model.ts'
import { compareRealServers } from './virtual-servers.ts'

export interface IpvsService {
  readonly vip: Ip
  readonly protocol: Protocol
  readonly port: number
  readonly scheduler: string
  /** 0 = not persistent. */
  readonly persistentTicks: number
  /** Sorted. */
  readonly realServers: readonly IpvsReal[]
}

export interface IpvsReal extends RealServer {
  /** "Masq", "Route", "Tunnel", "Local" */
  readonly forward: string
}

/** Services by address; those by firewall mark ("FWM") are left out, as none of ours is one. */
export function parseIpvs(text: string): readonly IpvsService[] {
  const services: IpvsService[] = []
  let reals: IpvsReal[] | undefined
  for (const line of text.split('\n')) {
    const words = line.trim().split(/\s+/)
    if (words[0] === '->') {
      const [, address = '', forward = '', weight] = words
      const at = parseAddress(address)
      if (at !== undefined && reals !== undefined) {
        reals.push({ ip: at.ip, port: at.port, weight: Number(weight), forward })
      }
      continue
    }
    reals = undefined
    const [protocol = '', address = '', scheduler = ''] = words
    const at = parseAddress(address)
    if (at === undefined || !isProtocol(protocol)) continue
    const flag = words.indexOf('persistent')
    reals = []
    services.push({
      vip: at.ip,
      protocol,
      port: at.port,
      scheduler,
      persistentTicks: flag < 0 ? 0 : Number(words[flag + 1]),
      realServers: reals
    })
  }
  for (const service of services) (service.realServers as IpvsReal[]).sort(compareRealServers)
  return services
}

/** Seconds of persistence as `ipvsadm -S -n` prints a service's first line: "-A -t 10.96.0.1:80 -s rr -p 300". */
export function parsePersistence(line: string): number | undefined {
  const match = /^-A .* -p (\d+)/.exec(line)
  return match ? Number(match[1]) : undefined
}

/** "0A600001:0050" or "[fd96:0000:…:0001]:0050". */
function parseAddress(text: string): { readonly ip: Ip; readonly port: number } | undefined {
  const match = /^(?:([0-9A-F]{8})|\[([0-9a-f:]+)\]):([0-9A-F]{4})$/.exec(text)
  if (!match) return undefined
  const [, hex, v6, port = ''] = match
  const ip = parseIp(
    hex === undefined ? (v6 ?? '') : (hex.match(/../g) ?? []).map((pair) => parseInt(pair, 16)).join('.')
  )
  return ip === undefined ? undefined : { ip, port: parseInt(port, 16) }
}

function isProtocol(text: string): text is Protocol {
  return text === 'TCP' || text === 'UDP' || text === 'SCTP'
}
