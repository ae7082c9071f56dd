// Round trips that do not flap. A measured round trip wanders, and `nearest` must not move connections for it: a value
// counts as changed only when it differed from the steady one by CHANGE_MIN for SETTLE_MS without a break.
//
//   measured   10 ──── 13 ─ 10 ──── 14 ────────────────→
//   steady     10 ───────────────────────┼── 14 ───────→      (from 13: too short; from 14: SETTLE_MS)
import type { ClusterName } from '../model/values.ts'

/** A fifth: less is noise on a wide-area path. */
const CHANGE_MIN = 0.2
const SETTLE_MS = 5000
/** Below this difference in milliseconds two round trips are equal: within one site, a fifth is nothing. */
const DIFFERENCE_MIN_MS = 0.5

/** The steady round trip to one cluster. */
interface SteadyRtt {
  readonly rttMs: number
  /** Since when the measured value differs; undefined: it does not. */
  readonly differsSinceMs: number | undefined
}

export type SteadyRtts = ReadonlyMap<ClusterName, SteadyRtt>

/**
 * Returns the steady round trips after one measurement. A cluster without a measured value keeps its steady one while it
 * is in `measured`, and is forgotten with it.
 */
export function steadyRtts(
  before: SteadyRtts,
  measured: ReadonlyMap<ClusterName, number | undefined>,
  nowMs: number
): SteadyRtts {
  const after = new Map<ClusterName, SteadyRtt>()
  for (const [cluster, rttMs] of measured) {
    const known = before.get(cluster)
    if (known === undefined) {
      if (rttMs !== undefined) after.set(cluster, { rttMs, differsSinceMs: undefined })
      continue
    }
    after.set(cluster, rttMs === undefined ? known : next(known, rttMs, nowMs))
  }
  return after
}

function next(known: SteadyRtt, rttMs: number, nowMs: number): SteadyRtt {
  const difference = Math.abs(rttMs - known.rttMs)
  if (difference < Math.max(DIFFERENCE_MIN_MS, known.rttMs * CHANGE_MIN))
    return { rttMs: known.rttMs, differsSinceMs: undefined }
  const sinceMs = known.differsSinceMs ?? nowMs
  return nowMs - sinceMs >= SETTLE_MS
    ? { rttMs, differsSinceMs: undefined }
    : { rttMs: known.rttMs, differsSinceMs: sinceMs }
}
