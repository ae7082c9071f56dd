// Decides whether /readyz answers 200 or 503. Kubernetes then counts the pod as ready or not. Pure: agent/agent.ts
// updates the registry of health before each call.
import { faultSentence } from '../observe/health.ts'
import type { AgentState } from './agent-state.ts'

/**
 * Returns why this agent is not ready, as one sentence, or undefined when it is ready. An agent is ready when it does
 * what it was told to do so far: an agent without a token in a file and without the setting init is ready while it waits
 * for `meshctl init` or `meshctl join`. A member is not ready before its session has started and the first pass over the host has ended, so
 * that a rolling update goes on to the next node only then. Faults below `critical` do not count, because one part that
 * fails is no reason to take all others out of service.
 */
export function notReady({
  session,
  source,
  joining,
  isMember,
  isLeaving,
  isToldToJoin,
  health
}: Pick<
  AgentState,
  'session' | 'source' | 'joining' | 'isMember' | 'isLeaving' | 'isToldToJoin' | 'health'
>): string | undefined {
  const [worst] = health.faults()
  if (worst?.severity === 'critical') return faultSentence(worst)
  if (joining) return 'this cluster is joining the mesh: no member has accepted it yet'
  if (isLeaving) return 'this cluster leaves the mesh; `meshctl leave` again finishes a leave that failed'
  if (session === undefined && isMember) return 'the session of this agent has not started yet'
  if (session === undefined)
    return isToldToJoin
      ? 'this cluster has not joined the mesh of its token, or founded that of the setting init, yet'
      : undefined
  if (!source.whole) return 'the services of this cluster have not been read yet'
  if (session.reconciler !== undefined && session.reconciler.last === undefined)
    return 'the host has not been programmed yet'
  return undefined
}
