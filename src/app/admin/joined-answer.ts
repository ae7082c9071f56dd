// The answer of `init` and `join`, and the warnings that `init` and `invite` add to theirs.
import type { JoinedAnswer } from '../../api/membership-answers.ts'
import { publicNameWarning } from '../../core/dns/public-names.ts'
import { meshIdText } from '../../core/model/identity.ts'
import type { Log } from '../observe/log.ts'
import type { AgentState } from './agent-state.ts'
import type { Body } from './answer-body.ts'
import { translatedField } from './translated-field.ts'

/**
 * Returns the answer for an agent that is in a mesh. Called after a successful init or join. It throws a plain Error
 * when the agent is in none, which is a fault of the program.
 */
export function joinedAnswer({
  session,
  membership
}: Pick<AgentState, 'session' | 'membership'>): Body<JoinedAnswer> {
  if (session === undefined || membership === undefined) throw new Error('not joined')
  return {
    cluster: membership.cluster,
    meshId: meshIdText(membership.roots.meshId),
    peerId: session.control.origin,
    podCidrs: membership.podPrefixes,
    serviceCidrs: membership.servicePrefixes,
    ...translatedField(membership.translation),
    members: [...session.control.view().clusters.keys()]
  }
}

/**
 * Returns and logs a warning when `cluster` is a top-level domain of the public DNS, since names below
 * `cluster.<cluster>` then hide those of the public DNS; else returns [].
 */
export function nameWarnings(cluster: string, log: Pick<Log, 'warn'>): readonly string[] {
  const warning = publicNameWarning(cluster)
  if (warning === undefined) return []
  log.warn({ cluster }, warning)
  return [warning]
}

/** Returns an object with the field `warnings`, or without it when the list is empty. */
export function warningsOf(warnings: readonly string[]): { readonly warnings?: readonly string[] } {
  return warnings.length === 0 ? {} : { warnings }
}
