// Ends the UDP flows that would outlive their backend. nft picks a backend for the first packet of a flow and conntrack
// repeats the choice; a UDP client that reuses its port has one flow for good, so a removed backend would keep it.
// TCP needs nothing: its flow ends with the connection.
import { familyOf } from '../../core/cidr.ts'
import type { Ip } from '../../core/model.ts'
import { HostError } from './errors.ts'
import type { Run, VirtualServerChange } from './ports.ts'

/** A flow to vip:port that is answered by ip:realPort. */
export interface UdpFlow {
  readonly vip: Ip
  readonly port: number
  readonly ip: Ip
  readonly realPort: number
}

/** The flows that these changes leave without a backend. Draining backends (weight 0) keep theirs. */
export function orphanedFlows(changes: readonly VirtualServerChange[]): readonly UdpFlow[] {
  return changes.flatMap(({ want, have }) => {
    const server = want ?? have
    if (server === undefined || server.protocol !== 'UDP') return []
    const { vip, port } = server
    const kept = new Set((want?.realServers ?? []).map((real) => `${real.ip} ${real.port}`))
    const removed = (have?.realServers ?? [])
      .filter((real) => !kept.has(`${real.ip} ${real.port}`))
      .map((real) => ({ vip, port, ip: real.ip, realPort: real.port }))
    // A flow from before there was a backend, answered by the service address itself, that is by nobody.
    return [...removed, { vip, port, ip: vip, realPort: port }]
  })
}

/** Deletes them. 'missing': there is no conntrack tool; the flows then end after 30 s without traffic. */
export async function endFlows(
  run: Run,
  flows: readonly UdpFlow[],
  signal: AbortSignal
): Promise<'ended' | 'missing'> {
  try {
    for (const family of [4, 6] as const) {
      const ours = new Map(flows.filter((flow) => familyOf(flow.vip) === family).map((f) => [idOf(f), f]))
      if (ours.size > 0) await endFamily(run, family, ours, signal)
    }
    return 'ended'
  } catch (error) {
    if (error instanceof HostError && error.code === 'TOOL_MISSING') return 'missing'
    throw error
  }
}

/** The line of conntrack that names both directions; undefined for any other. */
export function parseFlow(line: string): UdpFlow | undefined {
  const values = (name: string) => [...line.matchAll(new RegExp(` ${name}=(\\S+)`, 'g'))].map((m) => m[1])
  const [vip, port] = [values('dst')[0], values('dport')[0]]
  const [ip, realPort] = [values('src')[1], values('sport')[1]]
  if (vip === undefined || port === undefined || ip === undefined || realPort === undefined) return undefined
  return { vip: vip as Ip, port: Number(port), ip: ip as Ip, realPort: Number(realPort) }
}

async function endFamily(
  run: Run,
  family: 4 | 6,
  flows: ReadonlyMap<string, UdpFlow>,
  signal: AbortSignal
): Promise<void> {
  const select = ['-f', family === 4 ? 'ipv4' : 'ipv6', '-p', 'udp']
  // One listing instead of one process for each flow that may not exist.
  const { stdout } = await run('conntrack', ['-L', ...select], { signal, okCodes: [1] })
  const alive = new Set<string>()
  for (const line of stdout.split('\n')) {
    const flow = parseFlow(line)
    if (flow && flows.has(idOf(flow))) alive.add(idOf(flow))
  }
  for (const id of alive) {
    const flow = flows.get(id)
    if (flow === undefined) continue
    const original = ['--orig-dst', flow.vip, '--orig-port-dst', String(flow.port)]
    const reply = ['--reply-src', flow.ip, '--reply-port-src', String(flow.realPort)]
    // 1: the flow has gone by itself meanwhile.
    await run('conntrack', ['-D', ...select, ...original, ...reply], { signal, okCodes: [1] })
  }
}

function idOf(flow: UdpFlow): string {
  return `${flow.vip} ${flow.port} ${flow.ip} ${flow.realPort}`
}
