import { networkInterfaces } from 'node:os'

let last: ReadonlySet<string> = new Set()

/** Of all interfaces of this host, now. Where the kernel does not say (no free descriptor), what it said before. */
export function ownAddresses(): ReadonlySet<string> {
  try {
    last = new Set(
      Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address))
    )
  } catch {
    // Node throws ERR_SYSTEM_ERROR.
  }
  return last
}
