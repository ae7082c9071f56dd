// Questions to `ip` and changes by it that several parts of the host share.
import type { Ip } from '../../../core/model/values.ts'
import { HostError } from '../errors.ts'
import type { Run } from '../ports.ts'
import { runCommand, type Command } from './command.ts'
import { parseLink, type Link } from './ip-json.ts'

/** undefined: the host has no such device. Errors: TOOL_FAILED and those of `run`. */
export async function findLink(run: Run, device: string, signal?: AbortSignal): Promise<Link | undefined> {
  const result = await run('ip', ['-j', '-d', 'link', 'show', 'dev', device], {
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

export function removeLinkCommand(device: string): Command {
  return { tool: 'ip', args: ['link', 'delete', 'dev', device] }
}

/** As /32 or /128. */
export function addressCommand(device: string, address: Ip): Command {
  const isIpv6 = address.includes(':')
  const cidr = `${address}/${isIpv6 ? 128 : 32}`
  return {
    tool: 'ip',
    args: ['address', 'replace', cidr, 'dev', device, ...(isIpv6 ? ['nodad'] : [])]
  }
}

export async function addAddress(run: Run, device: string, address: Ip, signal: AbortSignal): Promise<void> {
  await runCommand(run, addressCommand(device, address), { signal })
}
