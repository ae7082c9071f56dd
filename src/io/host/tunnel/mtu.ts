// Finds the MTU of the tunnel device: the MTU of the path less the bytes that the tunnel adds to each packet. The path
// is assumed to have the MTU of the device of the default route. src/app/host/tunnel-mtu.ts calls it at the start and
// again while the agent runs, because that MTU can change.
import { defaultDevice } from '../tools/ip-json.ts'
import type { Run } from '../ports.ts'
import { findLink, readRoutes } from '../tools/ip.ts'

// Bytes: the smallest MTU that IPv6 allows for a link (RFC 8200, section 5).
const MTU_MIN = 1280
const ETHERNET_MTU = 1500

/**
 * Returns bytes: the MTU of the device of the default route (IPv4 first, then IPv6) less `overheadBytes`, at least
 * 1280. Without a default route it is 1500 − `overheadBytes`. Errors: HostError of `ip`.
 */
export async function detectMtu(run: Run, overheadBytes: number): Promise<number> {
  for (const family of [4, 6] as const) {
    const device = defaultDevice(await readRoutes(run, { family, table: 'main' }))
    if (device === undefined) continue
    const link = await findLink(run, device)
    if (link !== undefined) return Math.max(link.mtu - overheadBytes, MTU_MIN)
  }
  return ETHERNET_MTU - overheadBytes
}
