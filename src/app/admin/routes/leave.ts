// POST /v1/leave: withdraws this cluster's records from all members, cleans the host and deletes the membership.
import type { Enrolment } from '../../enrolment/enrolment.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: those of Enrolment.leave. */
export function leaveRoute({
  enrolment
}: {
  readonly enrolment: Pick<Enrolment, 'leave'>
}): AdminHandlers['leave'] {
  return () => enrolment.leave()
}
