// Kernel settings of this network namespace. The value before our first change is on disk before we change it.
// Invariant: IPv6 forwarding is switched on by us only after every uplink with accept_ra=1 has accept_ra=2, and counts as set only while
// that holds. So a link that comes later is seen by the next look, and the same operation repairs it.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf } from '../../../core/model/coded-error.ts'
import type { Sysctl } from '../../../core/host/host-state.ts'
import { HostError } from '../errors.ts'
import type { HostMemory } from './memory.ts'
import { ROOT_FIX } from './run.ts'

export interface Sysctls {
  /** Those that we ever set, with the values they have now, in name order. */
  observe(): Promise<readonly Sysctl[]>
  set(sysctl: Sysctl): Promise<void>
  /** Puts the recorded values back. One whose interface has gone went with it. */
  restore(): Promise<void>
}

export interface SysctlOptions {
  /** Default /proc/sys. */
  readonly root?: string | undefined
  /** Links that may take a default route from router advertisements. Left out: none. */
  readonly uplinks?: () => Promise<readonly string[]>
}

export function createSysctls(memory: HostMemory, options: SysctlOptions = {}): Sysctls {
  const { root = '/proc/sys', uplinks = async () => [] } = options

  /** Uplinks that would lose, or never get, their default route by forwarding. */
  async function unprepared(): Promise<readonly string[]> {
    const names = (await uplinks()).map(acceptRa)
    const found = await Promise.all(names.map(async (name) => ({ name, value: await read(root, name) })))
    return found.flatMap(({ name, value }) => (value === '1' ? [name] : []))
  }

  /** Whether forwarding is on because of us. */
  const isOurs = () => (memory.sysctls.get(FORWARDING_6) ?? '1') !== '1'

  async function put(name: string, value: string): Promise<void> {
    const prior = await read(root, name)
    if (prior === undefined) throw unknownName(name)
    await memory.rememberSysctl(name, prior)
    if (prior !== value) await write(root, name, value)
  }

  return {
    async observe() {
      const lacksUplink = isOurs() && (await unprepared()).length > 0
      const names = [...memory.sysctls.keys()].sort()
      const found = await Promise.all(names.map(async (name) => ({ name, value: await read(root, name) })))
      return found.flatMap(({ name, value }) => {
        const isMissing = value === undefined || (name === FORWARDING_6 && lacksUplink)
        return isMissing ? [] : [{ name, value }]
      })
    },
    async set({ name, value }) {
      if (name === FORWARDING_6 && value === '1' && (isOurs() || (await read(root, name)) !== '1'))
        for (const uplink of await unprepared()) await put(uplink, '2')
      await put(name, value)
    },
    async restore() {
      // Forwarding first: with it, accept_ra=1 would remove the default route that we kept.
      const first = [...memory.sysctls].filter(([name]) => name === FORWARDING_6)
      for (const [name, value] of [...first, ...memory.sysctls]) {
        const now = await read(root, name)
        if (now !== undefined && now !== value) await write(root, name, value)
      }
    }
  }
}

const FORWARDING_6 = 'net.ipv6.conf.all.forwarding'

function acceptRa(link: string): string {
  return `net/ipv6/conf/${link}/accept_ra`
}

async function read(root: string, name: string): Promise<string | undefined> {
  const path = sysctlPath(name, root)
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw new HostError({
      code: 'SYSCTL_FAILED',
      message: `cannot read the sysctl ${name}`,
      fix: ROOT_FIX,
      cause: error
    })
  }
}

async function write(root: string, name: string, value: string): Promise<void> {
  const path = sysctlPath(name, root)
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
export function sysctlPath(name: string, root = '/proc/sys'): string {
  const slashed = name.includes('/') ? name : name.replaceAll('.', '/')
  const valid = /^[a-z0-9_][a-z0-9_.:@-]*(\/[a-z0-9_][a-z0-9_.:@-]*)+$/i.test(slashed)
  if (!valid) throw new Error(`not a sysctl name: ${JSON.stringify(name)}`)
  return join(root, slashed)
}

function unknownName(name: string): HostError {
  if (/^net[./]ipv6[./]/.test(name))
    return new HostError({
      code: 'IPV6_OFF',
      message: `IPv6 is not in this kernel: it has no setting ${name}`,
      fix: 'start the kernel without ipv6.disable=1, or give the clusters IPv4 prefixes only'
    })
  return new HostError({
    code: 'SYSCTL_FAILED',
    message: `this kernel has no sysctl ${name}`,
    fix: name.startsWith('net.ipv4.vs.')
      ? 'load the kernel module ip_vs'
      : 'load the kernel module that it belongs to'
  })
}
