// POST /v1/leave: withdraws this cluster's records everywhere, cleans the host, forgets the mesh.
import type { Enrolment } from '../../enrolment/enrolment.ts'
import type { AdminHandlers } from '../server.ts'

export function leaveRoute({
  enrolment
}: {
  readonly enrolment: Pick<Enrolment, 'leave'>
}): AdminHandlers['leave'] {
  return () => enrolment.leave()
}
