// The row of WireGuard in the table of tunnels (registry.ts). The implementation is that of the kernel, or wireguard-go
// where the kernel has none.
import { readFile } from 'node:fs/promises'
import { release } from 'node:os'
import { fileExists } from '../../tools/file-exists.ts'
import type { TunnelKind } from '../kind.ts'
import { noTun, WIREGUARD_GO } from './wireguard-go.ts'
import { createWireguard } from './wireguard.ts'

/** WireGuard as a kind of tunnel. See TunnelKind for the fields. */
export const WIREGUARD = {
  name: 'wireguard',
  // Bytes: 40 of IPv6, 8 of UDP, 32 of WireGuard (16 before the data, 16 of authentication tag after it).
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

/** Returns whether WireGuard is loaded, built in, or a module that the kernel loads when a device is made. */
async function kernelHasWireguard(): Promise<boolean> {
  if (await fileExists('/sys/module/wireguard')) return true
  const folder = `/lib/modules/${release()}`
  const lists = await Promise.all(
    ['modules.dep', 'modules.builtin'].map((name) => readFile(`${folder}/${name}`, 'utf8').catch(() => ''))
  )
  return lists.some((text) => /\/wireguard\.ko/.test(text))
}
