// Chooses the neighbour that is asked for the state of an origin. A pure function of the candidates, for puller.ts.
import type { Origin } from '../../model/values.ts'
import { comparePositions, type Position } from '../head.ts'

/** A neighbour that claims to hold more of the origin than this agent. */
export interface Candidate {
  readonly peer: Origin
  readonly claim: Position
  /** Pulls from this neighbour that are under way. */
  readonly pulls: number
  /** True when this neighbour has as many pulls under way as its share allows. */
  readonly isBusy: boolean
}

/**
 * `none`: no neighbour claims a newer state. `busy`: some do, but each has as many pulls under way as its share
 * allows.
 */
export type Choice = { readonly peer: Origin } | 'none' | 'busy'

/**
 * The candidate with the highest claim; of equal claims, the one with the fewest pulls; of equal ones, the first. The
 * neighbour to avoid, whose last answer failed, is chosen only when there is no other.
 */
export function choosePeer(candidates: readonly Candidate[], avoid: Origin | undefined): Choice {
  let best: Candidate | undefined
  for (const candidate of candidates) {
    if (candidate.isBusy) continue
    if (!best || isBetter(candidate, best, avoid)) best = candidate
  }
  if (best) return { peer: best.peer }
  return candidates.length > 0 ? 'busy' : 'none'
}

function isBetter(candidate: Candidate, best: Candidate, avoid: Origin | undefined): boolean {
  if (best.peer === avoid) return true
  if (candidate.peer === avoid) return false
  const order = comparePositions(candidate.claim, best.claim)
  return order > 0 || (order === 0 && candidate.pulls < best.pulls)
}
