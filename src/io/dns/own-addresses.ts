import { networkInterfaces } from 'node:os'

let last: ReadonlySet<string> = new Set()

/**
 * Returns the addresses of all interfaces of this host. If the kernel cannot be asked (no free descriptor), the previous result is
 * returned.
 */
export function ownAddresses(): ReadonlySet<string> {
  try {
    last = new Set(
      Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address))
    )
  } catch {
    // Node throws ERR_SYSTEM_ERROR when no descriptor is free.
  }
  return last
}
