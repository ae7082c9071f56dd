// Routes into the tunnel, in a table of our own, and service prefixes made local (AnyIP), in the table local.
// Invariants
//   1. Ours are the routes of our protocol number; in the tunnel's table also only those of our device. Any other route at a
//      destination of ours is an error (ROUTE_TAKEN), never replaced.
//   2. Rule: `not fwmark M/M lookup T`, before main. WireGuard's own packets carry M, so they never enter the tunnel again.
//      A family without its rule is observed without routes: they would carry nothing. Adding a route brings the rule.
//   3. VIPs live in the table local: in a table of our own they are delivered, but the kernel does not take their addresses
//      for the host's, so that neither an ICMP error nor a reset could be sent from them.
//   4. What this host reaches by itself has a `throw` route of ours in the same table: the search goes on with the next rule.
//   5. A source address that no device has is put on the tunnel device, as the kernel takes no other for `src`.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { compareCidr, familyOf } from '../../core/cidr.ts'
import type { Route, Vip } from '../../core/host.ts'
import type { Ip } from '../../core/model.ts'
import { HostError } from './errors.ts'
import { parseAddresses, parseRoutes, parseRules, type KernelRoute } from './ip-json.ts'
import type { HostNames, Run } from './ports.ts'
import { missing, toolEnvironment } from './run.ts'
import { addAddress } from './wireguard.ts'

export interface TableRoute {
  readonly table: 'tunnel' | 'vip'
  readonly route: Route | Vip
}

export interface Routes {
  observe(signal: AbortSignal): Promise<{ readonly routes: readonly Route[]; readonly vips: readonly Vip[] }>
  /** Errors: ROUTE_TAKEN. */
  add(routes: readonly TableRoute[], signal: AbortSignal): Promise<void>
  /** One that has gone already is no error. */
  remove(routes: readonly TableRoute[], signal: AbortSignal): Promise<void>
  cleanup(signal: AbortSignal): Promise<void>
}

const FAMILIES = [4, 6] as const
type Family = (typeof FAMILIES)[number]
// 20,000 routes take 0.3 s; a busy machine is slower.
const BATCH_DEADLINE_MS = 60_000

export function createRoutes(run: Run, names: HostNames): Routes {
  const protocol = String(names.routeProtocol)

  async function read(family: Family, table: string, filter: readonly string[], signal: AbortSignal) {
    const args = [`-${family}`, '-j', 'route', 'show', 'table', table, ...filter]
    const result = await run('ip', args, { signal, okCodes: [2] })
    // A table exists from its first route on. IPv6 may be off altogether.
    if (result.exitCode !== 0 && !/does not exist|not supported/.test(result.stderr))
      throw ipFailed(result.stderr)
    return result.exitCode === 0 ? parseRoutes(result.stdout, family) : []
  }

  async function hasRule(family: Family, signal: AbortSignal): Promise<boolean> {
    const result = await run('ip', [`-${family}`, '-N', '-j', 'rule', 'show'], { signal, okCodes: [2] })
    if (result.exitCode !== 0) return false
    return parseRules(result.stdout).some(
      (rule) =>
        rule.preference === names.rulePreference &&
        rule.table === String(names.routeTable) &&
        rule.protocol === protocol &&
        rule.not &&
        rule.fwmark === names.fwmark &&
        rule.fwmask === names.fwmark
    )
  }

  async function observeFamily(family: Family, signal: AbortSignal) {
    const ours = ['proto', protocol]
    const [rule, tunnel, local] = await Promise.all([
      hasRule(family, signal),
      read(family, String(names.routeTable), ours, signal),
      read(family, 'local', ours, signal)
    ])
    return {
      routes: rule ? tunnel.filter((route) => isException(route.type) || route.device === names.device) : [],
      vips: local.filter(
        ({ type, device }) => (type === 'throw' && rule) || (type === 'local' && device === 'lo')
      )
    }
  }

  async function ensureRules(routes: readonly TableRoute[], signal: AbortSignal): Promise<void> {
    for (const family of FAMILIES) {
      // Without a rule of somebody's the kernel keeps the tables local and main as one, where a `throw` would end the search.
      const needsRule = ({ table, route }: TableRoute) =>
        (table === 'tunnel' || route.kind === 'throw') && familyOf(route.destination) === family
      if (!routes.some(needsRule)) continue
      if (await hasRule(family, signal)) continue
      await run('ip', [`-${family}`, 'rule', 'add', ...ruleText(names).split(' ')], { signal })
    }
  }

  async function ensureSources(routes: readonly TableRoute[], signal: AbortSignal): Promise<void> {
    const sources = new Set(
      routes.map(({ route }) => route.source).filter((ip): ip is Ip => ip !== undefined)
    )
    if (sources.size === 0) return
    const local = parseAddresses((await run('ip', ['-j', 'address', 'show'], { signal })).stdout)
    for (const source of sources) if (!local.has(source)) await addAddress(run, names.device, source, signal)
  }

  async function refuseTaken(routes: readonly TableRoute[], signal: AbortSignal): Promise<void> {
    for (const table of ['tunnel', 'vip'] as const) {
      for (const family of FAMILIES) {
        const wanted = new Set(
          routes
            .filter((entry) => entry.table === table && familyOf(entry.route.destination) === family)
            .map((entry) => entry.route.destination)
        )
        if (wanted.size === 0) continue
        const existing = await read(family, tableName(table, names), [], signal)
        const foreign = existing.find((route) => wanted.has(route.destination) && route.protocol !== protocol)
        if (foreign !== undefined) throw taken(foreign, tableName(table, names))
      }
    }
  }

  return {
    async observe(signal) {
      const found = await Promise.all(FAMILIES.map((family) => observeFamily(family, signal)))
      return {
        routes: state(found.flatMap((family) => family.routes)),
        vips: vipsOf(found.flatMap((family) => family.vips))
      }
    },

    async add(routes, signal) {
      await refuseTaken(routes, signal)
      await ensureRules(routes, signal)
      await ensureSources(routes, signal)
      const lines = routes.map((entry) => `route replace ${routeText(entry, names)}\n`).join('')
      await run('ip', ['-batch', '-'], { signal, stdin: lines, deadlineMs: BATCH_DEADLINE_MS })
    },

    async remove(routes, signal) {
      const lines = routes.map((entry) => `route delete ${routeText(withoutMtu(entry), names)}\n`).join('')
      await removeAll(run, lines, signal)
    },

    async cleanup(signal) {
      for (const family of FAMILIES) {
        for (const table of [String(names.routeTable), 'local']) {
          const ours = await read(family, table, ['proto', protocol], signal)
          if (ours.length === 0) continue
          await run('ip', [`-${family}`, 'route', 'flush', 'table', table, 'proto', protocol], { signal })
        }
        if (!(await hasRule(family, signal))) continue
        await run('ip', [`-${family}`, 'rule', 'delete', ...ruleText(names).split(' ')], { signal })
      }
    }
  }
}

/** The arguments of `ip rule add`. */
export function ruleText(names: HostNames): string {
  const mark = `0x${names.fwmark.toString(16)}`
  return `preference ${names.rulePreference} not fwmark ${mark}/${mark} lookup ${names.routeTable} protocol ${names.routeProtocol}`
}

/** The arguments of `ip route add`. */
export function routeText({ table, route }: TableRoute, names: HostNames): string {
  const tail = `proto ${names.routeProtocol} table ${tableName(table, names)}`
  if (route.kind !== undefined) return `${route.kind} ${route.destination} ${tail}`
  const source = route.source === undefined ? '' : ` src ${route.source}`
  const mtu = 'mtu' in route && route.mtu !== undefined ? ` mtu ${route.mtu}` : ''
  const target =
    table === 'vip' ? `local ${route.destination} dev lo` : `${route.destination} dev ${names.device}`
  return `${target}${source}${mtu} ${tail}`
}

/** It does not identify a route, and an older one may have had another. */
function withoutMtu({ table, route }: TableRoute): TableRoute {
  const { destination, source, kind } = route
  return { table, route: { destination, source, ...(kind && { kind }) } }
}

/**
 * Calls `onChange` when something about links, addresses, routes or rules of this host changed: a hint to make a pass, at
 * most one a second. Ends with the signal. Errors: HostError when `ip monitor` ends by itself.
 */
export function watchHost(onChange: () => void, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve, reject) => {
    const child = spawn('ip', ['-o', 'monitor', 'link', 'address', 'route', 'rule'], {
      env: toolEnvironment(),
      stdio: ['ignore', 'pipe', 'ignore']
    })
    const hint = throttle(onChange, HINT_INTERVAL_MS)
    const stop = () => child.kill('SIGTERM')
    signal.addEventListener('abort', stop, { once: true })
    createInterface({ input: child.stdout }).on('line', hint.call)
    const end = (error: HostError) => {
      signal.removeEventListener('abort', stop)
      hint.cancel()
      if (signal.aborted) resolve()
      else reject(error)
    }
    child.on('error', () => end(missing('ip')))
    child.on('close', () => end(ipFailed('ip monitor ended')))
  })
}

const HINT_INTERVAL_MS = 1_000

function throttle(callback: () => void, intervalMs: number): { call: () => void; cancel: () => void } {
  let timer: NodeJS.Timeout | undefined
  let again = false
  const fire = () => {
    again = false
    timer = setTimeout(() => {
      timer = undefined
      if (again) fire()
    }, intervalMs)
    callback()
  }
  return {
    call: () => {
      if (timer === undefined) fire()
      else again = true
    },
    cancel: () => clearTimeout(timer)
  }
}

async function removeAll(run: Run, lines: string, signal: AbortSignal): Promise<void> {
  const result = await run('ip', ['-force', '-batch', '-'], {
    signal,
    stdin: lines,
    deadlineMs: BATCH_DEADLINE_MS,
    okCodes: [1]
  })
  // Already gone: the route, its table, or its device with all routes.
  const others = result.stderr
    .split('\n')
    .filter(
      (line) => line !== '' && !/No such process|does not exist|Cannot find device|^Command failed/.test(line)
    )
  if (others.length > 0) throw ipFailed(others.join('\n'))
}

function tableName(table: TableRoute['table'], names: HostNames): string {
  return table === 'vip' ? 'local' : String(names.routeTable)
}

function isException(type: string): type is 'throw' | 'unreachable' {
  return type === 'throw' || type === 'unreachable'
}

function vipsOf(routes: readonly KernelRoute[]): readonly Vip[] {
  return state(routes).map(({ destination, source, kind }) => ({
    destination,
    source,
    ...(kind === 'throw' ? { kind } : {})
  }))
}

function state(routes: readonly KernelRoute[]): readonly Route[] {
  return routes
    .map(({ destination, source, type, mtu }) => ({
      destination,
      source,
      ...(isException(type) ? { kind: type } : {}),
      ...(mtu === undefined ? {} : { mtu })
    }))
    .sort((a, b) => compareCidr(a.destination, b.destination))
}

function taken(route: KernelRoute, table: string): HostError {
  return new HostError({
    code: 'ROUTE_TAKEN',
    tool: 'ip',
    message: `table ${table} already has a route to ${route.destination} that is not ours (dev ${route.device}, proto ${route.protocol})`,
    fix: `see what made it: ip route show table ${table} ${route.destination}`
  })
}

function ipFailed(stderr: string): HostError {
  const text = stderr.trim().slice(0, 2_000)
  return new HostError({ code: 'TOOL_FAILED', tool: 'ip', stderr: text, message: `ip failed: ${text}` })
}
