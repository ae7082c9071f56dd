// The addresses of a target at which no peer was authenticated yet. A member chooses its addresses freely, so each of
// them may be that of a third party: it gets one SYN at a time, within the budget of its cluster
// (core/model/dial-budget.ts), and libp2p, which repeats SYNs and tries the address next, dials it only after it has
// answered.
import type { Origin } from '../../core/model/values.ts'
import { firstReachable, hostPortOf, ONE_SYN_MS, oneSynDeadlineMs } from './reach.ts'

/** A peer to keep a connection to. */
export interface Target {
  /** Undefined for a bootstrap address without a PeerId: any peer that answers there is accepted. */
  readonly origin?: Origin | undefined
  /** Multiaddrs, best first; each may end in /p2p/<PeerId>. */
  readonly addresses: readonly string[]
  /**
   * The cluster that published the addresses. Its addresses share one budget (core/model/dial-budget.ts), because each
   * may be that of a third party. Undefined: the operator or a token named the addresses, and there is no bound.
   */
  readonly group?: string | undefined
  /** Hosts, such as "203.0.113.7", at which the peer was authenticated: their addresses need no budget. */
  readonly proven?: readonly string[]
}

/** Something answered at an unproven address, and it is not the peer. */
export class ImpostorError extends Error {
  override readonly name = 'ImpostorError'
}

/** Returns the addresses of a target that need a budget. */
export function unprovenOf({ group, addresses, proven = [] }: Target): readonly string[] {
  return group === undefined
    ? []
    : addresses.filter((address) => !proven.includes(hostPortOf(address)?.host ?? ''))
}

/**
 * Returns the proven addresses of a target, and in front of them the first of the others that answers one SYN. Rejects
 * when there is neither.
 */
export async function answering(target: Target, signal: AbortSignal): Promise<readonly string[]> {
  const unproven = unprovenOf(target)
  const deadlineMs = oneSynDeadlineMs(unproven.length)
  const first = await firstReachable(unproven, { deadlineMs, attemptMs: ONE_SYN_MS, signal })
  const proven = target.addresses.filter((address) => !unproven.includes(address))
  const addresses = [...(first === undefined ? [] : [first]), ...proven]
  if (addresses.length === 0) throw new Error('no address answers')
  return addresses
}

/** Passes the dial on. When it fails at an unproven address, which must have answered before, it is an ImpostorError. */
export async function orImpostor<T>(dial: Promise<T>, target: Target, signal: AbortSignal): Promise<T> {
  try {
    return await dial
  } catch (error) {
    if (unprovenOf(target).length === 0 || signal.aborted) throw error
    throw new ImpostorError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}
