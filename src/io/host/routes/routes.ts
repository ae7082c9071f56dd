// Reads and sets routes with `ip` (ip-route(8), ip-rule(8)): routes into the tunnel, in a routing table of our own, and
// service prefixes that are made local (AnyIP: the host accepts every address of the prefix), in table local.
// Invariants
//   1. Our routes have our protocol number; those in our own tables also have our device. A route of another
//      program at a destination of ours is an error (ROUTE_TAKEN) and is never replaced.
//   2. The rule `not fwmark M/M lookup T` stands before that of table main. WireGuard's own packets carry the mark M,
//      so they never enter the tunnel again. Without its rule, a family is observed without routes, because they would
//      carry nothing. Adding a route also adds the rule if it is missing.
//   3. VIPs are in table local. With routes in another table the kernel would deliver their packets, too, but it would
//      not count the VIPs as addresses of the host, and could send neither an ICMP error nor a reset from them
//      (docs/decisions/0001-vip-routes-in-table-local.md).
//   4. A network that this host reaches without the mesh has a `throw` route of ours in the same table: there the
//      search goes on with the next rule.
//   5. A source address that no device has is put on the tunnel device, because the kernel accepts no other as `src`.
//   6. Each route succeeds or fails by itself. A family that cannot be read is observed as empty while the other family
//      can be read.
import { compareCidr, familyOf } from '../../../core/model/cidr.ts'
import type { Route, Vip } from '../../../core/host/host-state.ts'
import type { Cidr, Ip } from '../../../core/model/values.ts'
import { endsPart } from '../attempt.ts'
import { HostError } from '../errors.ts'
import { addressesOf, type KernelRoute } from '../tools/ip-json.ts'
import type { HostNames, Run } from '../ports.ts'
import { addAddress, ipFailed, readLinks, readRoutes } from '../tools/ip.ts'
import { createRules } from './rules.ts'

/**
 * A route with the table that it belongs to: `tunnel` and `inner` are tables of our own (rules.ts), `vip` is table local.
 */
export interface TableRoute {
  readonly table: 'tunnel' | 'inner' | 'vip'
  readonly route: Route | Vip
}

/** Returns a route with its table. */
export function tableRoute(route: Route): TableRoute {
  return { table: route.inner === true ? 'inner' : 'tunnel', route }
}

/** Reads and changes our routes. */
export interface Routes {
  /**
   * Returns our routes of both families, sorted by destination. Errors: HostError if neither family can be read, or if
   * `ip` hangs or is missing.
   */
  observe(signal: AbortSignal): Promise<{ readonly routes: readonly Route[]; readonly vips: readonly Vip[] }>
  /**
   * Adds routes or replaces ours at the same destinations, with the rule and the source addresses that they need.
   * Returns those that were refused: ROUTE_TAKEN, IPV6_OFF, TOOL_FAILED, NOT_ROOT. Errors: TOOL_TIMEOUT, TOOL_MISSING,
   * ABORTED; TOOL_FAILED if `ip` names no route.
   */
  add(routes: readonly TableRoute[], signal: AbortSignal): Promise<Refusals>
  /** Removes routes and returns those that were refused, as `add` does. A route that has gone already is no error. */
  remove(routes: readonly TableRoute[], signal: AbortSignal): Promise<Refusals>
  /** Removes all our routes and rules. Errors: HostError; it stops at the first error and leaves the rest. */
  cleanup(signal: AbortSignal): Promise<void>
}

/** The refused routes, each with its error, which is a HostError. */
export type Refusals = ReadonlyMap<TableRoute, unknown>

const FAMILIES = [4, 6] as const
type Family = (typeof FAMILIES)[number]

/** Returns the routes of this host. Runs no tool. */
export function createRoutes(run: Run, names: HostNames): Routes {
  const protocol = String(names.routeProtocol)
  const rules = createRules(run, names)
  const ours = (family: Family, table: number | 'local', signal: AbortSignal) =>
    readRoutes(run, { family, table, protocol: names.routeProtocol }, signal)

  /** Our routes of a table, or none where a rule that leads to the table is missing. */
  async function observeTable(
    table: 'tunnel' | 'inner',
    family: Family,
    { hasRules, signal }: { readonly hasRules: () => Promise<boolean>; readonly signal: AbortSignal }
  ) {
    const found = await ours(family, tableName(table, names), signal)
    const own = found.filter((route) => isException(route.type) || route.device === names.device)
    return own.length > 0 && (await hasRules()) ? own : []
  }

  async function observeFamily(family: Family, signal: AbortSignal) {
    const asked = rules.has('tunnel', family, signal)
    const [rule, tunnel, inner, local] = await Promise.all([
      asked,
      observeTable('tunnel', family, { hasRules: () => asked, signal }),
      observeTable('inner', family, { hasRules: () => rules.has('inner', family, signal), signal }),
      ours(family, 'local', signal)
    ])
    return {
      routes: [...state(tunnel), ...state(inner).map((route) => ({ ...route, inner: true as const }))],
      vips: local.filter(
        ({ type, device }) => (type === 'throw' && rule) || (type === 'local' && device === 'lo')
      )
    }
  }

  async function localAddresses(signal: AbortSignal): Promise<ReadonlySet<Ip>> {
    return addressesOf(await readLinks(run, signal))
  }

  /** Returns the routes of other programs in the table and family of `entry`, by destination. */
  async function foreign(entry: TableRoute, signal: AbortSignal): Promise<ReadonlyMap<Cidr, KernelRoute>> {
    const family = familyOf(entry.route.destination)
    const existing = await readRoutes(run, { family, table: tableName(entry.table, names) }, signal)
    const others = existing.filter((route) => route.protocol !== protocol)
    return new Map(others.map((route) => [route.destination, route]))
  }

  /**
   * Prepares routes to be added: checks that no other program has a route to the same destination, and adds the rule
   * and the source addresses that are missing. Each check and each addition is made once for all routes. Returns the
   * routes that failed, each with its error; rejects if no further operation can succeed.
   */
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
        if (other !== undefined) throw taken(other, String(tableName(table, names)))
        // A `throw` in table local needs our rule, too: until the host has its first rule, the kernel holds the tables
        // local and main as one, and a `throw` would end the search in both.
        if (table === 'tunnel' || route.kind === 'throw')
          await once(`rule ${family}`, () => rules.ensure('tunnel', family, signal))
        if (table === 'inner')
          await once(`inner rules ${family}`, async () => {
            await rules.ensure('inner', family, signal)
            if (family === 4) await run('ip', numbered('replace', names), { signal })
          })
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

  /** Runs one command for all routes. `ip -force` goes on after a line that is refused, and prints its number. */
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
        routes: read
          .flatMap((family) => family.routes)
          .sort((a, b) => compareCidr(a.destination, b.destination)),
        vips: vipsOf(read.flatMap((family) => family.vips))
      }
    },

    async add(routes, signal) {
      const unprepared = await prepare(routes, signal)
      const ready = routes.filter((entry) => !unprepared.has(entry))
      return new Map([...unprepared, ...(await batch('replace', ready, signal))])
    },

    async remove(routes, signal) {
      const refused = await batch('delete', routes, signal)
      const inner = routes.filter(({ table }) => table === 'inner')
      for (const family of new Set(inner.map(({ route }) => familyOf(route.destination))))
        if ((await ours(family, names.innerTable, signal)).length === 0) {
          await rules.remove('inner', family, signal)
          // Exit code 2: the address or the device has gone.
          if (family === 4) await run('ip', numbered('delete', names), { signal, okCodes: [1, 2] })
        }
      return refused
    },

    async cleanup(signal) {
      for (const family of FAMILIES) {
        for (const table of [names.innerTable, names.routeTable, 'local'] as const) {
          if ((await ours(family, table, signal)).length === 0) continue
          const flush = [`-${family}`, 'route', 'flush', 'table', String(table), 'proto', protocol]
          await run('ip', flush, { signal })
        }
        for (const table of ['inner', 'tunnel'] as const) await rules.remove(table, family, signal)
      }
    }
  }
}

/** Returns the line for `ip -batch`. With `ip` in front of it, it is the command that a person would type. */
export function routeCommand(verb: 'replace' | 'delete', entry: TableRoute, names: HostNames): string {
  return `route ${verb} ${routeText(verb === 'delete' ? withoutMtu(entry) : entry, names)}`
}

/** Returns the arguments of `ip route replace` and `ip route delete`. */
function routeText({ table, route }: TableRoute, names: HostNames): string {
  const tail = `proto ${names.routeProtocol} table ${tableName(table, names)}`
  if (route.kind !== undefined) return `${route.kind} ${route.destination} ${tail}`
  const source = route.source === undefined ? '' : ` src ${route.source}`
  const mtu = 'mtu' in route && route.mtu !== undefined ? ` mtu ${route.mtu}` : ''
  const target =
    table === 'vip' ? `local ${route.destination} dev lo` : `${route.destination} dev ${names.device}`
  return `${target}${source}${mtu} ${tail}`
}

/** A deletion names no MTU: `ip` would find no route if the existing one has another MTU. */
function withoutMtu({ table, route }: TableRoute): TableRoute {
  const { destination, source, kind } = route
  return { table, route: { destination, source, ...(kind && { kind }) } }
}

/** Error texts of `ip` for a route that does not exist any more, or whose table or device does not exist any more. */
const GONE = /No such process|does not exist|Cannot find device/
const BATCH = ['-force', '-batch', '-'] as const

/**
 * Returns the error texts of `ip -force -batch` by the number of the refused line; the first line is 1. `ip` prints the
 * text first and then the line with the number.
 */
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

/** Returns a function that runs `act` once for each key, and gives its result or error to all later calls. */
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

/**
 * Returns the error as a HostError: IPV6_OFF for an IPv6 route if the text of `ip` is, for example, "Permission denied"
 * or "not supported", because then IPv6 is switched off or missing; otherwise the error as it is.
 */
function explained(error: unknown, family: Family): HostError {
  const known = error instanceof HostError ? error : ipFailed(String(error))
  const off = /IPv6 is disabled|Permission denied|not permitted|not supported|family/i.test(known.stderr)
  if (family === 4 || !off) return known
  return new HostError({
    code: 'IPV6_OFF',
    tool: 'ip',
    stderr: known.stderr,
    message: `IPv6 is switched off on this host (ip: ${known.stderr.split('\n')[0] ?? ''})`,
    fix: 'switch IPv6 on: sysctl -w net.ipv6.conf.all.disable_ipv6=0, and remove ipv6.disable=1 from the kernel command line; or give the cluster IPv4 prefixes only',
    cause: error
  })
}

/**
 * Returns the command for the link-local address of the device, with which a probe out of the inner table passes the
 * reverse path filter: on a device without an IPv4 address, loose mode drops each packet whose source the main table has
 * on another device (fib_validate_source in the kernel's net/ipv4/fib_frontend.c). Nothing is sent from it or to it.
 */
function numbered(verb: 'replace' | 'delete', { device }: Pick<HostNames, 'device'>): readonly string[] {
  return ['address', verb, '169.254.142.1/32', 'dev', device, ...(verb === 'delete' ? [] : ['scope', 'link'])]
}

function tableName(table: TableRoute['table'], names: HostNames): number | 'local' {
  return table === 'vip' ? 'local' : table === 'inner' ? names.innerTable : names.routeTable
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

/** Returns the kernel's routes as values of HostState, sorted by destination. */
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
    message: `table ${table} already has a route of another program to ${route.destination} (dev ${route.device}, proto ${route.protocol})`,
    fix: `find the program that added it, or delete it: ip route delete ${route.destination} table ${table}`
  })
}
