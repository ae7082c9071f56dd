// Reads and sets kernel parameters of this network namespace below /proc/sys (sysctl(8)). The value before our first
// change is on disk before the change (memory.ts), and cleanup restores it.
// Invariant: this agent switches IPv6 forwarding on only after it has changed accept_ra=1 to accept_ra=2 on every
// uplink. If a later uplink has accept_ra=1, `observe` reports forwarding as not set, so that the next pass sets it
// again and changes the new uplink (docs/decisions/0031-ipv6-forwarding-and-accept-ra.md; the kernel's
// Documentation/networking/ip-sysctl.rst).
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf } from '../../../core/model/coded-error.ts'
import type { Sysctl } from '../../../core/host/host-state.ts'
import { HostError } from '../errors.ts'
import type { HostMemory } from './memory.ts'
import { ROOT_FIX } from './run.ts'

/** The sysctls that this agent sets. Errors: HostError; SYSCTL_FAILED, IPV6_OFF. */
export interface Sysctls {
  /** Returns all sysctls that this agent has ever set on this host, with their present values, sorted by name. */
  observe(): Promise<readonly Sysctl[]>
  /** Records the earlier value, then writes the new one. IPV6_OFF: the kernel has no IPv6. */
  set(sysctl: Sysctl): Promise<void>
  /** Writes the recorded values back. A sysctl whose interface has gone is left out. */
  restore(): Promise<void>
}

/** Options of createSysctls(). */
interface SysctlOptions {
  /** Folder of the sysctls. Default /proc/sys. */
  readonly root?: string | undefined
  /** Returns the links that may take a default route from router advertisements. Default: none. */
  readonly uplinks?: () => Promise<readonly string[]>
}

/** Returns the sysctls of this host. `memory` has the earlier values. */
export function createSysctls(memory: HostMemory, options: SysctlOptions = {}): Sysctls {
  const { root = '/proc/sys', uplinks = async () => [] } = options

  /**
   * Returns the names of accept_ra of the uplinks where it is 1. While forwarding is on, such an uplink loses its IPv6
   * default route or never gets one.
   */
  async function unprepared(): Promise<readonly string[]> {
    const names = (await uplinks()).map(acceptRa)
    const found = await Promise.all(names.map(async (name) => ({ name, value: await read(root, name) })))
    return found.flatMap(({ name, value }) => (value === '1' ? [name] : []))
  }

  /** Returns whether this agent switched IPv6 forwarding on: the record has its earlier value, which was not 1. */
  const isOurs = () => (memory.sysctls.get(FORWARDING_6) ?? '1') !== '1'

  /** Sets one parameter, after its earlier value was written to disk. */
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
      // Forwarding is restored first: while it is on, accept_ra=1 would remove the default route that was kept.
      const first = [...memory.sysctls].filter(([name]) => name === FORWARDING_6)
      for (const [name, value] of [...first, ...memory.sysctls]) {
        const now = await read(root, name)
        if (now !== undefined && now !== value) await write(root, name, value)
      }
    }
  }
}

const FORWARDING_6 = 'net.ipv6.conf.all.forwarding'

/** Returns the name of the parameter, with "/" as the separator, because the name of a link may have dots. */
function acceptRa(link: string): string {
  return `net/ipv6/conf/${link}/accept_ra`
}

/** Returns the value of a parameter; undefined if the kernel does not have the parameter. Errors: SYSCTL_FAILED. */
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
      fix: `${ROOT_FIX}; in a container make /proc/sys writable (privileged), or run this command on the host: sysctl -w ${name}=${value}`,
      cause
    })
  }
}

/**
 * Returns the file of a parameter. As in sysctl(8), a name may have "/" as the separator, and "." is then an ordinary
 * character ("net/ipv4/conf/a.b/rp_filter"). Throws an Error for another name, so that no path leaves the folder.
 */
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
      message: `this kernel has no IPv6, so the sysctl ${name} does not exist`,
      fix: 'start the kernel without ipv6.disable=1, or give the clusters IPv4 prefixes only'
    })
  return new HostError({
    code: 'SYSCTL_FAILED',
    message: `this kernel has no sysctl ${name}`,
    fix: name.startsWith('net.ipv4.vs.')
      ? 'load the kernel module ip_vs'
      : 'load the kernel module that provides it'
  })
}
