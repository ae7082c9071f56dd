// What this kernel can really do, found by doing it: `auto` chooses from it.
import { randomBytes } from 'node:crypto'
import { HostError } from '../errors.ts'
import { IPVS_MODULES } from './ipvs/ipvs.ts'
import type { Run } from '../ports.ts'

/**
 * nftables where it can translate addresses, else ipvs where kernel and tool have it, else undefined. nftables first: kube-proxy in IPVS
 * mode deletes every virtual server that is not its own, and in IPVS a client port that was used for a service and is then used for
 * a pod directly times out.
 */
export async function detectLoadBalancer(run: Run): Promise<'nftables' | 'ipvs' | undefined> {
  if (await canNft(run)) return 'nftables'
  return (await canIpvs(run)) ? 'ipvs' : undefined
}

/** Whether nftables can filter: some kernels have its module without any family. */
export function canNftFilter(run: Run): Promise<boolean> {
  return succeeds(run, 'nft', ['-c', '-f', '-'], `${trial('filter', 'input')}\n`)
}

/** Whether IPVS is in use or built in here, without loading it. */
export async function hasIpvs(run: Run): Promise<boolean> {
  return (await succeeds(run, 'cat', ['/proc/net/ip_vs'])) && succeeds(run, 'ipvsadm', ['--version'])
}

async function canIpvs(run: Run): Promise<boolean> {
  await succeeds(run, 'modprobe', ['-a', '-q', ...IPVS_MODULES])
  return succeeds(run, 'ipvsadm', ['-S', '-n'])
}

function canNft(run: Run): Promise<boolean> {
  return succeeds(run, 'nft', ['-c', '-f', '-'], `${trial('nat', 'prerouting')}\n`)
}

/** A table that is checked by the kernel (-c) and never made. */
function trial(type: string, hook: string): string {
  const name = `rhizome-trial-${randomBytes(4).toString('hex')}`
  return `table inet ${name} { chain c { type ${type} hook ${hook} priority -110; }; }`
}

async function succeeds(run: Run, tool: string, args: readonly string[], stdin?: string): Promise<boolean> {
  try {
    await run(tool, args, stdin === undefined ? {} : { stdin, stdinAsFile: true })
    return true
  } catch (error) {
    // Only an answer counts as "no": a deadline or a missing permission is told.
    if (error instanceof HostError && (error.code === 'TOOL_FAILED' || error.code === 'TOOL_MISSING'))
      return false
    throw error
  }
}
