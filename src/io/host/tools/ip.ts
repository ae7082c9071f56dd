// Questions to the kernel that the tunnel, the routes and the MTU share, each by netlink where that works (kernel/reads.ts)
// and else by `ip` (ip-link(8), ip-address(8), ip-route(8), ip-rule(8)); and changes by `ip`.
import type { Ip } from '../../../core/model/values.ts'
import { HostError } from '../errors.ts'
import type { Run } from '../ports.ts'
import { runCommand, type Command } from './command.ts'
import {
  parseLink,
  parseLinks,
  parseRoutes,
  parseRules,
  type KernelRoute,
  type Link,
  type LinkWithAddresses,
  type Rule
} from './ip-json.ts'

/** What readRoutes lists: the routes of one table and one family. */
interface RoutesQuestion {
  readonly family: 4 | 6
  readonly table: number | keyof typeof NAMED_TABLES
  readonly protocol?: number
}

// RT_TABLE_MAIN and RT_TABLE_LOCAL (linux/rtnetlink.h).
const NAMED_TABLES = { main: 254, local: 255 } as const

/** Returns the device of this name; undefined if the host has none. Errors: TOOL_FAILED and those of `run`. */
export async function findLink(run: Run, device: string, signal?: AbortSignal): Promise<Link | undefined> {
  const known = await run.kernel?.link(device)
  if (known !== undefined) return known === 'none' ? undefined : known
  const result = await run('ip', ['-j', '-d', 'link', 'show', 'dev', device], {
    // `ip` ends with 1 for a missing device, and the text tells it from other failures.
    okCodes: [1],
    ...(signal === undefined ? {} : { signal })
  })
  if (result.exitCode === 0) return parseLink(result.stdout)
  if (/does not exist/.test(result.stderr)) return undefined
  throw ipFailed(result.stderr)
}

/** Returns all devices with their addresses. Errors: TOOL_FAILED and those of `run`. */
export async function readLinks(run: Run, signal: AbortSignal): Promise<readonly LinkWithAddresses[]> {
  return (
    (await run.kernel?.links()) ??
    parseLinks((await run('ip', ['-d', '-j', 'address', 'show'], { signal })).stdout)
  )
}

/**
 * Returns the routes of a table, those of one protocol where a protocol is given. Empty while the table does not exist,
 * which it does from its first route on, and where the host has no IPv6. Errors: TOOL_FAILED and those of `run`.
 */
export async function readRoutes(
  run: Run,
  { family, table, protocol }: RoutesQuestion,
  signal?: AbortSignal
): Promise<readonly KernelRoute[]> {
  const number = typeof table === 'number' ? table : NAMED_TABLES[table]
  const known = await run.kernel?.routes({ family, table: number, protocol })
  if (known !== undefined) return known
  const filter = protocol === undefined ? [] : ['proto', String(protocol)]
  const args = [`-${family}`, '-N', '-j', 'route', 'show', 'table', String(table), ...filter]
  const { exitCode, stdout, stderr } = await run('ip', args, {
    okCodes: [2],
    ...(signal === undefined ? {} : { signal })
  })
  if (exitCode === 0) return parseRoutes(stdout, family)
  if (/does not exist|not supported/.test(stderr)) return []
  throw ipFailed(stderr)
}

/** Returns all rules of a family. Empty where the host does not have the family. Errors: those of `run`. */
export async function readRules(run: Run, family: 4 | 6, signal: AbortSignal): Promise<readonly Rule[]> {
  const known = await run.kernel?.rules(family)
  if (known !== undefined) return known
  // `-N` makes `ip` print numbers for table, protocol and transport, because a host may have its own names for them.
  const result = await run('ip', [`-${family}`, '-N', '-j', 'rule', 'show'], { signal, okCodes: [2] })
  return result.exitCode === 0 ? parseRules(result.stdout) : []
}

/** Returns the error TOOL_FAILED with what `ip` said. */
export function ipFailed(stderr: string): HostError {
  const text = stderr.trim().slice(0, 2_000)
  return new HostError({ code: 'TOOL_FAILED', tool: 'ip', stderr: text, message: `ip failed: ${text}` })
}

/** Removes a device, and with it its addresses, peers and routes. */
export function removeLinkCommand(device: string): Command {
  return { tool: 'ip', args: ['link', 'delete', 'dev', device] }
}

/** Gives the device the address as /32 or /128. IPv6 gets `nodad`: a check for duplicates would delay its use. */
export function addressCommand(device: string, address: Ip): Command {
  const isIpv6 = address.includes(':')
  const cidr = `${address}/${isIpv6 ? 128 : 32}`
  return {
    tool: 'ip',
    args: ['address', 'replace', cidr, 'dev', device, ...(isIpv6 ? ['nodad'] : [])]
  }
}

/** Runs addressCommand(). Idempotent. Errors: those of `run`. */
export async function addAddress(run: Run, device: string, address: Ip, signal: AbortSignal): Promise<void> {
  await runCommand(run, addressCommand(device, address), { signal })
}
