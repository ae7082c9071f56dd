// GET /v1/doctor for `meshctl doctor`: examines this agent, its host and the ways to the other members now. It works before
// `init` and `join`, too, with the checks that need no mesh. It changes nothing.
import { checkClock } from '../../doctor/clock.ts'
import { checkResponder, checkUpstream } from '../../doctor/dns.ts'
import { checkDrift } from '../../doctor/drift.ts'
import { examine, type Finding } from '../../doctor/finding.ts'
import { checkControl, checkTunnels } from '../../doctor/members.ts'
import { checkDataPlane, checkDisk, checkFaults } from '../../doctor/own-host.ts'
import type { DoctorAnswer } from '../../../api/diagnosis-answers.ts'
import { requireSession } from '../../session/current-session.ts'
import type { AgentState } from '../agent-state.ts'
import type { Body } from '../answer-body.ts'
import type { AdminHandlers } from '../server.ts'

/**
 * Returns the handler. Errors: AppError NOT_JOINED for one check of a mesh. A check that fails is a finding. The checks run side by side, so the answer takes
 * as long as the slowest of them, at most some seconds.
 */
export function doctorRoute(state: AgentState): AdminHandlers['doctor'] {
  return async ({ check }) => {
    // One check alone is for a command of its own (`meshctl drift`), which has nothing to look at before `init` and `join`.
    if (check !== undefined) {
      const { reconciler } = requireSession(state.session)
      return answerOf(await examine({ [check]: () => checkDrift({ reconciler }) }))
    }
    const { session } = state
    const findings = await examine({
      fault: async () => {
        // Without it, a rule that came a moment ago would be named up to 30 s later.
        await session?.paths.examine()
        return checkFaults(state)
      },
      'data-plane': () => checkDataPlane(state),
      disk: () => checkDisk(state),
      ...(session && {
        drift: () => checkDrift(session),
        clock: () => checkClock(session),
        tunnel: () => (state.host === undefined ? Promise.resolve([]) : checkTunnels(session)),
        control: () => checkControl(session),
        dns: () => checkResponder(session),
        'upstream-dns': () => checkUpstream(session)
      })
    })
    return answerOf(findings)
  }
}

/** The verdict is the worst state; a warning may stand before a fault that it may be the cause of. */
function answerOf(findings: readonly Finding[]): Body<DoctorAnswer> {
  const worst = (['fault', 'warning'] as const).find((state) => findings.some((one) => one.state === state))
  return { verdict: worst ?? 'ok', findings }
}
