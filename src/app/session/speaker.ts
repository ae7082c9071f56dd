// Who of a cluster's gateways publishes its services. The speaker does, at once, with the term of its Lease. One more stands by: it
// publishes the same with the least term, a little late and conflated. So when the speaker goes, the next one has said all but
// the last seconds already, and its new term and what differs is all that is sent. What an earlier speaker had said stays for the same
// reason. Everyone else publishes nothing.
import type { Origin } from '../../core/model/values.ts'
import type { AgentView } from '../../core/view/view.ts'

/** Of who stands by; nobody leads with it. */
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
