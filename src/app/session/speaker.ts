// Decides which of a cluster's gateways publish its services. The speaker publishes at once, with the term of its Lease. A second gateway
// stands by: it publishes the same catalogue with the lowest term, up to STANDBY_LAG_MS late. When the speaker ends and the standby takes
// over, it sends only its new term and the latest changes. The records of an earlier speaker stay for the same reason. All other
// gateways publish no services.
import type { Origin } from '../../core/model/values.ts'
import type { AgentView } from '../../core/view/view.ts'

/** The term of the standby gateway. No speaker uses it. */
export const STANDBY_TERM = 1
export const SPEAKER_TERM_MIN = STANDBY_TERM + 1
/** Less than a Lease lasts, so that a copy is whole when it is needed; long enough that churn costs the mesh little twice. */
export const STANDBY_LAG_MS = 10_000

/**
 * Whether this agent, which does not speak, is to stand by: the first in order of PeerIds beside the speaker, which is the one with the
 * highest term. `agents`: all of its own cluster, itself among them. Never alone: then there is nobody to stand by for.
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

/** The least term to speak with: above all that others of this cluster have said, even when the Lease is lost. */
export function termFloor(self: Origin, agents: readonly AgentView[]): number {
  const others = agents.filter(({ origin }) => origin !== self)
  return Math.max(SPEAKER_TERM_MIN, ...others.map((agent) => termOf(agent) + 1))
}

function termOf({ term }: AgentView): number {
  return term ?? 0
}
