// Which of a peer's addresses answers: tried side by side, each a little after the one before (as RFC 8305 has it), because libp2p
// tries them one after the other and a dead one costs it seconds.
import { connect, type Socket } from 'node:net'

// RFC 8305 has 250 ms between two people-facing attempts; these are agents with up to 16 addresses in one deadline.
const STAGGER_MS = 100

/** `addresses` with the one that answered first in front; as they were when none did within `deadlineMs`. Never rejects. */
export async function reachableFirst(
  addresses: readonly string[],
  options: { readonly deadlineMs: number; readonly signal: AbortSignal }
): Promise<readonly string[]> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const sockets: Socket[] = []
  const timers = addresses.map((address, index) =>
    setTimeout(() => {
      const where = hostPortOf(address)
      if (where === undefined) return
      const socket = connect(where)
      socket.on('error', () => undefined) // the others go on
      socket.once('connect', () => resolve(address))
      sockets.push(socket)
    }, index * STAGGER_MS)
  )
  const deadline = setTimeout(() => resolve(undefined), options.deadlineMs)
  const aborted = (): void => resolve(undefined)
  options.signal.addEventListener('abort', aborted, { once: true })
  const first = await promise
  options.signal.removeEventListener('abort', aborted)
  for (const timer of [...timers, deadline]) clearTimeout(timer)
  for (const socket of sockets) socket.destroy()
  return first === undefined ? addresses : [first, ...addresses.filter((address) => address !== first)]
}

/** Undefined: not a multiaddr of a host and a TCP port. */
export function hostPortOf(address: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^\/(?:ip4|ip6|dns|dns4|dns6)\/([^/]+)\/tcp\/(\d{1,5})(?:\/p2p\/[^/]+)?$/.exec(address)
  const port = Number(match?.[2])
  return match?.[1] === undefined || port < 1 || port > 65_535 ? undefined : { host: match[1], port }
}
