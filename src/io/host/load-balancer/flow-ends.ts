// Ends the flows that would outlive their backend. A load balancer picks a backend for the first packet of a flow and conntrack repeats the
// choice for the rest, also when the rules are gone meanwhile: a UDP sender that reuses its port would stay with a removed backend for
// good, a TCP connection until it closes.
// The wish is a state, not an event. For every virtual server: a flow to it ends at one of its real servers (those that drain included).
// Invariants
//   1. A virtual server is in doubt from the moment it changes (all are after a start) until conntrack has been read and cleaned with success.
//      A failed step is tried again in the next pass, even if the rules have changed since.
//   2. A virtual server that was just changed is looked at once more in the next look, because its route may have come later than it did.
//   3. Only flows to virtual servers of ours are ended.
// A TCP flow whose entry is gone is balanced anew with its next packet and reset by the backend, which does not know it.
import { familyOf, ipToBytes, prefixToCidr } from '../../../core/model/cidr.ts'
import type { VirtualServer } from '../../../core/host/host-state.ts'
import type { Cidr, Ip, Protocol } from '../../../core/model/values.ts'
import { HostError } from '../errors.ts'
import type { LoadBalancer, Run, VirtualServerChange } from '../ports.ts'
import { keyOfVirtualServer, netChanges, withChanges } from './order.ts'

export interface FlowEndOptions {
  readonly run: Run
  /** Told once what works less well here than it could. */
  readonly warn?: (message: string) => void
  /** Monotonic milliseconds; default: the process's. */
  readonly nowMs?: () => number
}

/** A flow to a service address. */
export interface Flow {
  readonly protocol: Protocol
  readonly source: Ip
  readonly vip: Ip
  readonly port: number
  /** The backend's address and port, which send the replies. They are those of the service itself if the flow was not translated. */
  readonly ip: Ip
  readonly realPort: number
  /** Where the answer goes: `source`, unless the source is translated. */
  readonly replyTo: Ip
  /** Nothing has come back yet. */
  readonly unreplied: boolean
}

// After this time all flows are checked, even without a change, because some began while a route was missing or a rule of another program
// interfered.
const ALL_INTERVAL_MS = 60_000
// Each listing reads the whole table: removed TCP backends may wait this long after the last one.
const LISTING_INTERVAL_MS = 1000
// One process each; the rest is done at the next look.
const DELETIONS_MAX = 200
const DEADLINE_MS = 10_000

/** The same load balancer, which also ends flows. */
export function withFlowEnds(inner: LoadBalancer, options: FlowEndOptions): LoadBalancer {
  const nowMs = options.nowMs ?? (() => performance.now())
  let servers: readonly VirtualServer[] = []
  let doubts = new Set<string>()
  /** For the next look (invariant 2). */
  let again = new Set<string>()
  let allAtMs = -Infinity
  let listedAtMs = -Infinity
  let canEnd = true
  let timer: NodeJS.Timeout | undefined

  let queue: Promise<unknown> = Promise.resolve()
  /** Never while the rules change: a flow to a backend that is about to be known would be ended. */
  function exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = queue.then(work)
    queue = result.catch(() => undefined)
    return result
  }

  function sweep(signal: AbortSignal): Promise<void> {
    return exclusive(() => sweepNow(signal))
  }

  /** Errors: none; what is not done stays in doubt. */
  async function sweepNow(signal: AbortSignal): Promise<void> {
    clearTimeout(timer)
    timer = undefined
    const all = nowMs() - allAtMs >= ALL_INTERVAL_MS
    if (!canEnd || (!all && doubts.size === 0)) return
    const asked = doubts
    doubts = new Set()
    listedAtMs = nowMs()
    try {
      const isDone = await endStrays(options.run, { servers, asked, all, signal })
      if (all && isDone) allAtMs = nowMs()
      if (!isDone) doubts = doubts.union(asked)
    } catch (error) {
      doubts = doubts.union(asked)
      canEnd = !(error instanceof HostError && error.code === 'TOOL_MISSING')
      if (!canEnd) options.warn?.(NO_TOOL)
    }
  }

  /** Removed UDP backends at once; TCP soon. */
  async function sweepAfter(changes: readonly VirtualServerChange[], signal: AbortSignal): Promise<void> {
    const isUrgent = changes.some(({ want, have }) => (want ?? have)?.protocol === 'UDP')
    const waitMs = isUrgent ? 0 : listedAtMs + LISTING_INTERVAL_MS - nowMs()
    if (waitMs <= 0) return sweep(signal)
    timer ??= setTimeout(() => void sweep(AbortSignal.timeout(DEADLINE_MS)), waitMs).unref()
  }

  return {
    ...inner,
    async observe(signal) {
      servers = await exclusive(() => inner.observe(signal))
      doubts = doubts.union(again)
      again = new Set()
      await sweep(signal)
      return servers
    },
    async apply(asked, signal) {
      const changes = netChanges(asked)
      const suspects = changes.filter(canStray)
      for (const { want, have } of suspects) doubts.add(keyOf(want ?? have))
      await exclusive(async () => {
        await inner.apply(asked, signal) // a failure leaves the doubt
        servers = withChanges(servers, changes)
      })
      for (const { want, have } of suspects) again.add(keyOf(want ?? have))
      if (suspects.length > 0) await sweepAfter(suspects, signal)
    },
    async stop() {
      clearTimeout(timer)
      await inner.stop?.()
    }
  }
}

const NO_TOOL =
  'the tool conntrack is not installed: clients of a removed endpoint may stay with it, UDP for 30 s to 3 min, TCP as long as they like (install the package conntrack)'

/** A change after which some flow may end where it should not: all but a change of weights or more backends than before. */
function canStray({ want, have }: VirtualServerChange): boolean {
  if (want === undefined || have === undefined) return true
  if (want.protocol === 'UDP') return true
  const still = new Set(want.realServers.map(({ ip, port }) => `${ip} ${port}`))
  return have.realServers.some(({ ip, port }) => !still.has(`${ip} ${port}`)) || have.realServers.length === 0
}

function keyOf(server: VirtualServer | undefined): string {
  return server === undefined ? '' : keyOfVirtualServer(server)
}

/** False: some are left. Errors: HostError of the tool. */
async function endStrays(
  run: Run,
  options: {
    readonly servers: readonly VirtualServer[]
    /** Keys of servers, also of removed ones. */
    readonly asked: ReadonlySet<string>
    /** All of `servers`, too. */
    readonly all: boolean
    readonly signal: AbortSignal
  }
): Promise<boolean> {
  const { servers, asked, all, signal } = options
  const keys = new Set(asked)
  const wanted = new Map<string, VirtualServer>()
  for (const server of servers) {
    const key = keyOfVirtualServer(server)
    if (all) keys.add(key)
    if (keys.has(key)) wanted.set(key, server)
  }
  let isDone = true
  for (const family of [4, 6] as const) {
    const vips = new Set([...keys].map(vipOf).filter((vip) => familyOf(vip) === family))
    if (vips.size === 0) continue
    const strays = new Map<string, Flow>()
    for (const flow of await listFlows(run, { family, vips, signal })) {
      const key = keyOfVirtualServer(flow)
      if (keys.has(key) && isStray(flow, wanted.get(key))) strays.set(endOf(flow), flow)
    }
    for (const flow of [...strays.values()].slice(0, DELETIONS_MAX)) await end(run, flow, signal)
    if (strays.size > DELETIONS_MAX) isDone = false
  }
  return isDone
}

function vipOf(key: string): Ip {
  return key.slice(0, key.indexOf(' ')) as Ip
}

/**
 * Whether a flow must begin anew. One that is answered by no backend of its server; and one that got no answer and whose source was
 * translated, though it goes to another host: it began before its route did.
 */
export function isStray(flow: Flow, server: VirtualServer | undefined): boolean {
  const backend = server?.realServers.find(({ ip, port }) => ip === flow.ip && port === flow.realPort)
  if (backend === undefined) return true
  const isHairpin = flow.source === flow.ip
  return flow.unreplied && flow.replyTo !== flow.source && !isHairpin
}

/** One deletion ends all flows of one end. */
function endOf(flow: Flow): string {
  return `${flow.protocol} ${flow.vip} ${flow.port} ${flow.ip} ${flow.realPort} ${flow.replyTo === flow.source ? '' : flow.replyTo}`
}

const PROTOCOLS = new Map<string, Protocol>([
  ['tcp', 'TCP'],
  ['udp', 'UDP'],
  ['sctp', 'SCTP']
])

async function listFlows(
  run: Run,
  options: { readonly family: 4 | 6; readonly vips: ReadonlySet<string>; readonly signal: AbortSignal }
): Promise<readonly Flow[]> {
  const { family, vips, signal } = options
  const args = ['-L', '-f', family === 4 ? 'ipv4' : 'ipv6', '--orig-dst', coverOf(vips)]
  // 1: there is no flow.
  const { stdout } = await run('conntrack', args, { signal, okCodes: [1] })
  const flows: Flow[] = []
  for (let start = 0; start < stdout.length;) {
    const newline = stdout.indexOf('\n', start)
    const end = newline < 0 ? stdout.length : newline
    const at = stdout.indexOf(' dst=', start) + ' dst='.length
    // Most flows of a host are not to service addresses: nothing else of those lines is looked at.
    if (at > start && at < end && vips.has(stdout.slice(at, stdout.indexOf(' ', at)))) {
      const flow = parseFlow(stdout.slice(start, end))
      if (flow !== undefined) flows.push(flow)
    }
    start = end + 1
  }
  return flows
}

/** The longest prefix that has them all: the tool prints no flow outside it, and a gateway has many. */
export function coverOf(ips: ReadonlySet<string>): Cidr {
  const [first = new Uint8Array(4), ...rest] = [...ips].map((ip) => ipToBytes(ip as Ip))
  let length = first.length * 8
  for (const bytes of rest) {
    const at = first.findIndex((byte, index) => byte !== bytes[index])
    if (at >= 0) length = Math.min(length, at * 8 + Math.clz32((first[at] ?? 0) ^ (bytes[at] ?? 0)) - 24)
  }
  const address = first.map((byte, index) => byte & (0xff00 >> Math.min(8, Math.max(0, length - index * 8))))
  return prefixToCidr({ address, length }) ?? (first.length === 4 ? ('0.0.0.0/0' as Cidr) : ('::/0' as Cidr))
}

/** A line of `conntrack -L` with both directions; undefined for another protocol, a zone (not ours), and a connection that has ended. */
export function parseFlow(line: string): Flow | undefined {
  const protocol = PROTOCOLS.get(line.slice(0, line.indexOf(' ')))
  if (protocol === undefined || / zone(-orig|-reply)?=/.test(line) || / (TIME_WAIT|CLOSE) /.test(line))
    return undefined
  const values = (name: string) => [...line.matchAll(new RegExp(` ${name}=(\\S+)`, 'g'))].map((m) => m[1])
  const [[source, ip], [vip, replyTo], [, realPort], [port]] = [
    values('src'),
    values('dst'),
    values('sport'),
    values('dport')
  ]
  if (!source || !ip || !vip || !replyTo || realPort === undefined || port === undefined) return undefined
  return {
    protocol,
    source: source as Ip,
    vip: vip as Ip,
    port: Number(port),
    ip: ip as Ip,
    realPort: Number(realPort),
    replyTo: replyTo as Ip,
    unreplied: line.includes('[UNREPLIED]')
  }
}

async function end(run: Run, flow: Flow, signal: AbortSignal): Promise<void> {
  const args = ['-D', '-f', familyOf(flow.vip) === 4 ? 'ipv4' : 'ipv6', '-p', flow.protocol.toLowerCase()]
  const original = ['--orig-dst', flow.vip, '--orig-port-dst', String(flow.port)]
  const reply = ['--reply-src', flow.ip, '--reply-port-src', String(flow.realPort)]
  const translated = flow.replyTo === flow.source ? [] : ['--reply-dst', flow.replyTo]
  // 1: the flow has gone by itself meanwhile.
  await run('conntrack', [...args, ...original, ...reply, ...translated], {
    signal,
    okCodes: [1]
  })
}
