// The answer of `init` and `join`, and the warnings that it may have.
import type { JoinedAnswer } from '../../api/answers.ts'
import { publicNameWarning } from '../../core/dns/public-names.ts'
import { meshIdText } from '../../core/model/identity.ts'
import type { Log } from '../observe/log.ts'
import type { AgentState } from './agent-state.ts'
import type { Body } from './answer-body.ts'

/** Of an agent that is in a mesh. */
export function joinedAnswer({
  session,
  membership
}: Pick<AgentState, 'session' | 'membership'>): Body<JoinedAnswer> {
  if (session === undefined || membership === undefined) throw new Error('not joined')
  return {
    cluster: membership.cluster,
    meshId: meshIdText(membership.meshId),
    peerId: session.control.origin,
    podCidrs: membership.podPrefixes,
    serviceCidrs: membership.servicePrefixes,
    members: [...session.control.view().clusters.keys()]
  }
}

/** Also logged: a name that the public DNS has, too. */
export function nameWarnings(cluster: string, log: Pick<Log, 'warn'>): readonly string[] {
  const warning = publicNameWarning(cluster)
  if (warning === undefined) return []
  log.warn({ cluster }, warning)
  return [warning]
}

/** The field `warnings` is left out when there are none. */
export function warningsOf(warnings: readonly string[]): { readonly warnings?: readonly string[] } {
  return warnings.length === 0 ? {} : { warnings }
}
