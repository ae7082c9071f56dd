// The tunnel's MTU: that of the path less what WireGuard adds.
import { parseDefaultDevice } from '../tools/ip-json.ts'
import type { Run } from '../ports.ts'
import { findLink } from './wireguard/wireguard.ts'

// WireGuard over IPv6: 40 IPv6 + 8 UDP + 32 WireGuard.
const OVERHEAD_BYTES = 80
// The least that IPv6 asks of a link (RFC 8200, section 5).
const MTU_MIN = 1280
const ETHERNET_MTU = 1500

/** The MTU of the default route's device − 80, at least 1280; 1420 when there is no default route. */
export async function detectMtu(run: Run, signal?: AbortSignal): Promise<number> {
  const options = signal === undefined ? {} : { signal }
  for (const family of ['-4', '-6']) {
    const routes = await run('ip', [family, '-j', 'route', 'show', 'default'], { ...options, okCodes: [2] })
    const device = routes.exitCode === 0 ? parseDefaultDevice(routes.stdout) : undefined
    if (device === undefined) continue
    const link = await findLink(run, device, signal)
    if (link !== undefined) return Math.max(link.mtu - OVERHEAD_BYTES, MTU_MIN)
  }
  return ETHERNET_MTU - OVERHEAD_BYTES
}
