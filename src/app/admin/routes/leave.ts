// POST /v1/leave for `meshctl leave`: withdraws this agent's records from all members, cleans the host and deletes the
// membership with its keys. To come back takes a token that has not expired. After a failure the same request
// continues
// with the steps that are not done.
import type { Enrolment } from '../../enrolment/enrolment.ts'
import type { AdminHandlers } from '../server.ts'

/**
 * Returns the handler. It can take more than 30 s: the cleanup of the host alone may take CLEANUP_DEADLINE_MS, since a
 * tool removes each object. Errors: those of Enrolment.leave.
 */
export function leaveRoute({
  enrolment
}: {
  readonly enrolment: Pick<Enrolment, 'leave'>
}): AdminHandlers['leave'] {
  return (request) => enrolment.leave(request)
}
