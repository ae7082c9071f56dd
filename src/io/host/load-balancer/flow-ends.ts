// Ends flows that would outlive their backend, by the tool conntrack(8). A load balancer picks a backend for the first
// packet of a flow, and the kernel's connection tracking repeats the choice for the rest, also after the rules have
// gone: a UDP sender that reuses its port would stay with a removed backend for ever, a TCP connection until it closes.
// The goal is a state and not a reaction to an event (docs/decisions/0035-flow-ends-are-a-state.md): every flow to a
// virtual server ends at one of its real servers, which include those that drain.
// Invariants
//   1. A virtual server is in doubt from the moment of its change until conntrack has been read and cleaned with
//      success. After a start all are in doubt. A failed step is tried again in the next pass, even if the rules have
//      changed since.
//   2. A virtual server that was just changed is checked once more by the next `observe`, because its route may have
//      been set later than the server.
//   3. Only flows to our virtual servers are ended.
// When the entry of a TCP flow is deleted, its next packet is balanced again, and the new backend resets the
// connection, which it does not know.
import { familyOf, ipToBytes, prefixToCidr } from '../../../core/model/cidr.ts'
import type { VirtualServer } from '../../../core/host/host-state.ts'
import type { Cidr, Ip, Protocol } from '../../../core/model/values.ts'
import type { TranslatedSources } from '../translated-sources.ts'
import { HostError } from '../errors.ts'
import type { LoadBalancer, Run, VirtualServerChange } from '../ports.ts'
import { keyOfVirtualServer, netChanges, withChanges } from './order.ts'

/** The arguments of withFlowEnds(). A PartContext has them. */
interface FlowEndOptions {
  readonly run: Run
  /** Takes one sentence for the operator, once, when the tool conntrack is missing. */
  readonly warn?: (message: string) => void
  /** Default: no source is translated. */
  readonly sources?: Pick<TranslatedSources, 'replyTo'>
  /** Monotonic milliseconds. Default: performance.now. */
  readonly nowMs?: () => number
}

/** A flow to a service address as conntrack has it: the original direction and the direction of the replies. */
export interface Flow {
  readonly protocol: Protocol
  /** Address of the client, before any translation. */
  readonly source: Ip
  readonly vip: Ip
  readonly port: number
  /**
   * Address and port of the backend, from which replies come. They are those of the service itself if no rule has
   * translated the flow.
   */
  readonly ip: Ip
  readonly realPort: number
  /** The address to which replies go. It differs from `source` only if the source is translated. */
  readonly replyTo: Ip
  /** True while no reply has been seen. */
  readonly unreplied: boolean
}

// After this time all flows are checked, even without a change, because a flow may have begun while a route was missing
// or while a rule of another program interfered.
const ALL_INTERVAL_MS = 60_000
// Each listing reads the kernel's whole table, so a sweep for TCP waits this long after the last listing.
const LISTING_INTERVAL_MS = 1000
// Each deletion starts a process. One sweep makes at most this many for each family; the next `observe` makes the rest.
const DELETIONS_MAX = 200
// A sweep that a timer starts has no signal of a caller. This deadline bounds it.
const DEADLINE_MS = 10_000

/**
 * Returns the load balancer with `observe` and `apply` extended: after its work each of them starts a sweep, which ends
 * the flows to backends that their virtual server does not have any more. A sweep that fails does not make them reject.
 * Without the tool conntrack no flow is ended, and `warn` is called once.
 */
export function withFlowEnds(inner: LoadBalancer, options: FlowEndOptions): LoadBalancer {
  const nowMs = options.nowMs ?? (() => performance.now())
  let servers: readonly VirtualServer[] = []
  /** Keys of the virtual servers whose flows must be checked (invariant 1). */
  let doubts = new Set<string>()
  /** Keys to check once more with the next `observe` (invariant 2). */
  let again = new Set<string>()
  let allAtMs = -Infinity
  let listedAtMs = -Infinity
  /** False once the tool was found missing. */
  let canEnd = true
  let timer: NodeJS.Timeout | undefined

  let queue: Promise<unknown> = Promise.resolve()
  /**
   * Runs one `work` at a time, so that no sweep runs during a change of the rules: the sweep would end a flow to a
   * backend that is just being added.
   */
  function exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = queue.then(work)
    queue = result.catch(() => undefined)
    return result
  }

  function sweep(signal: AbortSignal): Promise<void> {
    return exclusive(() => sweepNow(signal))
  }

  /**
   * Checks the servers in doubt, or all servers once a minute, and ends their stray flows. Never rejects. Servers whose
   * flows were not all checked and ended stay in doubt.
   */
  async function sweepNow(signal: AbortSignal): Promise<void> {
    clearTimeout(timer)
    timer = undefined
    const all = nowMs() - allAtMs >= ALL_INTERVAL_MS
    if (!canEnd || (!all && doubts.size === 0)) return
    // `doubts` is emptied before conntrack is read: a change during the reading puts its server in doubt again.
    const asked = doubts
    doubts = new Set()
    listedAtMs = nowMs()
    try {
      const isDone = await endStrays(options.run, { servers, asked, all, signal, sources: options.sources })
      if (all && isDone) allAtMs = nowMs()
      if (!isDone) doubts = doubts.union(asked)
    } catch (error) {
      doubts = doubts.union(asked)
      canEnd = !(error instanceof HostError && error.code === 'TOOL_MISSING')
      if (!canEnd) options.warn?.(NO_TOOL)
    }
  }

  /** Sweeps at once if a UDP server has changed. For TCP and SCTP the sweep may come LISTING_INTERVAL_MS later. */
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
        await inner.apply(asked, signal) // if it rejects, the servers stay in doubt
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
  'the tool conntrack is not installed, so clients may stay with a removed endpoint: UDP flows for 30 s to 3 min, TCP connections until one side closes them (install the package conntrack)'

/**
 * Returns whether flows may be at a wrong backend after this change. They may not if a TCP or SCTP server had backends
 * and only got other weights or more backends.
 */
function canStray({ want, have }: VirtualServerChange): boolean {
  if (want === undefined || have === undefined) return true
  if (want.protocol === 'UDP') return true
  const still = new Set(want.realServers.map(({ ip, port }) => `${ip} ${port}`))
  return have.realServers.some(({ ip, port }) => !still.has(`${ip} ${port}`)) || have.realServers.length === 0
}

function keyOf(server: VirtualServer | undefined): string {
  return server === undefined ? '' : keyOfVirtualServer(server)
}

/** Ends the stray flows of some servers. Returns false if more than DELETIONS_MAX were found. Errors: HostError. */
async function endStrays(
  run: Run,
  options: {
    readonly servers: readonly VirtualServer[]
    /** Keys of servers to check. If a key is not in `servers`, its server was removed: all its flows are ended. */
    readonly asked: ReadonlySet<string>
    /** True: all of `servers` are checked, and those of `asked`. */
    readonly all: boolean
    readonly signal: AbortSignal
    readonly sources: FlowEndOptions['sources']
  }
): Promise<boolean> {
  const { servers, asked, all, signal, sources } = options
  const keys = new Set(asked)
  const wanted = new Map<string, VirtualServer>()
  for (const server of servers) {
    const key = keyOfVirtualServer(server)
    if (all) keys.add(key)
    if (keys.has(key)) wanted.set(key, server)
  }
  const replyTo = (flow: Flow) => (sources === undefined ? flow.source : sources.replyTo(flow))
  let isDone = true
  for (const family of [4, 6] as const) {
    const vips = new Set([...keys].map(vipOf).filter((vip) => familyOf(vip) === family))
    if (vips.size === 0) continue
    const strays = new Map<string, End>()
    for (const flow of await listFlows(run, { family, vips, signal })) {
      const key = keyOfVirtualServer(flow)
      const server = wanted.get(key)
      if (!keys.has(key) || !isStray(flow, server, replyTo)) continue
      // Flows of other clients to the same backend may be right, so that only those with this translation are ended.
      const isOne = backendOf(flow, server) !== undefined
      const isUsual = flow.replyTo === flow.source || flow.replyTo === replyTo(flow)
      const end = { ...flow, replyTo: isOne || !isUsual ? flow.replyTo : undefined }
      strays.set(endOf(end), end)
    }
    for (const one of [...strays.values()].slice(0, DELETIONS_MAX)) await end(run, one, signal)
    if (strays.size > DELETIONS_MAX) isDone = false
  }
  return isDone
}

function vipOf(key: string): Ip {
  return key.slice(0, key.indexOf(' ')) as Ip
}

/**
 * Returns whether a flow must begin anew, for one of two reasons: no backend of its server answers it; or it has no
 * reply and its replies would go to another address than the filter gives it, which means that it began before its route was
 * set. A pod that reaches itself through the service keeps its translated source (chain `keep` of the filter). `replyTo`:
 * the address to which replies must go; undefined: not known.
 */
export function isStray(
  flow: Flow,
  server: VirtualServer | undefined,
  replyTo: (flow: Flow) => Ip | undefined = ({ source }) => source
): boolean {
  if (backendOf(flow, server) === undefined) return true
  const isHairpin = flow.source === flow.ip
  const right = replyTo(flow)
  return flow.unreplied && right !== undefined && flow.replyTo !== right && !isHairpin
}

function backendOf({ ip, realPort }: Flow, server: VirtualServer | undefined) {
  return server?.realServers.find((real) => real.ip === ip && real.port === realPort)
}

/** Flows that one deletion ends: those to a backend of a virtual server, or of these the ones with replies to one address. */
type End = Omit<Flow, 'replyTo'> & { readonly replyTo: Ip | undefined }

/** Returns a key for all flows that one deletion ends. */
function endOf({ protocol, vip, port, ip, realPort, replyTo = '' as Ip }: End): string {
  return `${protocol} ${vip} ${port} ${ip} ${realPort} ${replyTo}`
}

const PROTOCOLS = new Map<string, Protocol>([
  ['tcp', 'TCP'],
  ['udp', 'UDP'],
  ['sctp', 'SCTP']
])

/**
 * Reads the flows to these addresses. The text is scanned by index, because a gateway can have 100,000 flows: splitting
 * all lines would take more time and memory. Errors: HostError of conntrack.
 */
async function listFlows(
  run: Run,
  options: { readonly family: 4 | 6; readonly vips: ReadonlySet<string>; readonly signal: AbortSignal }
): Promise<readonly Flow[]> {
  const { family, vips, signal } = options
  const args = ['-L', '-f', family === 4 ? 'ipv4' : 'ipv6', '--orig-dst', coverOf(vips)]
  // Exit code 1: there is no such flow.
  const { stdout } = await run('conntrack', args, { signal, okCodes: [1] })
  const flows: Flow[] = []
  for (let start = 0; start < stdout.length;) {
    const newline = stdout.indexOf('\n', start)
    const end = newline < 0 ? stdout.length : newline
    const at = stdout.indexOf(' dst=', start) + ' dst='.length
    // Most flows do not go to service addresses. Of their lines only the first destination is read.
    if (at > start && at < end && vips.has(stdout.slice(at, stdout.indexOf(' ', at)))) {
      const flow = parseFlow(stdout.slice(start, end))
      if (flow !== undefined) flows.push(flow)
    }
    start = end + 1
  }
  return flows
}

/** Returns the longest prefix that contains all addresses of one family: conntrack prints only flows inside it. */
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

/**
 * Parses a line of `conntrack -L`, which has both directions. Returns undefined for another protocol, for an entry of a
 * conntrack zone (which other programs use), and for a connection that has ended.
 */
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

/** Deletes the entries of all flows with this end. Errors: HostError of conntrack. */
async function end(run: Run, flow: End, signal: AbortSignal): Promise<void> {
  const args = ['-D', '-f', familyOf(flow.vip) === 4 ? 'ipv4' : 'ipv6', '-p', flow.protocol.toLowerCase()]
  const original = ['--orig-dst', flow.vip, '--orig-port-dst', String(flow.port)]
  const reply = ['--reply-src', flow.ip, '--reply-port-src', String(flow.realPort)]
  const translated = flow.replyTo === undefined ? [] : ['--reply-dst', flow.replyTo]
  // Exit code 1: the flow has ended by itself since the listing.
  await run('conntrack', [...args, ...original, ...reply, ...translated], {
    signal,
    okCodes: [1]
  })
}
