// The agent uses two clocks. Certificates and logs need the time of day, `Date.now()`. Timeouts and ages need a
// monotonic clock, which cannot be set: a time of day that jumps by a year must not make every neighbour look dead.

/** Returns monotonic milliseconds. Values can be compared only within this process. */
export function monotonicMs(): number {
  return performance.now()
}
