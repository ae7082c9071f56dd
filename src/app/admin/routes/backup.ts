// POST /v1/backup/create and POST /v1/backup/restore for `meshctl backup`. The answer of `create` is the file, which
// meshctl writes, because the file belongs to the operator and often lies on a disk that meshd, as a service, cannot see.
import type { BackupAnswer } from '../../../api/membership-answers.ts'
import type { Enrolment } from '../../enrolment/enrolment.ts'
import type { AgentState } from '../agent-state.ts'
import type { Body } from '../answer-body.ts'
import { joinedAnswer, warningsOf } from '../joined-answer.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handlers. Errors: those of `createBackup` and of Enrolment.restore. */
export function backupRoutes({
  state,
  enrolment,
  createBackup
}: {
  readonly state: AgentState
  readonly enrolment: Pick<Enrolment, 'restore'>
  readonly createBackup: (request: { readonly passphrase: string }) => Promise<Body<BackupAnswer>>
}): Pick<AdminHandlers, 'backupCreate' | 'backupRestore'> {
  return {
    backupCreate: createBackup,
    backupRestore: async (request) => {
      const { header, reached, refused } = await enrolment.restore(request)
      return {
        ...joinedAnswer(state),
        made: header.made,
        formerPeerId: header.peerId,
        reached,
        ...warningsOf(refused === undefined ? [] : [`${refused.message}; ${refused.fix}`])
      }
    }
  }
}
