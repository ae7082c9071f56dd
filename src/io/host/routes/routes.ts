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
//   6. Each route succeeds or fails by itself. A family that cannot be read is observed as empty while the other one can be read.
import { compareCidr, familyOf } from '../../../core/model/cidr.ts'
import type { Route, Vip } from '../../../core/host/host-state.ts'
import type { Cidr, Ip } from '../../../core/model/values.ts'
import { endsPart } from '../attempt.ts'
import { HostError } from '../errors.ts'
import { parseAddresses, parseRoutes, parseRules, type KernelRoute } from '../tools/ip-json.ts'
import type { HostNames, Run } from '../ports.ts'
import { addAddress } from '../tools/ip.ts'

export interface TableRoute {
  readonly table: 'tunnel' | 'vip'
  readonly route: Route | Vip
}

export interface Routes {
  observe(signal: AbortSignal): Promise<{ readonly routes: readonly Route[]; readonly vips: readonly Vip[] }>
  /** Returns the routes that were refused: ROUTE_TAKEN, IPV6_OFF, TOOL_FAILED, NOT_ROOT. Errors: TOOL_TIMEOUT, TOOL_MISSING. */
  add(routes: readonly TableRoute[], signal: AbortSignal): Promise<Refusals>
  /** As `add`. One that has gone already is no error. */
  remove(routes: readonly TableRoute[], signal: AbortSignal): Promise<Refusals>
  cleanup(signal: AbortSignal): Promise<void>
}

export type Refusals = ReadonlyMap<TableRoute, unknown>

const FAMILIES = [4, 6] as const
type Family = (typeof FAMILIES)[number]

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

  async function ensureRule(family: Family, signal: AbortSignal): Promise<void> {
    if (await hasRule(family, signal)) return
    await run('ip', [`-${family}`, 'rule', 'add', ...ruleText(names).split(' ')], { signal })
  }

  async function localAddresses(signal: AbortSignal): Promise<ReadonlySet<Ip>> {
    return parseAddresses((await run('ip', ['-j', 'address', 'show'], { signal })).stdout)
  }

  /** The destinations in a table that are not ours. */
  async function foreign(entry: TableRoute, signal: AbortSignal): Promise<ReadonlyMap<Cidr, KernelRoute>> {
    const existing = await read(familyOf(entry.route.destination), tableName(entry.table, names), [], signal)
    const others = existing.filter((route) => route.protocol !== protocol)
    return new Map(others.map((route) => [route.destination, route]))
  }

  /** Does what a route needs first, once for all routes that need it. What fails refuses the routes that need it. */
  async function prepare(
    routes: readonly TableRoute[],
    signal: AbortSignal
  ): Promise<Map<TableRoute, unknown>> {
    const refused = new Map<TableRoute, unknown>()
    const once = keyed()
    const local = async () => once('addresses', () => localAddresses(signal))
    for (const entry of routes) {
      const { table, route } = entry
      const family = familyOf(route.destination)
      try {
        const others = await once(`table ${table} ${family}`, () => foreign(entry, signal))
        const other = others.get(route.destination)
        if (other !== undefined) throw taken(other, tableName(table, names))
        // Without a custom policy rule the kernel keeps the tables local and main as one, where a `throw` would end the search.
        if (table === 'tunnel' || route.kind === 'throw')
          await once(`rule ${family}`, () => ensureRule(family, signal))
        const { source } = route
        if (source === undefined || (await local()).has(source)) continue
        await once(`source ${source}`, () => addAddress(run, names.device, source, signal))
      } catch (error) {
        if (endsPart(error)) throw error
        refused.set(entry, explained(error, family))
      }
    }
    return refused
  }

  /** One command for all; the tool goes on after a line that is refused and says its number. */
  async function batch(
    verb: 'replace' | 'delete',
    routes: readonly TableRoute[],
    signal: AbortSignal
  ): Promise<Map<TableRoute, HostError>> {
    if (routes.length === 0) return new Map()
    const result = await run('ip', BATCH, {
      signal,
      stdin: routes.map((entry) => `${routeCommand(verb, entry, names)}\n`).join(''),
      okCodes: [1]
    })
    const complaints = complaintsOf(result.stderr)
    if (result.exitCode !== 0 && complaints.size === 0) throw ipFailed(result.stderr)
    const refused = new Map<TableRoute, HostError>()
    for (const [line, text] of complaints) {
      const entry = routes[line - 1]
      if (entry === undefined || (verb === 'delete' && GONE.test(text))) continue
      refused.set(entry, explained(ipFailed(text), familyOf(entry.route.destination)))
    }
    return refused
  }

  return {
    async observe(signal) {
      const found = await Promise.allSettled(FAMILIES.map((family) => observeFamily(family, signal)))
      const failed = found.filter((family) => family.status === 'rejected')
      for (const { reason } of failed) if (failed.length === found.length || endsPart(reason)) throw reason
      const read = found.flatMap((family) => (family.status === 'fulfilled' ? [family.value] : []))
      return {
        routes: state(read.flatMap((family) => family.routes)),
        vips: vipsOf(read.flatMap((family) => family.vips))
      }
    },

    async add(routes, signal) {
      const unprepared = await prepare(routes, signal)
      const ready = routes.filter((entry) => !unprepared.has(entry))
      return new Map([...unprepared, ...(await batch('replace', ready, signal))])
    },

    remove: (routes, signal) => batch('delete', routes, signal),

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
function ruleText(names: HostNames): string {
  const mark = `0x${names.fwmark.toString(16)}`
  return `preference ${names.rulePreference} not fwmark ${mark}/${mark} lookup ${names.routeTable} protocol ${names.routeProtocol}`
}

/** The line of `ip -batch`, and without `ip` in front the command that a person would type. */
export function routeCommand(verb: 'replace' | 'delete', entry: TableRoute, names: HostNames): string {
  return `route ${verb} ${routeText(verb === 'delete' ? withoutMtu(entry) : entry, names)}`
}

/** The arguments of `ip route add`. */
function routeText({ table, route }: TableRoute, names: HostNames): string {
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

/** Already gone: the route, its table, or its device with all routes. */
const GONE = /No such process|does not exist|Cannot find device/
const BATCH = ['-force', '-batch', '-'] as const

/** Line number, from 1, to what `ip -force -batch` said of it. */
function complaintsOf(stderr: string): ReadonlyMap<number, string> {
  const complaints = new Map<number, string>()
  let text: string[] = []
  for (const line of stderr.split('\n')) {
    const failed = /^Command failed -:(\d+)$/.exec(line)
    if (failed === null) {
      if (line !== '') text.push(line)
      continue
    }
    complaints.set(Number(failed[1]), text.join('; '))
    text = []
  }
  return complaints
}

/** Each thing is done once, and its answer or error kept for the others that need it. */
function keyed(): <T>(key: string, act: () => Promise<T>) => Promise<T> {
  const done = new Map<string, Promise<unknown>>()
  return <T>(key: string, act: () => Promise<T>): Promise<T> => {
    const known = done.get(key) as Promise<T> | undefined
    if (known !== undefined) return known
    const fresh = act()
    done.set(key, fresh)
    return fresh
  }
}

/** A refusal that only says "Permission denied" or "not supported" is IPv6 that is switched off, or missing, for IPv6. */
function explained(error: unknown, family: Family): HostError {
  const known = error instanceof HostError ? error : ipFailed(String(error))
  const off = /IPv6 is disabled|Permission denied|not permitted|not supported|family/i.test(known.stderr)
  if (family === 4 || !off) return known
  return new HostError({
    code: 'IPV6_OFF',
    tool: 'ip',
    stderr: known.stderr,
    message: `IPv6 is switched off on this host (ip: ${known.stderr.split('\n')[0] ?? ''})`,
    fix: 'switch it on: sysctl -w net.ipv6.conf.all.disable_ipv6=0, and without ipv6.disable=1 on the kernel command line; or give the cluster IPv4 prefixes only',
    cause: error
  })
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
