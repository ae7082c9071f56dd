// Leader election over a Lease, as client-go does it: one decision at a time, without clock or network.
// Invariants
//   1. No two clocks are ever compared. A lease is judged by how long *we* have seen it unchanged, on our own clock; the
//      times written in it are for people.
//   2. Who leads stops at `renewDeadlineMs` after the last renewal that it knows of, counted from before that request left,
//      and others wait `leaseDurationMs` from when they saw it: since the first is shorter, no two lead at once.
//   3. The term never falls, not even when the Lease is deleted: see `termFloor`.
// Source: k8s.io/client-go/tools/leaderelection; coordination.k8s.io/v1 Lease.

export interface ElectionTimes {
  readonly leaseDurationMs: number
  readonly renewDeadlineMs: number
  readonly retryMs: number
}

/** client-go's defaults. */
export const ELECTION_TIMES: ElectionTimes = {
  leaseDurationMs: 15_000,
  renewDeadlineMs: 10_000,
  retryMs: 2000
}

/** What a Lease says. */
export interface LeaseSpec {
  /** '' when it was given back. */
  readonly holder: string
  readonly durationMs: number
  /** leaseTransitions. */
  readonly term: number
}

/** A Lease and since when we have seen it as it is. */
export interface Observed {
  readonly version: string
  readonly spec: LeaseSpec
  readonly sinceMs: number
}

type Bid =
  | { readonly kind: 'wait' }
  /** Write this. `version` undefined: create it. */
  | { readonly kind: 'write'; readonly version: string | undefined; readonly spec: LeaseSpec }

/** Keeps `sinceMs` for a Lease that did not change. */
export function observe(
  before: Observed | undefined,
  lease: { readonly version: string; readonly spec: LeaseSpec },
  nowMs: number
): Observed {
  return before?.version === lease.version ? before : { ...lease, sinceMs: nowMs }
}

/** What to do about the Lease; undefined: there is none. `termFloor`: the least term to lead with. */
export function bid(
  observed: Observed | undefined,
  self: { readonly holder: string; readonly times: ElectionTimes; readonly termFloor: number },
  nowMs: number
): Bid {
  const { holder, times, termFloor } = self
  const durationMs = times.leaseDurationMs
  if (observed === undefined) {
    return { kind: 'write', version: undefined, spec: { holder, durationMs, term: termFloor } }
  }
  const { spec, version, sinceMs } = observed
  // An instance of ours that ran before us: it is gone, for an identity runs once.
  if (spec.holder === holder) {
    return { kind: 'write', version, spec: { holder, durationMs, term: Math.max(spec.term, termFloor) } }
  }
  if (spec.holder !== '' && nowMs < sinceMs + spec.durationMs) return { kind: 'wait' }
  return { kind: 'write', version, spec: { holder, durationMs, term: Math.max(spec.term + 1, termFloor) } }
}
