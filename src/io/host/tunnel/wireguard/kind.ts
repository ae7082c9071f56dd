// The row of WireGuard in the table of tunnels: the kernel's, or wireguard-go where the kernel has none.
import { readFile } from 'node:fs/promises'
import { release } from 'node:os'
import { fileExists } from '../../tools/file-exists.ts'
import type { TunnelKind } from '../kind.ts'
import { noTun, WIREGUARD_GO } from './wireguard-go.ts'
import { createWireguard } from './wireguard.ts'

export const WIREGUARD = {
  name: 'wireguard',
  // 40 IPv6 + 8 UDP + 32 WireGuard.
  overheadBytes: 80,
  async needs(implementation) {
    const isUserspace =
      implementation === 'userspace' || (implementation === 'auto' && !(await kernelHasWireguard()))
    if (!isUserspace) return { tools: ['wg'], faults: [] }
    const hasTun = await fileExists('/dev/net/tun')
    return { tools: ['wg', ...WIREGUARD_GO.tools], faults: hasTun ? [] : [noTun()] }
  },
  create: createWireguard
} as const satisfies TunnelKind

/** Loaded, built in, or a module that the kernel would load by itself. */
async function kernelHasWireguard(): Promise<boolean> {
  if (await fileExists('/sys/module/wireguard')) return true
  const folder = `/lib/modules/${release()}`
  const lists = await Promise.all(
    ['modules.dep', 'modules.builtin'].map((name) => readFile(`${folder}/${name}`, 'utf8').catch(() => ''))
  )
  return lists.some((text) => /\/wireguard\.ko/.test(text))
}
