// Finds everything that would keep src/io/host from working on this machine, without changing anything. start() throws
// the gravest error. src/app/host/data-plane.ts calls it before start() and runs the agent without a data plane where
// the setting dataplane allows that.
import { constants } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { HostError } from './errors.ts'
import { loadBalancerKind, type LoadBalancerName } from './load-balancer/registry.ts'
import { fileExists } from './tools/file-exists.ts'
import { missing, ROOT_FIX, toolEnvironment } from './tools/run.ts'
import type { TunnelKind } from './tunnel/kind.ts'
import type { Implementation } from './tunnel/port.ts'

// Number of the bit in the set of capabilities (capabilities(7), linux/capability.h).
const CAP_NET_ADMIN = 12n

/**
 * Returns every reason at once, the gravest first; an empty list means that the host can start. Codes: NOT_LINUX (then
 * nothing else is checked), NOT_ROOT, NO_TUN, TOOL_MISSING. With `auto`, the tools of the load balancers are not
 * checked, because detection tries them.
 */
export async function preflightHost(
  tunnel: { readonly kind: TunnelKind; readonly implementation: Implementation },
  loadBalancer: 'auto' | LoadBalancerName
): Promise<readonly HostError[]> {
  if (process.platform !== 'linux') {
    return [
      new HostError({
        code: 'NOT_LINUX',
        message: `this system is ${process.platform}, and the agent changes the network of Linux hosts only`,
        fix: 'run the agent on Linux, or in plan-only mode'
      })
    ]
  }
  const errors: HostError[] = []
  if (!(await hasNetAdmin())) {
    errors.push(
      new HostError({
        code: 'NOT_ROOT',
        message: 'the agent has no permission to change the network of this host',
        fix: ROOT_FIX
      })
    )
  }
  const { tools: tunnelTools, faults } = await tunnel.kind.needs(tunnel.implementation)
  errors.push(...faults)
  // The packet filter needs nft, whichever load balancer is chosen.
  const tools = new Set(['ip', ...tunnelTools, 'nft', ...(loadBalancerKind(loadBalancer)?.tools ?? [])])
  for (const tool of tools) if (!(await onPath(tool))) errors.push(missing(tool))
  return errors
}

/** Reads the effective capabilities of this process, because an agent without root can have them, too. */
async function hasNetAdmin(): Promise<boolean> {
  const status = await readFile('/proc/self/status', 'utf8')
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'
  return ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) === 1n
}

/** Returns whether a folder of the PATH that tools get, which includes /usr/sbin and /sbin, has this executable. */
async function onPath(tool: string): Promise<boolean> {
  const folders = (toolEnvironment()['PATH'] ?? '').split(':').filter((folder) => folder !== '')
  const found = await Promise.all(folders.map((folder) => fileExists(`${folder}/${tool}`, constants.X_OK)))
  return found.includes(true)
}
