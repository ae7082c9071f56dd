// POST /v1/drain and /v1/undrain for the commands of the same names, and GET /v1/hand-over, with which `meshctl drain` waits.
// A drain answers at once: how long it takes depends on the hosts that have to move.
import type { HandOverAnswer } from '../../../api/hand-over-answer.ts'
import { haveMoved } from '../../../core/host/hand-over.ts'
import { requireSession } from '../../session/current-session.ts'
import type { Session } from '../../session/session.ts'
import type { AgentState } from '../agent-state.ts'
import type { Body } from '../answer-body.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handlers. Errors: AppError NOT_JOINED, NOT_A_GATEWAY, ONLY_GATEWAY. */
export function drainRoutes(
  state: Pick<AgentState, 'session' | 'settings'>
): Pick<AdminHandlers, 'handOver' | 'drain' | 'undrain'> {
  const answer = (session: Session): Body<HandOverAnswer> => answerOf(session, state.settings['node-name'])
  return {
    handOver: async () => answer(requireSession(state.session)),
    drain: async ({ force }) => {
      const session = requireSession(state.session)
      await session.ownRecord.handOver.drain({ force })
      return answer(session)
    },
    undrain: async () => {
      const session = requireSession(state.session)
      await session.ownRecord.handOver.undrain()
      return answer(session)
    }
  }
}

/**
 * `takers` are the live gateways of the cluster that take over, and `moves` the hosts that have this gateway as theirs, each with whether
 * its kernel has moved. Both are as of now; the answer has no time, since the next request reads them again.
 */
function answerOf({ control, ownRecord }: Session, node: string): Body<HandOverAnswer> {
  const { state, takers, moves } = ownRecord.handOver.progress()
  return {
    state: state ?? 'active',
    cluster: control.view().self,
    node,
    takers: takers.map(({ agent }) => agent.node),
    hosts: (state === undefined ? [] : moves).map(({ cluster, agent: { origin, agent }, state: move }) => ({
      cluster,
      node: agent.node,
      peerId: origin,
      version: agent.version,
      state: move
    })),
    moved: state !== undefined && haveMoved(moves)
  }
}
