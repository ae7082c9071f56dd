// Kernel settings of this network namespace. The value before our first change is on disk before we change it.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Sysctl } from '../../core/host.ts'
import { HostError } from './errors.ts'
import type { HostMemory } from './memory.ts'
import { ROOT_FIX } from './run.ts'

export interface Sysctls {
  /** Those that we ever set, with the values they have now, in name order. */
  observe(): Promise<readonly Sysctl[]>
  set(sysctl: Sysctl): Promise<void>
  /** Puts the recorded values back. One whose interface has gone went with it. */
  restore(): Promise<void>
}

export function createSysctls(memory: HostMemory, root = '/proc/sys'): Sysctls {
  return {
    async observe() {
      const names = [...memory.sysctls.keys()].sort()
      const found = await Promise.all(names.map(async (name) => ({ name, value: await read(root, name) })))
      return found.flatMap(({ name, value }) => (value === undefined ? [] : [{ name, value }]))
    },
    async set({ name, value }) {
      const prior = await read(root, name)
      if (prior === undefined) throw unknownName(name)
      await memory.rememberSysctl(name, prior)
      if (prior !== value) await write(root, name, value)
    },
    async restore() {
      for (const [name, value] of memory.sysctls) {
        const now = await read(root, name)
        if (now !== undefined && now !== value) await write(root, name, value)
      }
    }
  }
}

async function read(root: string, name: string): Promise<string | undefined> {
  const path = pathOf(root, name)
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw new HostError({
      code: 'SYSCTL_FAILED',
      message: `cannot read the sysctl ${name}`,
      fix: ROOT_FIX,
      cause: error
    })
  }
}

async function write(root: string, name: string, value: string): Promise<void> {
  const path = pathOf(root, name)
  try {
    await writeFile(path, value)
  } catch (cause) {
    throw new HostError({
      code: 'SYSCTL_FAILED',
      message: `cannot set the sysctl ${name} to ${value}`,
      fix: `${ROOT_FIX}; in a container /proc/sys must be writable (privileged), or set it on the host: sysctl -w ${name}=${value}`,
      cause
    })
  }
}

/** As sysctl(8) has it: a name may use "/" for the separator, then "." is an ordinary character ("net/ipv4/conf/a.b/rp_filter"). */
function pathOf(root: string, name: string): string {
  const slashed = name.includes('/') ? name : name.replaceAll('.', '/')
  const valid = /^[a-z0-9_][a-z0-9_.:@-]*(\/[a-z0-9_][a-z0-9_.:@-]*)+$/i.test(slashed)
  if (!valid) throw new Error(`not a sysctl name: ${JSON.stringify(name)}`)
  return join(root, slashed)
}

function unknownName(name: string): HostError {
  return new HostError({
    code: 'SYSCTL_FAILED',
    message: `this kernel has no sysctl ${name}`,
    fix: name.startsWith('net.ipv4.vs.')
      ? 'load the kernel module ip_vs'
      : 'load the kernel module that it belongs to'
  })
}
