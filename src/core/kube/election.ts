// Leader election over a Kubernetes Lease, with the rules of client-go. Each call is one decision, without clock or
// network: src/io/kube/lease.ts reads and writes the Lease and passes the time. The leader is the speaker of its
// cluster, the one agent that publishes the catalogue.
// Invariants
//   1. Two clocks are never compared. A candidate measures on its own clock for how long it has seen the Lease
//      unchanged; the times written in the Lease are for people.
//   2. The leader steps down `renewDeadlineMs` after its last successful renewal, counted from before that request
//      was sent. Others wait `leaseDurationMs` from when they saw it. The first time is shorter, so two agents never
//      lead at once.
//   3. The term never falls, not even when the Lease is deleted: see `termFloor`.
// Source: k8s.io/client-go/tools/leaderelection; coordination.k8s.io/v1 Lease.

/**
 * Times in milliseconds, with retryMs < renewDeadlineMs < leaseDurationMs: when others may take the Lease, when the
 * leader steps down without a renewal, and the pause between attempts.
 */
export interface ElectionTimes {
  readonly leaseDurationMs: number
  readonly renewDeadlineMs: number
  readonly retryMs: number
}

/** The defaults of client-go: 15 s, 10 s and 2 s. */
export const ELECTION_TIMES: ElectionTimes = {
  leaseDurationMs: 15_000,
  renewDeadlineMs: 10_000,
  retryMs: 2000
}

/** The fields of a Lease that the election uses. */
export interface LeaseSpec {
  /** The identity of the leader; '' when the leader gave the Lease back. */
  readonly holder: string
  readonly durationMs: number
  /** The field leaseTransitions: how often the Lease has changed its holder. */
  readonly term: number
}

/**
 * A Lease as this agent last saw it. `version` is its resourceVersion; `sinceMs` is the time on this agent's clock
 * when it first saw that version.
 */
export interface Observed {
  readonly version: string
  readonly spec: LeaseSpec
  readonly sinceMs: number
}

/** What a candidate does next. `write` with `version` undefined creates the Lease. */
type Bid =
  | { readonly kind: 'wait' }
  | { readonly kind: 'write'; readonly version: string | undefined; readonly spec: LeaseSpec }

/**
 * Takes in a Lease that was read or written. `sinceMs` stays when the version is the same, and is `nowMs` otherwise.
 */
export function observe(
  before: Observed | undefined,
  lease: { readonly version: string; readonly spec: LeaseSpec },
  nowMs: number
): Observed {
  return before?.version === lease.version ? before : { ...lease, sinceMs: nowMs }
}

/**
 * The next step of the candidate `self`. `observed` undefined: there is no Lease. `termFloor` is the lowest term that
 * it may lead with, above the terms that other agents of the cluster have published.
 */
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
  // The Lease is held by this agent, or by an earlier process of the same agent. That process has ended, because an
  // identity runs only once.
  if (spec.holder === holder) {
    return { kind: 'write', version, spec: { holder, durationMs, term: Math.max(spec.term, termFloor) } }
  }
  if (spec.holder !== '' && nowMs < sinceMs + spec.durationMs) return { kind: 'wait' }
  return { kind: 'write', version, spec: { holder, durationMs, term: Math.max(spec.term + 1, termFloor) } }
}
