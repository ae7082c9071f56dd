// Everything that would stop this edge on this machine, found without changing anything: for `doctor` and plan-only mode.
import { constants } from 'node:fs'
import { access, readFile } from 'node:fs/promises'
import { release } from 'node:os'
import { HostError } from './errors.ts'
import { loadBalancerKind, type LoadBalancerName } from './load-balancer/registry.ts'
import { missing, ROOT_FIX, toolEnvironment } from './tools/run.ts'
import { noTun } from './tunnel/wireguard/wireguard.ts'

const CAP_NET_ADMIN = 12n

/** Every reason at once, the gravest first; empty = fine. Changes nothing. */
export async function preflightHost(
  implementation: 'auto' | 'kernel' | 'userspace',
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
  const userspace =
    implementation === 'userspace' || (implementation === 'auto' && !(await kernelHasWireguard()))
  if (userspace && !(await exists('/dev/net/tun'))) errors.push(noTun())
  // The filter needs nft, whatever balances.
  const tools = new Set([
    'ip',
    'wg',
    ...(userspace ? ['wireguard-go'] : []),
    'nft',
    ...(loadBalancerKind(loadBalancer)?.tools ?? [])
  ])
  for (const tool of tools) if (!(await onPath(tool))) errors.push(missing(tool))
  return errors
}

async function hasNetAdmin(): Promise<boolean> {
  const status = await readFile('/proc/self/status', 'utf8')
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'
  return ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) === 1n
}

/** Loaded, built in, or a module that the kernel would load by itself. */
async function kernelHasWireguard(): Promise<boolean> {
  if (await exists('/sys/module/wireguard')) return true
  const folder = `/lib/modules/${release()}`
  const lists = await Promise.all(
    ['modules.dep', 'modules.builtin'].map((name) => readFile(`${folder}/${name}`, 'utf8').catch(() => ''))
  )
  return lists.some((text) => /\/wireguard\.ko/.test(text))
}

async function onPath(tool: string): Promise<boolean> {
  const folders = (toolEnvironment()['PATH'] ?? '').split(':').filter((folder) => folder !== '')
  const found = await Promise.all(folders.map((folder) => exists(`${folder}/${tool}`, constants.X_OK)))
  return found.includes(true)
}

async function exists(path: string, mode = constants.F_OK): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false
  )
}
