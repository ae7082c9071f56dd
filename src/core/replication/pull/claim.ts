// Claims: what a neighbour says that it holds of one origin, compared with the head that is held here. A claim is not
// signed, so it only decides what is pulled (S3 of protocol.ts).
import { checkOf, comparePositions, NOWHERE, type Head, type Position } from '../head.ts'

/** A position that a neighbour claims to hold. */
export interface Claim extends Position {
  /** The first four bytes of the state hash; 0 when the neighbour did not send them. */
  readonly check: number
}

/** Returns the claim that a signed head stands for: the neighbour that sent it holds its state. */
export function claimOf(head: Head): Claim {
  return { epoch: head.epoch, seq: head.seq, check: checkOf(head) }
}

/** True when the claim is of the state that is held here. */
export function isSameState(claim: Claim, head: Head | undefined): boolean {
  return !!head && comparePositions(claim, head) === 0 && claim.check === checkOf(head)
}

/**
 * True when the claim is of a later position than the head, or of another state at the same position. In the second
 * case the origin has equivocated, if the claim is true; the pull brings the other head, which is the proof.
 */
export function isWorthPulling(claim: Claim, head: Head | undefined): boolean {
  const order = comparePositions(claim, head ?? NOWHERE)
  return order > 0 || (order === 0 && claim.check !== 0 && !!head && claim.check !== checkOf(head))
}
