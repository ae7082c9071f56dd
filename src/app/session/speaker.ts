// Decides which of a cluster's gateways publish its services (docs/decisions/0018). The speaker publishes at once,
// with the term of its Lease. A second gateway stands by: it publishes the same catalogue with the lowest term, up to
// STANDBY_LAG_MS late. When the speaker ends and the standby takes over, it sends only its new term and the latest
// changes. The records of an earlier speaker stay for the same reason. All other gateways publish no services.
import type { Origin } from '../../core/model/values.ts'
import type { AgentView } from '../../core/view/view.ts'

/** The term of the standby gateway. No speaker that holds a Lease uses it. */
export const STANDBY_TERM = 1
/** The lowest term of a speaker that holds a Lease. */
export const SPEAKER_TERM_MIN = STANDBY_TERM + 1
/**
 * How late the copy of the standby may be, in milliseconds: less than the 15 s that a Lease lasts, so that the copy
 * is complete when it is needed; long enough that several changes of one object cost one copy.
 */
export const STANDBY_LAG_MS = 10_000

/**
 * Returns whether this agent, which is not the speaker, stands by: it is the first in order of PeerIds besides the
 * speaker. The speaker is the agent with the highest term above STANDBY_TERM; without one there is no standby.
 * `agents`: all agents of its own cluster, itself among them.
 */
export function standsBy(self: Origin, agents: readonly AgentView[]): boolean {
  const sorted = agents.toSorted((a, b) => (a.origin < b.origin ? -1 : 1))
  const speaker = sorted.reduce<AgentView | undefined>(
    (best, agent) => (termOf(agent) > (best === undefined ? STANDBY_TERM : termOf(best)) ? agent : best),
    undefined
  )
  if (speaker === undefined || speaker.origin === self) return false
  return sorted.find((agent) => agent !== speaker)?.origin === self
}

/**
 * Returns the lowest term in which this agent may speak: above all terms that other agents of this cluster have
 * published, even when the Lease was deleted and its count starts anew.
 */
export function termFloor(self: Origin, agents: readonly AgentView[]): number {
  const others = agents.filter(({ origin }) => origin !== self)
  return Math.max(SPEAKER_TERM_MIN, ...others.map((agent) => termOf(agent) + 1))
}

function termOf({ term }: AgentView): number {
  return term ?? 0
}
