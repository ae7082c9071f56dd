// Chooses the neighbour that is asked for the state of an origin. A pure function of the candidates, for puller.ts.
import type { Origin } from '../../model/values.ts'
import { comparePositions, type Position } from '../head.ts'

/** A neighbour that claims to hold more of the origin than this agent. */
export interface Candidate {
  readonly peer: Origin
  readonly claim: Position
  /** How often the neighbour has failed to deliver what it claimed (demotions.ts). A lower rank is asked first. */
  readonly rank: number
  /** The time before which it is not asked for this origin again. */
  readonly notBeforeMs: number
  /** Pulls from this neighbour that are under way. */
  readonly pulls: number
  /** True when this neighbour has as many pulls under way as its share allows. */
  readonly isBusy: boolean
}

/**
 * `none`: no neighbour claims a newer state. `busy`: some do, but each has as many pulls under way as its share
 * allows. `notBeforeMs`: each of them has failed, and the first may be asked again at this time.
 */
export type Choice = { readonly peer: Origin } | { readonly notBeforeMs: number } | 'none' | 'busy'

/**
 * The candidate that has failed least; of equal ones the one with the highest claim, because a claim is believed until
 * it has failed; of equal claims, the one with the fewest pulls; of equal ones, the first.
 */
export function choosePeer(candidates: readonly Candidate[], nowMs: number): Choice {
  let best: Candidate | undefined
  let notBeforeMs = Infinity
  for (const candidate of candidates) {
    if (candidate.notBeforeMs > nowMs) notBeforeMs = Math.min(notBeforeMs, candidate.notBeforeMs)
    else if (!candidate.isBusy && (!best || isBetter(candidate, best))) best = candidate
  }
  if (best) return { peer: best.peer }
  if (candidates.length === 0) return 'none'
  return candidates.some((each) => each.notBeforeMs <= nowMs) ? 'busy' : { notBeforeMs }
}

function isBetter(candidate: Candidate, best: Candidate): boolean {
  if (candidate.rank !== best.rank) return candidate.rank < best.rank
  const order = comparePositions(candidate.claim, best.claim)
  return order > 0 || (order === 0 && candidate.pulls < best.pulls)
}
