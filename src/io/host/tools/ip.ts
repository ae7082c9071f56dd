// Questions to `ip` (ip-link(8), ip-address(8)) and changes by it that the tunnel, the routes and the MTU share.
import type { Ip } from '../../../core/model/values.ts'
import { HostError } from '../errors.ts'
import type { Run } from '../ports.ts'
import { runCommand, type Command } from './command.ts'
import { parseLink, type Link } from './ip-json.ts'

/** Returns the device of this name; undefined if the host has none. Errors: TOOL_FAILED and those of `run`. */
export async function findLink(run: Run, device: string, signal?: AbortSignal): Promise<Link | undefined> {
  const result = await run('ip', ['-j', '-d', 'link', 'show', 'dev', device], {
    // `ip` ends with 1 for a missing device, and the text tells it from other failures.
    okCodes: [1],
    ...(signal === undefined ? {} : { signal })
  })
  if (result.exitCode === 0) return parseLink(result.stdout)
  if (/does not exist/.test(result.stderr)) return undefined
  throw new HostError({
    code: 'TOOL_FAILED',
    tool: 'ip',
    stderr: result.stderr,
    message: `ip failed: ${result.stderr}`
  })
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
