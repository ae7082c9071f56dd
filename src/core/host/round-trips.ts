// The summary of a series of round trips, as `ping` of iputils prints it.
// Laws (tested as properties): min ≤ avg ≤ max; mdev is 0 for equal values and at most half of max − min; the order of the
// packets does not matter.

/** Milliseconds. `mdev` is the standard deviation of the population, as in iputils. */
interface RoundTrips {
  readonly min: number
  readonly avg: number
  readonly max: number
  readonly mdev: number
}

/** Summarises the packets that were answered; undefined: none was. */
export function roundTrips(rttsMs: readonly (number | undefined)[]): RoundTrips | undefined {
  const known = rttsMs.filter((rtt) => rtt !== undefined)
  if (known.length === 0) return undefined
  const min = Math.min(...known)
  const max = Math.max(...known)
  // Rounding could put the mean of equal values beside them.
  const avg = Math.min(max, Math.max(min, known.reduce((sum, rtt) => sum + rtt, 0) / known.length))
  // The two-pass formula: the difference of the mean of squares and the square of the mean loses all digits where the
  // values are close to each other.
  const variance = known.reduce((sum, rtt) => sum + (rtt - avg) ** 2, 0) / known.length
  return { min, avg, max, mdev: Math.min((max - min) / 2, Math.sqrt(variance)) }
}
