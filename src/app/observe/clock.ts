// Two clocks. Certificates and logs need the time of day, `Date.now()`. Whatever is measured, silence, patience, age, needs a
// clock that nobody can set: a time of day that jumps by a year must not make every neighbour look dead.

/** Milliseconds that only ever grow, at the pace of real time; comparable within this process alone. */
export function monotonicMs(): number {
  return performance.now()
}
