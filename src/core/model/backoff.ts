// The wait before a failed action is tried again: exponential backoff and jitter as pure functions. Redials of libp2p
// connections, pulls of the replication protocol, operations on the host and requests to the Kubernetes API use them.

/** The shortest and the longest wait, in milliseconds; minMs ≤ maxMs. */
export interface BackoffBounds {
  readonly minMs: number
  readonly maxMs: number
}

/**
 * The wait in milliseconds after this many earlier failures in a row: minMs after none, twice as much after each, at
 * most maxMs.
 */
export function backoffMs(failures: number, { minMs, maxMs }: BackoffBounds): number {
  // The exponent is bounded so that the power stays a finite number after thousands of failures.
  return Math.min(maxMs, minMs * 2 ** Math.min(failures, 30))
}

/**
 * A random wait between half of `ms` and `ms`, so that agents which lost the same peer at one moment do not return at
 * one moment. `random` returns a number in [0, 1).
 */
export function jittered(ms: number, random: () => number): number {
  // The fixed half prevents a busy loop: without it, an error that comes at once could be followed by a wait of 0 ms.
  return ms / 2 + (ms / 2) * random()
}
