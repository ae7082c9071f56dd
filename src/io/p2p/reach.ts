// Finds the address of a peer that answers first. TCP connections to all addresses are tried side by side, each a
// little after the one before (Happy Eyeballs, RFC 8305). libp2p tries one after the other, and each address that does
// not answer costs it seconds. The transport calls this only after an attempt has failed; the connections here are
// closed again, and libp2p then dials.
import { connect, type Socket } from 'node:net'

// RFC 8305 recommends 250 ms between two attempts. Here up to 16 addresses must be tried within one deadline
// (addressDialMs).
const STAGGER_MS = 100

/** Linux repeats a SYN after 1 s, so an attempt that ends before is one packet. */
export const ONE_SYN_MS = 900

/**
 * Returns the multiaddrs with the first one that answered in front; unchanged when none answered within `deadlineMs` or
 * the signal was aborted. Never rejects.
 */
export async function reachableFirst(
  addresses: readonly string[],
  options: { readonly deadlineMs: number; readonly signal: AbortSignal }
): Promise<readonly string[]> {
  const first = await firstReachable(addresses, { ...options, attemptMs: options.deadlineMs })
  return first === undefined ? addresses : [first, ...addresses.filter((address) => address !== first)]
}

/**
 * Returns the multiaddr that answered first; undefined when none did within `deadlineMs`, or the signal was aborted. The
 * attempt at each address ends after `attemptMs`. Never rejects.
 */
export async function firstReachable(
  addresses: readonly string[],
  options: { readonly deadlineMs: number; readonly attemptMs: number; readonly signal: AbortSignal }
): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  const sockets: Socket[] = []
  const timers = addresses.map((address, index) =>
    setTimeout(() => {
      const where = hostPortOf(address)
      if (where === undefined) return
      const socket = connect(where)
      socket.on('error', () => undefined) // this address does not answer; the attempts at the others continue
      socket.once('connect', () => resolve(address))
      sockets.push(socket)
      // After a busy moment the timers run before the answers that have arrived meanwhile, so those get a turn.
      timers.push(setTimeout(() => setImmediate(() => socket.destroy()), options.attemptMs))
    }, index * STAGGER_MS)
  )
  const deadline = setTimeout(() => setImmediate(() => resolve(undefined)), options.deadlineMs)
  const aborted = (): void => resolve(undefined)
  options.signal.addEventListener('abort', aborted, { once: true })
  const first = await promise
  options.signal.removeEventListener('abort', aborted)
  for (const timer of [...timers, deadline]) clearTimeout(timer)
  for (const socket of sockets) socket.destroy()
  return first
}

/** Returns the milliseconds that `firstReachable` needs for this number of addresses with one SYN each. */
export function oneSynDeadlineMs(addresses: number): number {
  return ONE_SYN_MS + addresses * STAGGER_MS
}

/** Returns host (IP address or DNS name) and port; undefined when the text is no multiaddr of a host and a TCP port. */
export function hostPortOf(address: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^\/(?:ip4|ip6|dns|dns4|dns6)\/([^/]+)\/tcp\/(\d{1,5})(?:\/p2p\/[^/]+)?$/.exec(address)
  const port = Number(match?.[2])
  return match?.[1] === undefined || port < 1 || port > 65_535 ? undefined : { host: match[1], port }
}
