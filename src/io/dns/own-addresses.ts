// This host's addresses, for the decisions whether a client or an upstream is this host itself (access.ts,
// upstreams.ts).
import { networkInterfaces } from 'node:os'

/** The last result that the kernel gave; shared by all callers in this process. */
let last: ReadonlySet<string> = new Set()

/**
 * Returns the addresses of all interfaces of this host, IPv6 without a zone. If the kernel cannot be asked (no free
 * descriptor), the previous result is returned. Asks the kernel on each call; callers that are asked often keep the
 * result.
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
