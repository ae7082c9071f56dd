// The answer of /readyz.
import { faultSentence } from '../observe/health.ts'
import type { AgentState } from './agent-state.ts'

/**
 * Why this agent is not of use; undefined: it is. Ready means that the agent does what it was told to do at this stage: an
 * agent that nothing has told to join a mesh is ready, since it waits for `meshctl init` or `meshctl join`.
 */
export function notReady({
  session,
  source,
  joining,
  isToldToJoin,
  health
}: Pick<AgentState, 'session' | 'source' | 'joining' | 'isToldToJoin' | 'health'>): string | undefined {
  const [worst] = health.faults()
  if (worst?.severity === 'critical') return faultSentence(worst)
  if (joining) return 'this cluster is joining the mesh: no member has accepted it yet'
  if (session === undefined)
    return isToldToJoin ? 'this cluster has not joined the mesh of its token yet' : undefined
  if (!source.whole) return 'the services of this cluster have not been read yet'
  if (session.reconciler !== undefined && session.reconciler.last === undefined)
    return 'the host has not been programmed yet'
  return undefined
}
