// What a neighbour says it holds of one origin, compared with the head that is held here.
import { checkOf, comparePositions, NOWHERE, type Head, type Position } from '../head.ts'

export interface Claim extends Position {
  /** First four bytes of the state hash; 0 when it was not said. */
  readonly check: number
}

export function claimOf(head: Head): Claim {
  return { epoch: head.epoch, seq: head.seq, check: checkOf(head) }
}

export function isSameState(claim: Claim, head: Head | undefined): boolean {
  return !!head && comparePositions(claim, head) === 0 && claim.check === checkOf(head)
}

/** The claim is of a later position than the head, or of another state at the same position. */
export function isWorthPulling(claim: Claim, head: Head | undefined): boolean {
  const order = comparePositions(claim, head ?? NOWHERE)
  return order > 0 || (order === 0 && claim.check !== 0 && !!head && claim.check !== checkOf(head))
}
