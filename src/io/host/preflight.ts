// Everything that would stop this edge on this machine, found without changing anything: for `doctor` and plan-only mode.
import { constants } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { HostError } from './errors.ts'
import { loadBalancerKind, type LoadBalancerName } from './load-balancer/registry.ts'
import { fileExists } from './tools/file-exists.ts'
import { missing, ROOT_FIX, toolEnvironment } from './tools/run.ts'
import type { TunnelKind } from './tunnel/kind.ts'
import type { Implementation } from './tunnel/port.ts'

const CAP_NET_ADMIN = 12n

/** Every reason at once, the gravest first; empty = fine. Changes nothing. */
export async function preflightHost(
  tunnel: { readonly kind: TunnelKind; readonly implementation: Implementation },
  loadBalancer: 'auto' | LoadBalancerName
): Promise<readonly HostError[]> {
  if (process.platform !== 'linux') {
    return [
      new HostError({
        code: 'NOT_LINUX',
        message: `this system is ${process.platform}; the host edge needs Linux`,
        fix: 'run the agent on Linux, or in plan-only mode'
      })
    ]
  }
  const errors: HostError[] = []
  if (!(await hasNetAdmin())) {
    errors.push(
      new HostError({
        code: 'NOT_ROOT',
        message: 'no permission to change the network of this host',
        fix: ROOT_FIX
      })
    )
  }
  const { tools: tunnelTools, faults } = await tunnel.kind.needs(tunnel.implementation)
  errors.push(...faults)
  // The filter needs nft with every kind of load balancer.
  const tools = new Set(['ip', ...tunnelTools, 'nft', ...(loadBalancerKind(loadBalancer)?.tools ?? [])])
  for (const tool of tools) if (!(await onPath(tool))) errors.push(missing(tool))
  return errors
}

async function hasNetAdmin(): Promise<boolean> {
  const status = await readFile('/proc/self/status', 'utf8')
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'
  return ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) === 1n
}

async function onPath(tool: string): Promise<boolean> {
  const folders = (toolEnvironment()['PATH'] ?? '').split(':').filter((folder) => folder !== '')
  const found = await Promise.all(folders.map((folder) => fileExists(`${folder}/${tool}`, constants.X_OK)))
  return found.includes(true)
}
