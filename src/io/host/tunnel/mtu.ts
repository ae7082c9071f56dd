// The tunnel's MTU: that of the path less what the tunnel adds.
import { parseDefaultDevice } from '../tools/ip-json.ts'
import type { Run } from '../ports.ts'
import { findLink } from '../tools/ip.ts'

// The least that IPv6 asks of a link (RFC 8200, section 5).
const MTU_MIN = 1280
const ETHERNET_MTU = 1500

/** Bytes: the MTU of the default route's device less `overheadBytes`, at least 1280; 1500 − `overheadBytes` without a default route. */
export async function detectMtu(run: Run, overheadBytes: number): Promise<number> {
  for (const family of ['-4', '-6']) {
    const routes = await run('ip', [family, '-j', 'route', 'show', 'default'], { okCodes: [2] })
    const device = routes.exitCode === 0 ? parseDefaultDevice(routes.stdout) : undefined
    if (device === undefined) continue
    const link = await findLink(run, device)
    if (link !== undefined) return Math.max(link.mtu - overheadBytes, MTU_MIN)
  }
  return ETHERNET_MTU - overheadBytes
}
